package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"phoenix/bridge/salt"
	"phoenix/lab/needs"
)

var (
	oldList = NewList(master("i-a", "10.0.0.1"), master("i-b", "10.0.0.2"))
	newList = NewList(master("i-b", "10.0.0.2"), master("i-c", "fd00::3"))
)

func master(id, address string) Master { return Master{InstanceID: id, Address: address} }

// others are the operator's files, which nobody but the operator changes.
var others = map[string]string{
	"minion":                      "# by hand\nmaster: &m salt.example.org\nid: web-1 # a comment\nx: *m\n",
	"minion.d/10-site.conf":       "grains: {role: web}\n",
	"minion.d/99-phoenix.conf~":   "master: [backup]\n",
	"minion.d/zz-last.conf":       "log_level: info\n",
	"minion.d/_schedule.conf":     "schedule:\n  daily:\n    function: test.ping\n    days: 1\n",
	"minion.d/.hidden":            "x",
	"minion.d/sub/99-phoenix.txt": "y",
}

// newTree makes a minion's configuration, with drop-in as step allows.
func newTree(t testing.TB) (d *DropIn, check func()) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range others {
		put(t, filepath.Join(dir, name), text)
	}
	c, err := salt.ReadMinionConfig(filepath.Join(dir, "minion"))
	if err != nil {
		t.Fatal(err)
	}
	return NewDropIn(c), func() {
		t.Helper()
		for name, text := range others {
			if got := get(t, filepath.Join(dir, name)); got != text {
				t.Errorf("%s is %q now", name, got)
			}
		}
	}
}

