package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"phoenix/bridge/agent"
	"phoenix/bridge/doctor"
	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/dynamo"
	"phoenix/bridge/fleet/sqlite"
	"phoenix/bridge/salt"
	"phoenix/lab"
	local "phoenix/lab/dynamodb"
	"phoenix/lab/moto"
	"phoenix/lab/needs"
)

// stillMaster is the configuration and key store of a master that does not run.
func stillMaster(t *testing.T) (master, pki string) {
	t.Helper()
	dir := t.TempDir()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	pki, master = filepath.Join(dir, "pki"), filepath.Join(dir, "master")
	text := fmt.Sprintf("user: %s\nid: salt-1\npki_dir: %s\nroot_dir: %s\nret_port: 1\n", u.Username, pki, dir)
	if err := os.WriteFile(master, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return master, pki
}

func putKey(t *testing.T, pki, state, id, key string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(pki, state), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(pki, state, id), []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
}

// examined runs doctor, and gives its findings by check.
func examined(t *testing.T, args ...string) map[string][]doctor.Finding {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(t.Context(), append([]string{"phoenix", "doctor", "--json", "--config", "/dev/null"}, args...), &out,
		&errs)
	var list []doctor.Finding
	if err := json.Unmarshal(out.Bytes(), &list); err != nil {
		t.Fatalf("exit %d: %v\n%s%s", code, err, out.String(), errs.String())
	}
	if worst := doctor.Worst(list); (code == exitOK) != (worst == doctor.OK || worst == doctor.Note) {
		t.Errorf("exit %d, and the worst is %s", code, worst)
	}
	found := map[string][]doctor.Finding{}
	for _, f := range list {
		found[f.Check] = append(found[f.Check], f)
	}
	return found
}

// told holds a check to what it says first, the worst of it.
func told(t *testing.T, found map[string][]doctor.Finding, check string, severity doctor.Severity, says string) {
	t.Helper()
	if of := found[check]; len(of) == 0 || of[0].Severity != severity || !strings.Contains(of[0].What, says) {
		t.Errorf("%s, not %s, %q: %+v", check, severity, says, of)
	}
}

// With a configuration, doctor asks AWS for what a bridge needs there.
func TestDoctorOnAWS(t *testing.T) {
	cfg := moto.Start(t)
	needs.More(t, "DynamoDB Local, and Java for it")
	server, err := local.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
		"AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE":           os.DevNull, "AWS_REGION": moto.Region, "AWS_ENDPOINT_URL": *cfg.BaseEndpoint} {
		t.Setenv(name, value)
	}
	if _, err := sqs.NewFromConfig(cfg).CreateQueue(t.Context(),
		&sqs.CreateQueueInput{QueueName: aws.String("fleet")}); err != nil {
		t.Fatal(err)
	}
	master, pki := stillMaster(t)
	putKey(t, pki, "minions", "i-0123456789abcdef0", lab.UnknownKey())
	args := []string{"--salt-config", master, "--store", "dynamodb:", "--dynamodb-endpoint", server.URL,
		"--instance-id", "i-1", "--address", "10.0.0.1",
		"--sqs-queues", "[fleet, other]", "--autoscaling-groups", "[none]", "--socket", filepath.Join(t.TempDir(), "s")}

	found := examined(t, args...)
	told(t, found, "store", doctor.Error, "table missing")
	told(t, found, "tables", doctor.Note, "table missing")

	store, err := dynamo.Open(t.Context(), dynamo.Config{Region: moto.Region, Endpoint: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	found = examined(t, args...)
	told(t, found, "configuration", doctor.OK, "dynamodb:")
	told(t, found, "bridge", doctor.Note, "none answers")
	told(t, found, "store", doctor.OK, "")
	told(t, found, "tables", doctor.OK, "")
	told(t, found, "permissions", doctor.OK, "")
	told(t, found, "queues", doctor.Error, "other: ")
	told(t, found, "groups", doctor.Error, "none: AutoScaling knows no such group")
	told(t, found, "clock", doctor.OK, "")
	told(t, found, "what-phoenix-would-do", doctor.Note,
		"0 highstates; 0 deletions; 1 foreign key, never touched (by what the store knows)")
	if n := len(found["permissions"]); n != 10 {
		t.Errorf("%d calls were tried: %+v", n, found["permissions"])
	}
	if n := len(found["queues"]); n != 2 {
		t.Errorf("%d queues were asked for: %+v", n, found["queues"])
	}

	// The key that the masters share goes with that of their rows.
	client := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("masters"),
		CreateBucketConfiguration: &s3types.CreateBucketConfiguration{LocationConstraint: moto.Region}}); err != nil {
		t.Fatal(err)
	}
	shared := []string{"--identity-endpoint", *cfg.BaseEndpoint, "--identity-region", moto.Region,
		"--identity-bucket", "masters"}
	putKey(t, pki, "", "master.pub", lab.UnknownKey())
	found = examined(t, append(args, shared...)...)
	if len(found["fleet-key"]) > 0 {
		t.Errorf("no key is shared yet: %+v", found["fleet-key"])
	}
	if code, _, errs := newSharer(t, *cfg.BaseEndpoint).run("install"); code != exitOK {
		t.Fatal(errs)
	}
	found = examined(t, append(args, shared...)...)
	told(t, found, "fleet-key", doctor.Error, "another is that of s3://masters/phoenix/identity")
	found = examined(t, append(args, append(shared[:5:5], "nowhere")...)...)
	told(t, found, "permissions", doctor.Note, "s3:GetObject on s3://nowhere/phoenix/identity")

	// Beside a minion it tries what an agent does.
	dir := t.TempDir()
	minion, trusted := filepath.Join(dir, "minion"), lab.UnknownKey()
	if err := os.WriteFile(minion,
		fmt.Appendf(nil, "id: i-0123456789abcdef0\npki_dir: %s\n", filepath.Join(dir, "pki")), 0o600); err != nil {
		t.Fatal(err)
	}
	putKey(t, filepath.Join(dir, "pki"), "", "minion_master.pub", trusted)
	digest, err := fleet.KeyDigest([]byte(trusted))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Beat(t.Context(),
		fleet.Beat{InstanceID: "i-1", Incarnation: "1", MasterKeySHA256: digest}); err != nil {
		t.Fatal(err)
	}
	found = examined(t, "--salt-config", minion, "--store", "dynamodb:", "--dynamodb-endpoint", server.URL,
		"--admit", "proven")
	told(t, found, "store", doctor.OK, "")
	told(t, found, "permissions", doctor.OK, "dynamodb:Scan on masters")
	told(t, found, "proof", doctor.Warning, "ask instance metadata")
	told(t, found, "fleet-key", doctor.OK, digest[:12])
	told(t, found, "master-key", doctor.OK, digest[:12])
}

