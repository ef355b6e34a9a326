package e2e_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "modernc.org/sqlite" // to hold the store's lock

	"phoenix/bridge/service"
	"phoenix/lab"
)

// retries is how often the bridge must be seen to try again.
const retries = 3

// TestG8_FaultsCostTime: what may come right again makes the service wait and
// try again, and say why; a command ends with one line and a code of its own.
// Once it is right again, the minions that came meanwhile are served, once.
func TestG8_FaultsCostTime(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	master := l.StartMaster(lab.MasterOptions{Version: lab.Salt3007})
	bridge := l.NewBridge(lab.BridgeOptions{Master: master})
	f := faults{fixture{l, master, bridge}}
	master.Ready()
	f.absentMaster(t)
	f.otherBridge(t)
	f.rootKey(t)
	f.lockedStore(t)
	f.closedBus(t)
	if !bridge.Alive() {
		t.Fatalf("the bridge ended\n%s", bridge.Tail())
	}
}

type faults struct{ fixture }

// absentMaster: the bridge comes first, as it may when a machine boots.
func (f faults) absentMaster(t *testing.T) {
	t.Helper()
	f.master.RequestAuth("by-hand", lab.UnknownKey())
	f.master.Kill()
	f.bridge.Phoenix("minions", "add", "web-1")
	f.bridge.Start()
	f.says(t, 0, "event bus not connected", "is salt-master running")
	f.fails(t, 5, "is salt-master running?", "keys", "accept", "by-hand")
	f.master.Start()
	f.master.Ready()
	f.bridge.Ready()
	f.lab.Eventually(within, "the key of by-hand is accepted, as it was asked for", func() (bool, string) {
		return f.master.HasAccepted("by-hand"), f.bridge.Tail()
	})
}

// otherBridge: two bridges would be one master to all others.
func (f faults) otherBridge(t *testing.T) {
	t.Helper()
	f.fails(t, 8, "running already", "bridge")
	f.bridge.Ready()
}

// rootKey: salt_config names another master than the one that runs, or so it
// looks.
func (f faults) rootKey(t *testing.T) {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(f.master.Dir, "var", "cache", "salt", "master", "."+me.Username+"_key")
	right, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	overwrite(t, path, strings.Repeat("x", len(right)))
	from := len(f.bridge.Log())
	minion := f.lab.StartMinion(lab.MinionOptions{ID: "web-1", Masters: []*lab.Master{f.master}})
	f.says(t, from, "work delayed", "refuses the root key", "salt_config") // once: it is not said again while it stays
	f.heldUp(retries)
	f.master.RequestAuth("by-hand-2", lab.UnknownKey())
	f.fails(t, 6, "refuses the root key", "keys", "accept", "by-hand-2")
	// A comparison may have written the key of web-1: it was bound before the master refused.
	if f.master.HasAccepted("by-hand-2") {
		t.Errorf("accepted without the root key: %v", f.master.Accepted())
	}
	overwrite(t, path, string(right))
	f.ran(t, minion, 1)
}

// heldUp waits until work was tried again n times and could not be done, and says why
// in its status.
func (f faults) heldUp(n int64) {
	count := func() (report service.Report) {
		var status struct {
			Bridge service.Report `json:"bridge"`
		}
		f.bridge.JSON(&status, "status")
		return status.Bridge
	}
	before := count().Counts.HeldUp
	f.lab.Eventually(within, "work was tried again", func() (bool, string) {
		now := count()
		return now.Counts.HeldUp >= before+n && strings.Contains(now.Engine.Fault, "refuses the root key"),
			fmt.Sprintf("%+v", now.Engine)
	})
}

// lockedStore: a process that was stopped holds the lock of the store.
func (f faults) lockedStore(t *testing.T) {
	t.Helper()
	f.bridge.Phoenix("minions", "add", "web-2")
	db, err := sql.Open("sqlite", filepath.Join(f.lab.Dir(), "fleet.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	lock, err := db.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	for _, statement := range []string{"PRAGMA busy_timeout = 20000", "BEGIN IMMEDIATE"} {
		if _, err := lock.ExecContext(context.Background(), statement); err != nil {
			t.Fatal(err)
		}
	}
	from := len(f.bridge.Log())
	minion := f.lab.StartMinion(lab.MinionOptions{ID: "web-2", Masters: []*lab.Master{f.master}})
	f.fails(t, 3, "has held the lock", "minions", "add", "web-3")
	f.says(t, from, "heartbeat not written", "lock")
	f.says(t, from, "work delayed", "lock")
	if f.master.HasAccepted("web-2") {
		t.Error("accepted, though the key could not be bound")
	}
	if _, err := lock.ExecContext(context.Background(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	f.ran(t, minion, 1)
}

// closedBus: a bridge that runs as somebody else waits for the right to read the
// bus, and needs no restart to use it.
func (f faults) closedBus(t *testing.T) {
	t.Helper()
	h := newHost(t)
	h.reset(t, "")
	// Its own key store, and the bus of the real master.
	bus := filepath.Dir(f.master.EventSocket())
	// Salt passes over a sock_dir that is longer than cachedir by more than ten.
	h.write("master", fmt.Sprintf("root_dir: /\npki_dir: %s/pki\ncachedir: %s/cache\nuser: root\nsock_dir: %s\n",
		h.dir, bus, bus))
	for dir := bus; strings.HasPrefix(dir, f.lab.Dir()); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(f.master.EventSocket(), 0); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(h.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := h.command(ctx, "bridge")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); _ = cmd.Wait() }()
	waitFor(f.lab, log.Name(), 0, "event bus not connected", "permission denied", "run as the master's user")
	if err := os.Chmod(f.master.EventSocket(), 0o666); err != nil {
		t.Fatal(err)
	}
	waitFor(f.lab, log.Name(), 0, "event bus connected")
}

// fails runs a command that must end with that code, and one line that says so.
func (f faults) fails(t *testing.T, code int, says string, args ...string) {
	t.Helper()
	out, stderr, got := f.bridge.Try(args...)
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	last := lines[len(lines)-1]
	if got != code || out != "" || !strings.HasPrefix(last, "phoenix: ") || !strings.Contains(last, says) {
		t.Errorf("phoenix %s: exit %d, not %d\n%s%s", strings.Join(args, " "), got, code, out, stderr)
	}
}

// says waits until the bridge logs one line, from there on, that has all the
// parts, and returns where it ends.
func (f faults) says(t *testing.T, from int, parts ...string) (to int) {
	t.Helper()
	return waitFor(f.lab, filepath.Join(f.bridge.Dir, "log"), from, parts...)
}

func waitFor(l *lab.Lab, path string, from int, parts ...string) (to int) {
	l.Eventually(within, fmt.Sprintf("the bridge says %q", parts), func() (bool, string) {
		text, err := os.ReadFile(path)
		if err != nil {
			return false, err.Error()
		}
		at := from
		for line := range strings.Lines(string(text[from:])) {
			at += len(line)
			if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) }) {
				to = at
				return true, ""
			}
		}
		return false, string(text[from:])
	})
	return to
}

func overwrite(t *testing.T, path, text string) {
	t.Helper()
	// Salt's mode is 0400; who is not root cannot write that.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o400); err != nil {
		t.Fatal(err)
	}
}