func put(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// get returns a file's text; empty if there is none.
func get(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}

func rendered(t testing.TB, l List) string {
	t.Helper()
	text, err := render(l, Ports{})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// identity is what changes if a file is written at all.
func identity(t testing.TB, path string) string {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(info.Sys().(*syscall.Stat_t).Ino, info.ModTime().UnixNano(), info.Mode(), info.Size())
}

func TestWritesOnlyWhatIsNew(t *testing.T) {
	d, check := newTree(t)
	if listed, err := d.Read(); err != nil || listed.Masters != nil {
		t.Fatalf("lists %v, %v, before anything was written", listed, err)
	}
	if wrote, err := d.Write(oldList, Running{}, ""); err != nil || !wrote {
		t.Fatalf("wrote %v, %v", wrote, err)
	}
	before := identity(t, d.Path())
	if wrote, err := d.Write(oldList, Running{}, ""); err != nil || wrote {
		t.Errorf("wrote %v again, %v", wrote, err)
	}
	if after := identity(t, d.Path()); after != before {
		t.Errorf("the file was touched: %s, before %s", after, before)
	}
	if listed, err := d.Read(); err != nil || !slices.Equal(addressesOf(listed.Masters), oldList.Addresses()) {
		t.Errorf("lists %v, %v", listed, err)
	}
	if err := d.Check(oldList); err != nil {
		t.Error(err)
	}
	check()
	// The pending lasts until it is settled.
	if pending, err := d.PendingRestart(); err != nil || !pending.Pending {
		t.Errorf("owed %v, %v", pending, err)
	}
	if err := d.ClearPending(); err != nil {
		t.Fatal(err)
	}
	if pending, err := d.PendingRestart(); err != nil || pending.Pending {
		t.Errorf("owed %v, %v, after it was settled", pending, err)
	}
}

// What somebody else made of the file is no list; it is written over.
func TestForeignTextIsNoList(t *testing.T) {
	for _, text := range []string{"", "\x00", "master: [", "master: {a: b}", "master:", "- a", "master: ['']"} {
		d, _ := newTree(t)
		put(t, d.Path(), text)
		if listed, err := d.Read(); err != nil || len(listed.Masters) > 0 {
			t.Errorf("%q lists %v, %v", text, listed, err)
		}
		if wrote, err := d.Write(newList, Running{}, ""); err != nil || !wrote {
			t.Errorf("%q: wrote %v, %v", text, wrote, err)
		}
	}
}

func TestKeepsModeOwnerAndLink(t *testing.T) {
	d, check := newTree(t)
	real := filepath.Join(t.TempDir(), "kept-elsewhere.conf")
	put(t, real, rendered(t, oldList))
	if err := os.Chmod(real, 0o640); err != nil {
		t.Fatal(err)
	}
	uid := os.Getuid()
	if uid == 0 { // root alone gives files away
		uid = 12345
		if err := os.Chown(real, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(real, d.Path()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Write(newList, Running{}, ""); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(d.Path())
	if err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v, %v", info, err)
	}
	info, err = os.Stat(real)
	if err != nil {
		t.Fatal(err)
	}
	if stat := info.Sys().(*syscall.Stat_t); info.Mode() != 0o640 || int(stat.Uid) != uid ||
		get(t, real) != rendered(t, newList) {
		t.Errorf("mode %v, uid %d, text %q", info.Mode(), stat.Uid, get(t, real))
	}
	check()
	if err := os.Remove(real); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Write(oldList, Running{}, ""); err == nil {
		t.Error("wrote over a link to nothing")
	}
}

// steps are the labels of one Write, in order.
func steps(t testing.TB) []string {
	t.Helper()
	d, _ := newTree(t)
	if _, err := d.Write(oldList, Running{}, ""); err != nil {
		t.Fatal(err)
	}
	var labels []string
	d.step = func(label string) error { labels = append(labels, label); return nil }
	if _, err := d.Write(newList, Running{}, ""); err != nil {
		t.Fatal(err)
	}
	return labels
}

// whole checks that the file is the old one or the new one, that the pending fits,
// and that an agent that comes after puts all right.
func whole(t *testing.T, d *DropIn, first bool) {
	t.Helper()
	text, old := get(t, d.Path()), rendered(t, oldList)
	if first {
		old = ""
	}
	if text != old && text != rendered(t, newList) {
		t.Errorf("neither the old text nor the new one: %q", text)
	}
	if pending, err := d.PendingRestart(); err != nil || pending.Pending != (text != old) {
		t.Errorf("restart owed %v, %v, with the text %q", pending, err, text)
	}
	d.step = nil
	if _, err := d.Write(newList, Running{}, ""); err != nil {
		t.Error(err)
	}
	if pending, err := d.PendingRestart(); err != nil || !pending.Pending {
		t.Errorf("restart owed %v, %v, after the next agent wrote", pending, err)
	}
	if get(t, d.Path()) != rendered(t, newList) {
		t.Error("the next agent did not put it right")
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(d.Path()), ".*.new"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// killAt names the step at which the child of killedAt dies.
const killAt = "PHOENIX_TEST_KILL_AT"

func TestMain(m *testing.M) {
	if at := os.Getenv(killAt); at != "" {
		label, dir, _ := strings.Cut(at, "|")
		d := NewDropIn(salt.MinionConfig{DropIns: dir})
		d.step = func(now string) error {
			if now == label {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
			return nil
		}
		_, err := d.Write(newList, Running{}, "")
		if strings.HasPrefix(label, "schedule: ") {
			_, err = d.RemoveAlive(newList.Addresses())
		}
		fmt.Fprintln(os.Stderr, "not killed at", label, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// G5, G8: kill -9 at each step of a write, over an older list and over none.
func TestG5_KilledAtEachStep(t *testing.T) {
	labels := steps(t)
	if len(labels) < 12 {
		t.Fatalf("steps %q", labels)
	}
	for _, label := range labels {
		for _, first := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, first %v", label, first), func(t *testing.T) {
				t.Parallel()
				d, check := newTree(t)
				if !first {
					if _, err := d.Write(oldList, Running{}, ""); err != nil {
						t.Fatal(err)
					}
					if err := d.ClearPending(); err != nil {
						t.Fatal(err)
					}
				}
				killedAt(t, label, d)
				check()
				whole(t, d, first)
				check()
			})
		}
	}
}

// killedAt runs a child that writes as an agent does, and dies at that step.
func killedAt(t *testing.T, label string, d *DropIn) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killAt+"="+label+"|"+d.minion.DropIns)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the child was not killed: %v\n%s", err, out)
	}
}

// Each step may fail, for want of room say: the error names it.
func TestG5_EachStepMayFail(t *testing.T) {
	for _, label := range steps(t) {
		d, check := newTree(t)
		if _, err := d.Write(oldList, Running{}, ""); err != nil {
			t.Fatal(err)
		}
		if err := d.ClearPending(); err != nil {
			t.Fatal(err)
		}
		before := identity(t, d.Path())
		calls := 0
		d.step = func(now string) error {
			if now == label {
				calls++
				return syscall.ENOSPC
			}
			return nil
		}
		_, err := d.Write(newList, Running{}, "")
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), label) {
			t.Errorf("%s: %v", label, err)
		}
		if calls != 1 {
			t.Errorf("%s: tried %d times", label, calls)
		}
		if after := identity(t, d.Path()); after != before && label != "drop-in: sync folder" {
			t.Errorf("%s: the file was touched", label)
		}
		check()
		whole(t, d, false)
	}
}

// Who reads while lists are written sees one of them, whole.
func TestG5_ReadersSeeWholeLists(t *testing.T) {
	d, _ := newTree(t)
	if _, err := d.Write(oldList, Running{}, ""); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var readers sync.WaitGroup
	reads := make([]int, 2)
	for i := range reads {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if text := get(t, d.Path()); text != rendered(t, oldList) && text != rendered(t, newList) {
					t.Errorf("read %q", text)
					return
				}
				reads[i]++
			}
		})
	}
	for i := range 40 {
		if _, err := d.Write([]List{newList, oldList}[i%2], Running{}, ""); err != nil {
			t.Error(err)
		}
	}
	close(done)
	readers.Wait()
	t.Logf("%v reads", reads)
}