// An SQLite store is read, with what its bridge would do, and stays as it is.
func TestDoctorLeavesAStoreAlone(t *testing.T) {
	master, pki := stillMaster(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "fleet.db")
	args := []string{"--salt-config", master, "--store", "sqlite:" + path, "--socket", filepath.Join(dir, "s")}
	told(t, examined(t, args...), "store", doctor.Note, "no such file")
	if names, _ := filepath.Glob(filepath.Join(dir, "*")); len(names) > 0 {
		t.Errorf("doctor made %v", names)
	}
	store, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() }) // as a bridge has it open
	if _, err := store.Apply(t.Context(),
		[]fleet.Change{fleet.Add{InstanceID: "web-1"}, fleet.Add{InstanceID: "web-2"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Beat(t.Context(),
		fleet.Beat{InstanceID: "salt-2", Incarnation: "1", MasterKeySHA256: strings.Repeat("a", 64)}); err != nil {
		t.Fatal(err)
	}
	putKey(t, pki, "minions_pre", "web-1", lab.UnknownKey())
	putKey(t, pki, "minions", "db-1", lab.UnknownKey())
	putKey(t, pki, "", "master.pub", lab.UnknownKey())
	before := filesOf(t, dir)
	found := examined(t, args...)
	told(t, found, "what-phoenix-would-do", doctor.Note,
		"1 highstate; 0 deletions; 1 foreign key, never touched; 1 key accepted (by what the store knows)")
	told(t, found, "fleet-key", doctor.Error, "another is that of salt-2")
	if after := filesOf(t, dir); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func filesOf(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&all, e.Name(), info.Size(), info.ModTime(), info.Mode())
	}
	return all.String()
}

// A configuration that is wrong is a finding, and Salt is looked at all the same.
func TestDoctorWithoutAUsableConfiguration(t *testing.T) {
	master, _ := stillMaster(t)
	wrong := filepath.Join(t.TempDir(), "phoenix.yaml")
	if err := os.WriteFile(wrong, []byte("stor: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	found := examined(t, "--config", wrong, "--salt-config", master)
	told(t, found, "configuration", doctor.Error, "unknown key stor")
	told(t, found, "key-store", doctor.OK, "0 accepted")
	found = examined(t, "--config", wrong, "--salt-only", "--salt-config", master)
	told(t, found, "key-store", doctor.OK, "0 accepted")
	if len(found["configuration"])+len(found["store"]) > 0 {
		t.Errorf("more than Salt was looked at: %+v", found)
	}
	found = examined(t, "--salt-only", "--id-pattern", "(", "--salt-config", master)
	told(t, found, "id-pattern", doctor.Error, "missing closing")
	found = examined(t, "--salt-config", filepath.Join(t.TempDir(), "minion"))
	told(t, found, "minion-config", doctor.Error, "no such file")
}

// Doctor looks for the agent's drop-in where the agent writes it.
func TestDoctorFindsTheDropInOfTheAgent(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "minion")
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(path, "id: web-1\n")
	minion, err := salt.ReadMinionConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	dropIn := agent.NewDropIn(minion).Path()
	write(dropIn, "master: [10.0.0.1, 10.0.0.2]\nmaster_type: failover\n")
	write(filepath.Join(filepath.Dir(dropIn), "_schedule.conf"),
		"schedule:\n  __master_alive_10.0.0.1: {}\n  __master_alive_10.0.0.9: {}\n")
	found := examined(t, "--salt-only", "--salt-config", path)
	told(t, found, "drop-in", doctor.OK, "sees it as it is")
	told(t, found, "masters", doctor.OK, "fails over among 10.0.0.1, 10.0.0.2")
	told(t, found, "alive-schedule", doctor.Warning, "not on the list: 10.0.0.9")
	write(filepath.Join(filepath.Dir(dropIn), "zz.conf"), "master_type: str\n")
	told(t, examined(t, "--salt-only", "--salt-config", path), "drop-in", doctor.Warning, "what it says of master_type")
}

// The clock is held against the date of any answer.
func TestDatesTellHowFarTheClockIsOff(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(10*time.Minute).UTC().Format(http.TimeFormat))
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(server.Close)
	var d dates
	if _, known := d.off(); known {
		t.Error("known before there was an answer")
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := d.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if off, known := d.off(); !known || (off+10*time.Minute).Abs() > 5*time.Second {
		t.Errorf("%v, %v", off, known)
	}
}

// A quiet run prints nothing where all is well, and else the findings and one line that
// counts them.
func TestQuietDoctor(t *testing.T) {
	note := doctor.Finding{Severity: doctor.Note, Check: "jid-queue", What: "few"}
	warning := doctor.Finding{Severity: doctor.Warning, Check: "test-mode", What: "on"}
	well := doctor.Finding{Severity: doctor.OK, Check: "masters", What: "two"}
	for _, test := range []struct {
		quiet    bool
		findings []doctor.Finding
		want     string
	}{
		{true, nil, ""},
		{true, []doctor.Finding{note}, "errors: 0, warnings: 0, notes: 1; nothing was changed\n"},
		{true, []doctor.Finding{warning, note}, ""}, // the error has the numbers
		{false, []doctor.Finding{warning, note, well},
			"errors: 0, warnings: 1, notes: 1, ok: 1; nothing was changed\n"},
	} {
		var out bytes.Buffer
		if err := printSummary(&out, test.quiet, test.findings); err != nil || out.String() != test.want {
			t.Errorf("quiet %v, %v: %q, %v", test.quiet, test.findings, out.String(), err)
		}
	}
	master, _ := stillMaster(t)
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"phoenix", "doctor", "-q", "--salt-only", "--salt-config", master}, &out,
		&errs); code != exitFailed {
		t.Errorf("exit %d", code)
	}
	if text := out.String() + errs.String(); strings.Contains(text, "ok") || strings.Count(text, "errors: ") != 1 ||
		strings.Count(errs.String(), "\n") != 1 {
		t.Errorf("quiet:\n%s", text)
	}
}

