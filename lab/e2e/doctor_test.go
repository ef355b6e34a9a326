package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"phoenix/bridge/bus"
	"phoenix/bridge/doctor"
	"phoenix/bridge/event"
	"phoenix/lab"
)

// TestDoctor: on a master as one finds it, without configuration, bridge and store,
// doctor finds in seconds what would bypass admission, and changes nothing.
func TestDoctor(t *testing.T) {
	t.Parallel()
	for _, version := range versions(lab.Salt3006, lab.Salt3008) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			root, err := lab.Root()
			if err != nil {
				t.Fatal(err)
			}
			seed := filepath.Join(root, "lab", "bench", "seed") // the system of 2015
			master := l.StartMaster(lab.MasterOptions{Version: version, Extra: map[string]any{
				"auto_accept": true,
				"reactor":     []any{map[string]any{"salt/auth": []string{filepath.Join(seed, "auth.sls")}}},
				"runner_dirs": []string{seed},
			}})
			minion := l.StartMinion(lab.MinionOptions{ID: "web-1", Masters: []*lab.Master{master}})
			master.Ready()
			baked := lab.UnknownKey()
			const keys = 300
			for i := range keys - 1 { // and the minion's
				key, id := lab.UnknownKey(), fmt.Sprintf("web-%d", i+2)
				if i < 3 {
					key = baked
				}
				if err := master.TryRequestAuth(id, key); err != nil {
					t.Fatal(err)
				}
			}
			l.Eventually(within, "all keys are accepted", func() (bool, string) {
				n := len(master.Accepted())
				return n == keys, fmt.Sprintf("%d are", n)
			})
			minion.Answers(master)
			old := &doctored{master: master, minion: minion}
			old.quiet(t, l)

			findings, took := old.look(t, master.ConfigPath(), 1)
			t.Logf("%d keys looked at in %v", keys, took.Round(time.Millisecond))
			if most := 15 * time.Second; took > most { // on a machine that is busy with other tests
				t.Errorf("took %v", took)
			}
			expect(t, findings, map[string]doctor.Severity{
				"salt-master": doctor.OK, "event-bus": doctor.OK, "request-port": doctor.OK, "key-store": doctor.OK,
				"auto-accept": doctor.Error, "open-mode": doctor.OK, "shared-key": doctor.Error,
				"reactor":     doctor.Warning,
				"old-runners": doctor.Error, "key-not-rsa": doctor.OK, "id-pattern": doctor.OK, "hidden-key": doctor.OK,
				"what-phoenix-would-do": doctor.Note,
			})
			for check, says := range map[string][]string{
				"salt-master":           {"Salt " + version + ","},
				"key-store":             {"300 accepted, 0 pending"},
				"shared-key":            {"3 ids have one key", "web-2, web-3, web-4"},
				"reactor":               {"salt/auth", "auth.sls calls the runners of 2015"},
				"old-runners":           {"key_runner.py"},
				"what-phoenix-would-do": {"0 highstates; 0 deletions; 300 foreign keys, never touched"},
			} {
				for _, text := range says {
					if what := findings[check].What; !strings.Contains(what, text) {
						t.Errorf("%s says %q, and not %q", check, what, text)
					}
				}
			}

			findings, _ = old.look(t, minion.ConfigPath(), 0)
			expect(t, findings, map[string]doctor.Severity{
				"salt-minion": doctor.OK, "cache-jobs": doctor.OK, "masters": doctor.Note, "drop-in": doctor.Note,
				"master-key": doctor.OK, "startup-states": doctor.OK, "alive-schedule": doctor.OK,
			})
			if what := findings["salt-minion"].What; !strings.Contains(what, "Salt "+version+", id web-1,") {
				t.Errorf("salt-minion says %q", what)
			}
			old.unchanged(t)
		})
	}
}

// doctored is a master and a minion that are watched.
type doctored struct {
	master *lab.Master
	minion *lab.Minion
	before map[string]string

	mu   sync.Mutex
	tags []string // of the events on the bus
}

// quiet begins to watch the bus and the files.
func (d *doctored) quiet(t *testing.T, l *lab.Lab) {
	t.Helper()
	events, err := bus.New(bus.Config{Path: d.master.EventSocket()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = events.Run(ctx, d) // it ends with ctx
	}()
	t.Cleanup(func() { cancel(); <-done })
	last, since := -1, time.Now()
	l.Eventually(within, "the bus is read, and quiet", func() (bool, string) {
		d.mu.Lock()
		defer d.mu.Unlock()
		if state := events.State(); state.Since.IsZero() || len(d.tags) != last {
			last, since = len(d.tags), time.Now()
		}
		return time.Since(since) > settle, fmt.Sprint(d.tags)
	})
	d.mu.Lock()
	d.tags = nil
	d.mu.Unlock()
	d.before = d.files(t)
}

// Event and Gap implement bus.Handler.
func (d *doctored) Event(e event.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tags = append(d.tags, string(e.Tag))
}
func (d *doctored) Gap(string) {}

// files tells of each file of master's and minion's configuration and keys, and of
// the master's sockets: what it is, and when it was last changed.
func (d *doctored) files(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, dir := range []string{filepath.Join(d.master.Dir, "etc"), filepath.Join(d.minion.Dir, "etc"),
		filepath.Dir(d.master.EventSocket())} {
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := entry.Info()
			if err != nil {
				return err
			}
			s := info.Sys().(*syscall.Stat_t)
			found[path] = fmt.Sprintf("inode %d, %v, %d bytes, owner %d:%d, written %v, changed %v", s.Ino, info.Mode(),
				s.Size, s.Uid, s.Gid, s.Mtim, s.Ctim)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

func (d *doctored) unchanged(t *testing.T) {
	t.Helper()
	after := d.files(t)
	for path, was := range d.before {
		if is := after[path]; is != was {
			t.Errorf("%s was %s, is %s", path, was, is)
		}
		delete(after, path)
	}
	for path := range after {
		t.Errorf("%s is new", path)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.tags) > 0 {
		t.Errorf("events on the bus: %v", d.tags)
	}
}

// look runs doctor as one would who has nothing but the binary, and gives what it
// found by check: of several by one check the worst.
func (d *doctored) look(t *testing.T, saltConfig string, code int) (map[string]doctor.Finding, time.Duration) {
	t.Helper()
	binary, err := lab.Binary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "doctor", "--json", "--salt-only", "--salt-config", saltConfig)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	begun := time.Now()
	out, err := cmd.Output()
	took := time.Since(begun)
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	var list []doctor.Finding
	if err := json.Unmarshal(out, &list); err != nil || cmd.ProcessState.ExitCode() != code {
		t.Fatalf("phoenix doctor: exit %d, %v\n%s", cmd.ProcessState.ExitCode(), err, out)
	}
	found := map[string]doctor.Finding{}
	for _, f := range list {
		if _, there := found[f.Check]; !there { // the worst come first
			found[f.Check] = f
		}
		if f.Severity != doctor.OK && f.Why == "" {
			t.Errorf("%s says %q, and not why", f.Check, f.What)
		}
	}
	return found, took
}

func expect(t *testing.T, found map[string]doctor.Finding, want map[string]doctor.Severity) {
	t.Helper()
	for check, severity := range want {
		if f := found[check]; f.Severity != severity {
			t.Errorf("%s is %q (%s), not %s", check, f.Severity, f.What, severity)
		}
	}
}