// A file of the operator's may win over the drop-in; then a person must look.
func TestCheckFindsWhoWins(t *testing.T) {
	for name, text := range map[string]string{
		"minion.d/zz.conf":       "master: other\n",
		"minion.d/00-first.conf": "master: [first]\n", // Salt joins lists of several drop-ins
		"minion.d/zz-type.conf":  "master_type: str\n",
	} {
		d, _ := newTree(t)
		put(t, filepath.Join(filepath.Dir(d.minion.Path), name), text)
		if _, err := d.Write(newList, Running{}, ""); err != nil {
			t.Fatal(err)
		}
		if err := d.Check(newList); err == nil || !strings.Contains(err.Error(), "another file") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// hosts are texts that YAML could take for something else.
var hosts = []string{"::1", "yes", "no", "on", "~", "null", "1e3", "0x1f", "012", "12:30:45", "a: b", "a #b", "- a",
	"{a}", "[a]", "*a", "&a",
	"!a", "%a", "@a", "`a", "'", `"`, `\`, "a\nb", "a\r\nb", "\t", " ", " a ", "\x00", "\x7f", "\u0085", "\u2028",
	"\ufeff", "ä", "😀",
	"<<", "=", "?", "|", ">", "---", "...", "true", "2026-01-01", ".inf", "\u009f", "\ufffe"}

func FuzzRender(f *testing.F) {
	for _, host := range hosts {
		f.Add(host)
	}
	f.Fuzz(func(t *testing.T, host string) {
		text, err := render(NewList(master("", host), master("", "last")), Ports{})
		if (err == nil) != utf8.ValidString(host) {
			t.Fatalf("%q: %v", host, err)
		}
		if err != nil || host == "" {
			return
		}
		if _, port := splitPort(host); port != 0 {
			return // it says a port
		}
		if got := parse(text).Masters; got[0].Address != host {
			t.Errorf("%q is read as %q", host, got[0].Address)
		}
		if bytes.IndexFunc(text, func(r rune) bool { return r != '\n' && (r < ' ' || r > '~') }) >= 0 {
			t.Errorf("%q is written beyond ASCII: %q", host, text)
		}
	})
}

// loadYAML reads lists as Salt reads its configuration.
const loadYAML = `
import json, sys
import salt.config
print(json.dumps([salt.config.minion_config(path)["master"] for path in sys.argv[1:]]))
`

// M6: whatever the hosts are called, Salt reads the list as it was meant.
func TestSaltReadsWhatIsRendered(t *testing.T) {
	lists := [][]string{hosts}
	random := rand.New(rand.NewPCG(1, 2))
	odd := []rune(" \t\n:#-?,[]{}&*!|>'\"%@`~\\aZ0.\u00e9\u0085\u2028\U0001f600")
	for range 20 {
		var list []string
		for len(list) < 20 {
			runes := make([]rune, 1+random.IntN(6))
			for i := range runes {
				runes[i] = odd[random.IntN(len(odd))]
			}
			if host := string(runes); !slices.Contains(list, host) {
				list = append(list, host)
			}
		}
		lists = append(lists, list)
	}
	var paths []string
	for _, list := range lists {
		var masters []Master
		for _, host := range list {
			masters = append(masters, master("", host))
		}
		d, _ := newTree(t)
		if _, err := d.Write(NewList(masters[0], masters[1:]...), Running{}, ""); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, d.minion.Path)
	}
	out := python(t, loadYAML, paths...)
	var got [][]string
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	for i, list := range lists {
		if !slices.Equal(got[i], list) {
			t.Errorf("Salt reads %q, not %q", got[i], list)
		}
	}
}

// python runs a script with a Salt to import. The newest one's loader and the
// others' are the same file.
func python(t testing.TB, script string, args ...string) []byte {
	t.Helper()
	needs.More(t, "Salt's own Python")
	venvs := os.Getenv("PHOENIX_SALT_VENVS")
	if venvs == "" {
		venvs = filepath.Join("..", "..", ".cache")
	}
	path := filepath.Join(venvs, "salt-3008.5", "bin", "python")
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("find Salt: %v (make salts installs it)", err)
	}
	cmd := exec.Command(path, append([]string{"-c", script}, args...)...)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("%v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	return out
}

func withPorts(m Master, publish, ret int) Master {
	m.Ports = Ports{publish, ret}
	return m
}

// Ports come from the masters' rows. Where they are the same they stand once; where
// they are not, each entry has its own, and the publish port is what each master
// reports.
func TestPorts(t *testing.T) {
	a, b, six := master("i-a", "10.0.0.1"), master("i-b", "10.0.0.2"), master("i-c", "fd00::3")
	own := Ports{4505, 4506}
	for _, test := range []struct {
		name      string
		list      List
		has, lack []string
	}{
		{"no row says any", NewList(a, b), []string{`- "10.0.0.1"`, `- "10.0.0.2"`, "master_alive_interval: 15"},
			[]string{"master_port", "publish_port"}},
		{"all say the same", NewList(withPorts(a, 9005, 9006), withPorts(b, 9005, 9006)),
			[]string{`- "10.0.0.1"` + "\n", "master_port: 9006", "publish_port: 9005", "master_alive_interval: 15"},
			nil},
		{"one of an older bridge", NewList(withPorts(a, 4505, 4506), b),
			[]string{`- "10.0.0.1"` + "\n", "master_port: 4506", "publish_port: 4505"}, nil},
		{"they differ", NewList(withPorts(a, 9005, 9006), b, six),
			[]string{`- "10.0.0.1:9006"`, `- "10.0.0.2:4506"`, `- "[fd00::3]:4506"`, "publish_port: 4506",
				"master_alive_interval: 0"}, []string{"master_port"}},
		{"they differ, and all are followed", NewList(withPorts(a, 9005, 9006), b).Hot(),
			[]string{`- "10.0.0.1:9006"`, "publish_port: 4506", "master_type: str", "auth_tries: 2"},
			[]string{"failover"}},
	} {
		text, err := render(test.list, own)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range append(test.has, "random_master: False", "master_shuffle: False", "master_failback: False",
			"cache_jobs: True", "minion_jid_queue_hwm: 10000") {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s: does not say %q:\n%s", test.name, want, text)
			}
		}
		for _, not := range test.lack {
			if strings.Contains(string(text), not) {
				t.Errorf("%s: says %q:\n%s", test.name, not, text)
			}
		}
		listed := parse(text)
		if got := addressesOf(listed.Masters); !slices.Equal(got, test.list.Addresses()) ||
			listed.Hot != test.list.hot {
			t.Errorf("%s: is read as %+v", test.name, listed)
		}
		for i, m := range listed.Masters {
			if want := test.list.masters[i].Ports; want.Ret != 0 && m.Ports.Ret != want.Ret {
				t.Errorf("%s: port of %s is read as %+v", test.name, m.Address, m.Ports)
			}
		}
	}
}

