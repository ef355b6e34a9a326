package admin

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"phoenix/bridge/api"
	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/sqlite"
	"phoenix/bridge/service"
)

// before is a store whose masters, or one of them, last wrote their rows some time ago.
type before struct {
	fleet.Store
	ago time.Duration
	id  string // empty: all
}

func (s before) Masters(ctx context.Context) ([]fleet.Master, error) {
	masters, err := s.Store.Masters(ctx)
	for i := range masters {
		if s.id == "" || s.id == masters[i].InstanceID {
			masters[i].Modified = fleet.FormatTime(time.Now().Add(-s.ago))
		}
	}
	return masters, err
}

// twoMasters is a store with two masters that are ready.
func twoMasters(t *testing.T) *sqlite.Store {
	t.Helper()
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "fleet.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	for _, id := range []string{"salt-1", "salt-2"} {
		if _, err := store.Beat(t.Context(),
			fleet.Beat{InstanceID: id, IPAddr: "10.0.0.1", Incarnation: "1", Ready: true}); err != nil {
			t.Fatal(err)
		}
	}
	return store
}

// TestCheckOfMasterThatDoesNotWrite: where the bridge of this machine runs and cannot write,
// the check says why, and no command to start it.
func TestCheckOfMasterThatDoesNotWrite(t *testing.T) {
	dir := t.TempDir()
	store := twoMasters(t)
	cfg := config.Default()
	cfg.InstanceID, cfg.Socket = "salt-1", filepath.Join(dir, "s")
	a := Admin{Config: cfg, Store: before{store, time.Minute, ""}}
	says := func(id, want, not string) {
		t.Helper()
		c, err := a.CheckMaster(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		why := strings.Join(c.Why, "\n")
		if c.Safe || c.Connected != nil || !strings.Contains(why, want) || strings.Contains(why, not) {
			t.Errorf("%s: safe %v, want %q and no %q:\n%s", id, c.Safe, want, not, why)
		}
	}
	says("salt-1", "no bridge answers on "+cfg.Socket+" (systemctl start phoenix-bridge)", "that machine")
	says("salt-2", "phoenix status on that machine", "systemctl start")

	l, err := api.Listen(cfg.Socket, -1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- api.Serve(ctx, l, api.Bridge{Invalidate: func([]string) {}, Restore: func([]string) {},
			Release: func(context.Context) ([]string, error) { return nil, nil },
			Status: func(bool) any {
				return service.Report{InstanceID: "salt-1",
					NotReady: "the heartbeat does not reach the store: database or disk is full"}
			}})
	}()
	says("salt-1", "database or disk is full", "systemctl start")
	stop()
	<-done
}

// TestCheckDoesNotCountALateMaster: a master that was killed seconds ago has a row that says
// ready.
func TestCheckDoesNotCountALateMaster(t *testing.T) {
	store := twoMasters(t)
	cfg := config.Default()
	cfg.InstanceID, cfg.Socket = "salt-1", filepath.Join(t.TempDir(), "s")
	for ago, safe := range map[time.Duration]bool{time.Second: true, 14 * time.Second: false} {
		c, err := Admin{Config: cfg, Store: before{store, ago, "salt-2"}}.CheckMaster(t.Context(), "salt-1")
		if err != nil {
			t.Fatal(err)
		}
		if c.Safe != safe || safe != (len(c.Ready) == 1) ||
			!safe && !strings.Contains(strings.Join(c.Why, "\n"), "no heartbeat of theirs came for 12s: salt-2") {
			t.Errorf("last heartbeat %v ago: %+v", ago, c)
		}
	}
}
