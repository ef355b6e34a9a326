package cli

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/urfave/cli/v2"

	"phoenix/bridge/api"
	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/sqlite"
	"phoenix/bridge/service"
)

// Each file in testdata/script is a session of an administrator on a master: what
// is typed, and what is printed. Times, and the session's own folder, are printed
// as constants. "go test -run TestScripts -update" writes what is printed into the
// files.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           filepath.Join("testdata", "script"),
		UpdateScripts: *update,
		Setup:         setUp,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exit": exitsWith, "seed": seed, "bridge": fakeBridge, "damage": damage,
		},
	})
}

var update = flag.Bool("update", false, "write the output of the scripts into them")

// program is phoenix as the scripts run it: a process of its own.
func program() {
	var out, errs bytes.Buffer
	code := run(context.Background(), os.Args, &out, &errs)
	fmt.Print(constant(out.String()))
	fmt.Fprint(os.Stderr, constant(errs.String()))
	os.Exit(code)
}

var (
	timestamp = regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`)
	datetime  = regexp.MustCompile(`\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\b`)
	monthday  = regexp.MustCompile(`\b\d\d-\d\d \d\d:\d\d:\d\d\b`)
	fraction  = regexp.MustCompile(`\b01-01 00:00:00\.\d{3}\b`)
	ago       = regexp.MustCompile(`\b\d[0-9.dhmsµ]* ago\b`)
	up        = regexp.MustCompile(`\bup [0-9.hmµ]+s\b`)
)

// constant replaces what differs from run to run. A time keeps its width: tables
// stay as they are.
func constant(text string) string {
	text = strings.ReplaceAll(text, os.Getenv("WORK"), "$WORK")
	if u, err := user.Current(); err == nil {
		text = strings.ReplaceAll(text, "user "+u.Username+",", "user root,")
	}
	text = timestamp.ReplaceAllStringFunc(text, func(s string) string {
		return "2026-01-01T00:00:00.000000000000Z"[:len(s)-1] + "Z"
	})
	text = datetime.ReplaceAllString(text, "2026-01-01 00:00:00")
	text = monthday.ReplaceAllString(text, "01-01 00:00:00")
	text = fraction.ReplaceAllString(text, "01-01 00:00:00.000")
	return up.ReplaceAllString(ago.ReplaceAllString(text, "1s ago"), "up 1s")
}

// Public keys of two minions, the same in each run.
const (
	keyA = `-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDAlqj53KOVX9tc8ivnog9WpBts
Jgmo+T5vZnYzl+9GbFNGVo2h2ciqaYMsOGHmAeM1Y6awba/e8SVVnBzOFsMBGG8Y
lGiWkw6bVlqQSs1XYN4HWM0e/ireusdVBi5IgkuqMHD0r/8+MWSQH3HU85C4wGQx
AAaSrQSLYR9NesW5bQIDAQAB
-----END PUBLIC KEY-----
`
	keyB = `-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCxOCS5+JlW/Ri50hwn5VeMqcQB
tCfXDe5T7Q2GX8m0BUkiPywZ8VDQAiirGHVik9DHnKH2FLQ8jVrJ9aAAxerj8yzA
dN8EH3xDUDDhcfVgl+UmzVhVyhMFmZhTJwoii/3QNvuXAnlYpMIz4onBD8eXiH6p
rp8fuHGeg2jyNrLqaQIDAQAB
-----END PUBLIC KEY-----
`
)

// setUp makes the folder of a session: the configuration of Phoenix and of a master
// that does not run, and keys of minions.
func setUp(env *testscript.Env) error {
	u, err := user.Current()
	if err != nil {
		return err
	}
	files := map[string]string{
		"a.pub": keyA, "b.pub": keyB,
		// A session on a busy machine is longer than the default lease of 30 s, and no master
		// beats meanwhile.
		"phoenix.yaml": "store: sqlite:fleet.db\nsalt_config: master\nsocket: bridge.sock\ninstance_id: salt-1\naddress: 10.0.0.1\n" +
			"highstate: {lease: 1h}\n",
		"master": fmt.Sprintf("user: %s\nid: salt-1\nroot_dir: %s\npki_dir: pki\nret_port: 1\n",
			u.Username, env.WorkDir),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(env.WorkDir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	for _, state := range []string{"minions", "minions_pre", "minions_rejected", "minions_denied"} {
		if err := os.MkdirAll(filepath.Join(env.WorkDir, "pki", state), 0o700); err != nil {
			return err
		}
	}
	env.Setenv("PHOENIX_CONFIG", "phoenix.yaml")
	env.Setenv("TZ", "UTC")
	env.Setenv("SUDO_USER", "alice")
	env.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	env.Setenv("AWS_CONFIG_FILE", os.DevNull)
	env.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	return nil
}

// exitsWith runs a program that must end with an exit code: exit 2 phoenix status.
func exitsWith(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exit CODE PROGRAM ARGUMENT…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exited, ok := errors.AsType[*exec.ExitError](err); ok {
		got, err = exited.ExitCode(), nil
	}
	ts.Check(err)
	if got != want {
		ts.Fatalf("exit code %d, not %d", got, want)
	}
}

// seed fills the store, one row a line; see seeds.
func seed(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: seed FILE")
	}
	store, err := sqlite.Open(context.Background(), ts.MkAbs("fleet.db"))
	ts.Check(err)
	defer store.Close()
	lines := bufio.NewScanner(strings.NewReader(ts.ReadFile(args[0])))
	for lines.Scan() {
		if words := strings.Fields(lines.Text()); len(words) > 0 {
			if err := seedRow(ts, store, words); err != nil {
				ts.Fatalf("%s: %v", lines.Text(), err)
			}
		}
	}
}

func seedRow(ts *testscript.TestScript, store fleet.Store, words []string) error {
	ctx, id, more := context.Background(), words[1], words[2:]
	apply := func(changes ...fleet.Change) error {
		for _, c := range changes {
			if _, err := fleet.ApplyOne(ctx, store, c); err != nil {
				return err
			}
		}
		return nil
	}
	claim := fleet.Claim{InstanceID: id, Owner: "salt-1", Incarnation: "1", JID: "20260101000000000001", Attempt: 1}
	switch words[0] {
	case "master": // ID ADDRESS
		_, err := store.Beat(ctx, fleet.Beat{InstanceID: id, IPAddr: more[0], Incarnation: "1", Ready: true,
			Zone: "eu-west-1a"})
		return err
	case "serving": // ID ADDRESS CONNECTED MINIONS
		connected, err := strconv.Atoi(more[1])
		if err != nil {
			return err
		}
		minions, err := strconv.Atoi(more[2])
		if err != nil {
			return err
		}
		_, err = store.Beat(ctx, fleet.Beat{InstanceID: id, IPAddr: more[0], Incarnation: "1", Ready: true,
			Zone: "eu-west-1a", Connected: connected, Minions: minions})
		return err
	case "down": // ID ADDRESS
		_, err := store.Beat(ctx, fleet.Beat{InstanceID: id, IPAddr: more[0], Incarnation: "1", Connected: 4})
		return err
	case "drained": // ID
		return store.DrainMaster(ctx, id, true)
	case "listed": // ID
		return apply(fleet.Add{InstanceID: id, MinionID: id})
	case "bound": // ID FILE
		text := ts.ReadFile(more[0])
		digest, err := fleet.KeyDigest([]byte(text))
		if err != nil {
			return err
		}
		return apply(fleet.Add{InstanceID: id, MinionID: id},
			fleet.Bind{InstanceID: id, MinionID: id, KeySHA256: digest, PublicKey: text})
	case "adopted": // ID FILE
		digest, err := fleet.KeyDigest([]byte(ts.ReadFile(more[0])))
		if err != nil {
			return err
		}
		return apply(fleet.Adopt{InstanceID: id, MinionID: id, KeySHA256: digest, PublicKey: ts.ReadFile(more[0])})
	case "running": // ID
		return apply(fleet.Add{InstanceID: id, MinionID: id}, claim)
	case "ran": // ID
		return apply(fleet.Add{InstanceID: id, MinionID: id}, claim,
			fleet.Finish{InstanceID: id, JID: claim.JID, Outcome: fleet.Succeeded})
	case "failed": // ID
		return apply(fleet.Add{InstanceID: id, MinionID: id}, claim,
			fleet.Finish{InstanceID: id, JID: claim.JID, Outcome: fleet.Erred, Retcode: 2})
	case "breaker": // MASTER ID…: opened by the failures of these
		breakers := fleet.BreakersOf(store)
		b, err := breakers.LastBreaker(ctx)
		if err != nil {
			return err
		}
		var results []fleet.BreakerResult
		for _, id := range more {
			results = append(results, fleet.BreakerResult{InstanceID: id, JID: claim.JID, Failed: true})
		}
		next, _ := decide.Breaker{Failed: len(more), Last: len(more) + 1}.Record(b, results, id, time.Now())
		_, _, err = breakers.WriteBreaker(ctx, next)
		return err
	case "terminated": // ID
		return apply(fleet.Retire{InstanceID: id})
	}
	return fmt.Errorf("no such row")
}

// damage makes a row that cannot be decoded: damage minions ID.
func damage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: damage TABLE ID")
	}
	column := map[string]string{"minions": `"group"`, "masters": "zone"}[args[0]]
	ts.Check(withDatabase(ts.MkAbs("fleet.db"), fmt.Sprintf(`UPDATE %s SET %s = 'spoilt' WHERE instanceid = ?`, args[0],
		column), args[1]))
}

// fakeBridge answers on the socket as a bridge does whose report is in a file, and
// that holds back the terminations of the ids. It stands for a bridge with a master;
// package lab's end-to-end tests have real ones.
func fakeBridge(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: bridge REPORT ID…")
	}
	var report service.Report
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &report))
	l, err := api.Listen(ts.MkAbs("bridge.sock"), -1)
	ts.Check(err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- api.Serve(ctx, l, api.Bridge{
			Invalidate: func([]string) {}, Restore: func([]string) {}, Status: statusOf(report),
			Release: func(context.Context) ([]string, error) { return args[1:], nil },
		})
	}()
	ts.Defer(func() {
		stop()
		<-done
	})
}

func withDatabase(path, statement string, args ...any) error {
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return err
	}
	_, err = db.Exec(statement, args...)
	return errors.Join(err, db.Close())
}

// Each command and each exit code is in a script.
func TestScriptsCoverCommands(t *testing.T) {
	elsewhere := map[int]string{
		exitDenied:  "root, whom tests may run as, is allowed everything: TestFaultsOfDynamoDB",
		exitRootKey: "it needs a master that refuses: bridge/salt's tests with real ones",
	}
	paths, err := filepath.Glob(filepath.Join("testdata", "script", "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	var walk func(name string, commands []*cli.Command)
	walk = func(name string, commands []*cli.Command) {
		for _, c := range commands {
			name := name + " " + c.Name
			if walk(name, c.Subcommands); len(c.Subcommands) == 0 && !c.Hidden &&
				!strings.Contains(all.String(), name) {
				t.Errorf("no script has %q", name)
			}
		}
	}
	walk("phoenix", newApp(io.Discard, io.Discard).Commands)
	for _, c := range exitCodes {
		if c.code != exitOK && elsewhere[c.code] == "" &&
			!strings.Contains(all.String(), fmt.Sprintf("\nexit %d phoenix", c.code)) {
			t.Errorf("no script ends with exit code %d", c.code)
		}
	}
}
