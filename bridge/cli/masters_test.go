package cli

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/sqlite"
)

// masters makes a store with two ready masters, and gives what a command makes of
// it.
func masters(t *testing.T) (store *sqlite.Store, phoenix func(args ...string) (out string, code int)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fleet.db")
	store, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	for _, id := range []string{"salt-1", "salt-2"} {
		if _, err := store.Beat(t.Context(),
			fleet.Beat{InstanceID: id, IPAddr: "10.0.0.1", Incarnation: "1", Ready: true,
				Zone: "eu-west-1a"}); err != nil {
			t.Fatal(err)
		}
	}
	return store, func(args ...string) (string, int) {
		var out bytes.Buffer
		code := run(t.Context(), append([]string{"phoenix", "--store", "sqlite:" + path}, args...), &out, &out)
		return out.String(), code
	}
}

// beat has a master beat until the test ends.
func beat(t *testing.T, store fleet.Store, id string) {
	for t.Context().Err() == nil {
		_, _ = store.Beat(t.Context(), fleet.Beat{InstanceID: id, IPAddr: "10.0.0.1", Incarnation: "1", Ready: true,
			Zone: "eu-west-1a"})
		select {
		case <-t.Context().Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func TestMastersDrainAndRetire(t *testing.T) {
	store, phoenix := masters(t)
	row := func(id string) fleet.Master {
		t.Helper()
		rows, err := store.Masters(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range rows {
			if m.InstanceID == id {
				return m
			}
		}
		t.Fatalf("no row of %s", id)
		return fleet.Master{}
	}
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"drain"}, exitUsage, "which master? phoenix masters drain ID"},
		{[]string{"drain", "salt-1", "salt-2"}, exitUsage, "one master"},
		{[]string{"drain", "--self", "salt-2"}, exitUsage, "one master"},
		{[]string{"drain", "salt-3"}, exitNotFound, "salt-3"},
		{[]string{"drain", "salt-1"}, exitOK, "salt-1  drains: "},
		{[]string{"list"}, exitOK, "ready, drained"},
		{[]string{"drain", "--undo", "salt-1"}, exitOK, "is not draining any more"},
		{[]string{"drain", "--self", "--instance-id", "salt-2", "--json"}, exitOK, `"draining": true`},
		{[]string{"retire", "salt-3"}, exitNotFound, "salt-3"},
		{[]string{"retire", "salt-2"}, exitFailed, "was seen to beat"}, // salt-1 has died, and its row says ready
		{[]string{"beat", "salt-2"}, 0, ""},
		{[]string{"drain", "--undo", "salt-2"}, exitOK, "is not draining any more"},
		{[]string{"retire", "salt-1"}, exitOK, "is retired"},
		{[]string{"drain", "salt-2"}, exitOK, "salt-2  drains: "},
		{[]string{"retire", "salt-2"}, exitFailed, "no other master is ready (--force"},
		{[]string{"retire", "salt-2", "--force"}, exitOK, "is retired"},
		{[]string{"drain", "salt-2"}, exitFailed, "terminated"},
	} {
		if c.args[0] == "beat" {
			go beat(t, store, c.args[1])
			continue
		}
		out, code := phoenix(append([]string{"masters"}, c.args...)...)
		if code != c.code || !strings.Contains(out, c.says) {
			t.Errorf("masters %v: exit %d, want %d with %q:\n%s", c.args, code, c.code, c.says, out)
		}
	}
	if m := row("salt-1"); m.Draining || m.Status != fleet.Terminate {
		t.Errorf("%+v", m)
	}
	if m := row("salt-2"); !m.Draining || m.Ready || m.Status != fleet.Terminate {
		t.Errorf("%+v", m)
	}
	out, code := phoenix("masters", "list", "--json")
	var rows []fleet.Master
	if err := json.Unmarshal([]byte(out), &rows); err != nil || code != exitOK || len(rows) != 2 ||
		rows[0].Zone != "eu-west-1a" {
		t.Errorf("exit %d, %v: %s", code, err, out)
	}
}

func TestMasterState(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 1, 0, 0, time.UTC)
	at := func(ago time.Duration) string { return fleet.FormatTime(now.Add(-ago)) }
	for _, c := range []struct {
		row         fleet.Master
		state, seen string
	}{
		{fleet.Master{Status: fleet.Launch, Ready: true, Modified: at(4 * time.Second)}, "ready", "4s ago"},
		{fleet.Master{Status: fleet.Launch, Ready: true, Draining: true, Connected: 1, Modified: at(0)},
			"ready, draining", "0s ago"},
		{fleet.Master{Status: fleet.Launch, Ready: true, Draining: true, Modified: at(0)}, "ready, drained", "0s ago"},
		{fleet.Master{Status: fleet.Launch, Draining: true, Modified: at(0)}, "NOT READY, draining", "0s ago"},
		{fleet.Master{Status: fleet.Launch, Modified: at(-time.Minute)}, "NOT READY", "now"}, // another clock
		{fleet.Master{Status: fleet.Launch, Ready: true, Modified: at(31 * time.Second)},
			"STALE, no heartbeat from its bridge", "31s ago"},
		{fleet.Master{Status: fleet.Terminate, Modified: at(time.Hour)}, "terminated", ""},
		{fleet.Master{Status: fleet.Launch, Ready: true, Modified: at(12 * time.Second)}, "ready", "12s ago"},
		{fleet.Master{Status: fleet.Launch, Ready: true, Modified: at(13 * time.Second)}, "LATE, was ready", "13s ago"},
		{fleet.Master{Status: fleet.Launch, Modified: at(13 * time.Second)}, "LATE, was NOT READY", "13s ago"},
		{fleet.Master{Status: fleet.Launch, Ready: true, Modified: "odd"}, "ready", "odd"},
	} {
		if state, seen := masterState(c.row, 30*time.Second, now), seenAgo(c.row, now); state != c.state ||
			seen != c.seen {
			t.Errorf("%+v: %q, %q; want %q, %q", c.row, state, seen, c.state, c.seen)
		}
		c.row.Connected = 7
		known := c.row.Status == fleet.Launch && !strings.HasPrefix(c.state, "STALE")
		if n := connected(c.row, 30*time.Second, now); (n == "7") != known || !known && n != "" {
			t.Errorf("%+v: connected %q", c.row, n)
		}
	}
}