// prepare returns what Salt makes of each entry.
const prepare = `
import json, sys
import salt.config, salt.minion
opts = salt.config.minion_config(sys.argv[1])
found = []
for master in list(opts["master"]):
    one = dict(opts, master=master)
    one.update(salt.minion.prep_ip_port(one))
    found.append([str(one["master"]), str(one["master_port"]), str(one["publish_port"])])
print(json.dumps([found, opts["master_type"], opts["retry_dns"], opts["auth_tries"], opts["random_master"], opts["minion_jid_queue_hwm"]]))
`

// What Salt itself makes of a list with ports.
func TestSaltReadsPorts(t *testing.T) {
	d, _ := newTree(t)
	d.minion.MasterPort = 4506
	l := NewList(withPorts(master("i-a", "10.0.0.1"), 9005, 9006),
		withPorts(master("i-c", "fd00::3"), 4505, 4506)).Hot()
	if _, err := d.Write(l, Running{}, ""); err != nil {
		t.Fatal(err)
	}
	const want = `[[["10.0.0.1", "9006", "4506"], ["fd00::3", "4506", "4506"]], "str", 0, 2, false, 10000]`
	if got := strings.TrimSpace(string(python(t, prepare, d.minion.Path))); got != want {
		t.Errorf("Salt reads %s, want %s", got, want)
	}
	if err := d.Check(l); err != nil {
		t.Error(err)
	}
}