// Where keys are accepted that the store does not know, doctor says what README, quickstart
// and deploy say: adopt, and then start. Once they are adopted it says to start.
func TestDoctorAdoptsFirst(t *testing.T) {
	inOrder := func(name, text, starts string) {
		t.Helper()
		// flags that doctor was called with
		text = regexp.MustCompile(`phoenix( --[a-z-]+ \S+)+ adopt`).ReplaceAllString(text, "phoenix adopt")
		dry := strings.Index(text, "phoenix adopt --dry-run")
		adopt := strings.Index(strings.Replace(text, "phoenix adopt --dry-run",
			strings.Repeat("-", len("phoenix adopt --dry-run")), 1), "phoenix adopt")
		if start := strings.Index(text, starts); dry < 0 || adopt < dry || start < adopt {
			t.Errorf("%s: dry run at %d, adopt at %d, start at %d", name, dry, adopt, start)
		}
	}
	for name, starts := range map[string]string{"README.md": "phoenix bridge #",
		"docs/quickstart.md": "enable --now phoenix-bridge", "docs/deploy.md": "enable --now phoenix-bridge"} {
		text, err := os.ReadFile(filepath.Join("..", "..", name))
		if err != nil {
			t.Fatal(err)
		}
		_, section, _ := strings.Cut(string(text),
			map[string]string{"README.md": "## Use it on an existing master",
				"docs/deploy.md": "## Adopt an existing Salt"}[name])
		inOrder(name, strings.Join(strings.Fields(section), " "), starts)
	}
	master, pki := stillMaster(t)
	dir := t.TempDir()
	args := []string{"--salt-config", master, "--store", "sqlite:" + filepath.Join(dir, "fleet.db"), "--socket",
		filepath.Join(dir, "s")}
	putKey(t, pki, "minions_pre", "web-2", lab.UnknownKey())
	if found := examined(t, args...); found["bridge"][0].Mend != "systemctl start phoenix-bridge" ||
		len(found["store"][0].Commands) != 1 {
		t.Errorf("nothing is accepted: %+v %+v", found["bridge"], found["store"])
	}
	putKey(t, pki, "minions", "web-1", lab.UnknownKey())
	found := examined(t, args...)
	for _, check := range []string{"bridge", "store"} {
		inOrder(check, found[check][0].Mend, "systemctl enable --now phoenix-bridge")
		if len(found[check][0].Commands) > 0 {
			t.Errorf("%s: a person decides on adoption: %+v", check, found[check])
		}
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), append([]string{"phoenix", "adopt", "--config", "/dev/null"}, args...), &out,
		&errs); code != exitOK {
		t.Fatalf("adopt before the first start: exit %d: %s", code, errs.String())
	}
	if found := examined(t, args...); found["bridge"][0].Mend != "systemctl start phoenix-bridge" {
		t.Errorf("adopted: %+v", found["bridge"])
	}
}

// A minion without a list looks for a host named salt, and so does doctor.
func TestDoctorLooksForSaltsDefaultMaster(t *testing.T) {
	for text, want := range map[string]int{"id: web-1\n": 1, "master: []\n": 1, "master_type: disable\n": 0} {
		path := filepath.Join(t.TempDir(), "minion")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := salt.ReadMinionConfig(path)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // the network has nothing to say here
		if reach := reachMasters(ctx, c); len(reach) != want || want == 1 && reach["salt"].NameErr == nil {
			t.Errorf("%q: %+v", text, reach)
		}
	}
}
