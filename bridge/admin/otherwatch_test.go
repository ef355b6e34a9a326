package admin

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"phoenix/bridge/audit"
	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/sqlite"
	"phoenix/bridge/open"
	"phoenix/lab"
)

// deniedKeys is the key store of a master that does not run, and a fleet of web-1.
type deniedKeys struct {
	t     *testing.T
	dir   string
	known string
	watch *otherWatch
}

func newDeniedKeys(t *testing.T, limit int) *deniedKeys {
	t.Helper()
	dir := t.TempDir()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	master := fmt.Sprintf("user: %s\nid: salt-1\nroot_dir: %s\npki_dir: pki\nret_port: 1\n", u.Username, dir)
	if err := os.WriteFile(filepath.Join(dir, "master"), []byte(master), 0o600); err != nil {
		t.Fatal(err)
	}
	store, err := sqlite.Open(t.Context(), filepath.Join(dir, "fleet.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	cfg := config.Default()
	cfg.Store, cfg.SaltConfig, cfg.Socket = "sqlite:"+filepath.Join(dir, "fleet.db"), filepath.Join(dir, "master"),
		filepath.Join(dir, "s")
	cfg.Audit.File, cfg.IDPattern, cfg.Rebind.Limit = filepath.Join(dir, "audit.log"), config.IDPatternSQLite, limit
	d := &deniedKeys{t: t, dir: dir, known: lab.UnknownKey()}
	d.put("minions", "web-1", d.known)
	for _, change := range []fleet.Change{fleet.Add{InstanceID: "web-1"},
		fleet.Bind{InstanceID: "web-1", KeySHA256: sha256Of(t, d.known), PublicKey: d.known}} {
		if _, err := fleet.ApplyOne(t.Context(), store, change); err != nil {
			t.Fatal(err)
		}
	}
	_, keys, _, err := open.Master(cfg)
	if err != nil {
		t.Fatal(err)
	}
	d.watch = newOtherWatch(Admin{Config: cfg, Store: store, By: Bridge}, keys)
	return d
}

func sha256Of(t *testing.T, key string) string {
	t.Helper()
	digest, err := fleet.KeyDigest([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

// put writes a key as Salt does: one that was there is written over.
func (d *deniedKeys) put(state, id, key string) {
	d.t.Helper()
	path := filepath.Join(d.dir, "pki", state, id)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", []byte(key), 0o600); err != nil {
		d.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		d.t.Fatal(err)
	}
}

func (d *deniedKeys) look() {
	d.t.Helper()
	if err := d.watch.check(d.t.Context()); err != nil {
		d.t.Fatal(err)
	}
}

// recorded returns the lines of the audit trail that begin with a text.
func (d *deniedKeys) recorded(text string) (found []audit.Line) {
	d.t.Helper()
	lines, err := audit.Last(d.watch.Config.Audit.File, "web-1", 100)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, line := range lines {
		if strings.HasPrefix(line.Text, text) {
			found = append(found, line)
		}
	}
	return found
}

// Each denied key of an id whose key is known is recorded once, with both digests, over
// restarts of the bridge too.
func TestDeniedKeysAreRecordedOnce(t *testing.T) {
	d := newDeniedKeys(t, 0)
	one, two := lab.UnknownKey(), lab.UnknownKey()
	d.put("minions_denied", "web-2", one) // no key of it is known
	for i, key := range []string{one, one, two} {
		d.put("minions_denied", "web-1", key)
		d.look()
		d.look()
		if i == 1 { // another process
			d.watch = newOtherWatch(d.watch.Admin, d.watch.keys)
			d.look()
		}
	}
	lines := d.recorded(otherDenied)
	if len(lines) != 2 {
		t.Fatalf("%d lines for two keys: %v", len(lines), lines)
	}
	for i, key := range []string{one, two} {
		if attribute(lines[i], "key") != sha256Of(t, key) || attribute(lines[i], "bound") != sha256Of(t, d.known) {
			t.Errorf("line %d has not both digests: %v", i, lines[i].More)
		}
	}
	if lines, err := audit.Last(d.watch.Config.Audit.File, "web-2", 10); err != nil || len(lines) != 0 {
		t.Errorf("a key of nobody: %v, %v", lines, err)
	}
	if lines := d.recorded(rebound); len(lines) != 0 {
		t.Errorf("rebind.limit is 0, and a key was rebound: %v", lines)
	}
}

// What forbids that a key is rebound without an administrator. What a bridge does when
// nothing forbids it, package e2e shows on a real master.
func TestRebindLimit(t *testing.T) {
	const twoHours = 2 * time.Hour
	d := newDeniedKeys(t, 1)
	key := lab.UnknownKey()
	d.put("minions_denied", "web-1", key)
	others, err := d.watch.OtherKeys(t.Context())
	if err != nil || len(others) != 1 {
		t.Fatalf("%v, %v", others, err)
	}
	forbidden := func(want string) {
		t.Helper()
		why, err := d.watch.forbidden(t.Context(), others[0])
		if err != nil || !strings.Contains(why, want) || (why == "") != (want == "") {
			t.Errorf("%q, %v; not %q", why, err, want)
		}
	}
	forbidden("")
	d.watch.Config.Admit = "proven"
	forbidden("has not written this key as proof")
	d.watch.Config.Admit = "bound"
	d.put("minions_rejected", "web-1", lab.UnknownKey())
	forbidden("rejected")
	if err := os.Remove(filepath.Join(d.dir, "pki/minions_rejected/web-1")); err != nil {
		t.Fatal(err)
	}

	// The master does not run: the attempt is counted, and fails. The row is bound by then.
	if d.watch.rebind(t.Context(), others[0]) || len(d.recorded("key rebound by rebind.limit")) != 1 ||
		len(d.recorded(notRebound)) != 1 {
		t.Errorf("recorded: %v", d.recorded("key"))
	}
	forbidden("rebind.limit: 1 key rebound within 24h")
	d.watch = newOtherWatch(d.watch.Admin, d.watch.keys) // another process counts the same
	forbidden("rebind.limit: 1 key rebound within 24h")
	d.watch.now = func() time.Time { return time.Now().Add(rebindWindow + twoHours) }
	forbidden("") // to end what failed halfway

	// The machine that was replaced comes back: the two do not take turns.
	d.put("minions", "web-1", key)
	d.put("minions_denied", "web-1", d.known)
	if others, err = d.watch.OtherKeys(t.Context()); err != nil || len(others) != 1 {
		t.Fatalf("%v, %v", others, err)
	}
	forbidden("it was bound before")
	// Another master has not recorded that; the row has.
	if err := os.Remove(d.watch.Config.Audit.File); err != nil {
		t.Fatal(err)
	}
	forbidden("it was bound before")
}