// What a minion runs with is known while a restart is pending, over any number of
// lists.
func TestPendingRestartKnowsWhatRuns(t *testing.T) {
	d, check := newTree(t)
	connected := Running{Masters: []string{"10.0.0.9"}, Process: "7-1"}
	third := NewList(master("i-d", "10.0.0.4"))
	expect := func(when string, l List, running Running, want bool, masters ...string) {
		t.Helper()
		if wrote, err := d.Write(l, running, ""); err != nil || !wrote {
			t.Fatalf("%s: wrote %v, %v", when, wrote, err)
		}
		pending, err := d.PendingRestart()
		if err != nil || pending.Pending != want || want && !slices.Equal(pending.Running.Masters, masters) {
			t.Errorf("%s: %+v, %v", when, pending, err)
		}
	}
	expect("the first list", oldList, connected, true, "10.0.0.9")
	expect("another", newList, connected, true, "10.0.0.9")
	if err := d.ClearPending(); err != nil {
		t.Fatal(err)
	}
	expect("after a restart", oldList, connected, true, newList.Addresses()...)
	expect("one more", third.Hot(), connected, true, newList.Addresses()...)
	expect("restarted by others meanwhile", oldList, Running{Process: "8-2"}, true, "10.0.0.4")
	if pending, _ := d.PendingRestart(); !pending.Running.Hot || pending.Running.Process != "8-2" {
		t.Errorf("%+v", pending)
	}
	expect("what it runs with, again", third.Hot(), Running{Process: "8-2"}, false)
	check()
	// What an agent wrote that knew no more.
	put(t, d.pendingPath(), digest([]byte(get(t, d.Path())))+"\n")
	if pending, err := d.PendingRestart(); err != nil || !pending.Pending || len(pending.Running.Masters) > 0 {
		t.Errorf("%+v, %v", pending, err)
	}
	// What is there must not crash or bloat it.
	put(t, d.pendingPath(), "masters\nprocess\n\x00 \nhot")
	if pending, err := d.PendingRestart(); err != nil || pending.Pending {
		t.Errorf("%+v, %v", pending, err)
	}
}

// The process of a minion is another after each start.
func TestProcess(t *testing.T) {
	l := newLocal(t)
	if got := l.Process(); got != "" {
		t.Errorf("%q, and there is no pid file", got)
	}
	// The file's process must look like Salt's: this one is named so.
	cmd := exec.Command("sh", "-c", "sleep 60; : salt-minion")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	put(t, l.minion.PIDFile, fmt.Sprint(cmd.Process.Pid))
	// Start returns when the new program's descriptors are closed on exec, and the kernel
	// sets its command line only after that.
	got := l.Process()
	for deadline := time.Now().Add(10 * time.Second); got == "" && time.Now().Before(deadline); got = l.Process() {
		time.Sleep(time.Millisecond)
	}
	if !strings.HasPrefix(got, fmt.Sprintf("%d-", cmd.Process.Pid)) || got != l.Process() {
		t.Errorf("%q", got)
	}
}
