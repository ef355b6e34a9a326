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

// aMinuteAgo is a store whose masters last wrote their rows a minute ago.
type aMinuteAgo struct{ fleet.Store }

func (s aMinuteAgo) Masters(ctx context.Context) ([]fleet.Master, error) {
	masters, err := s.Store.Masters(ctx)
	for i := range masters {
		masters[i].Modified = fleet.FormatTime(time.Now().Add(-time.Minute))
	}
	return masters, err
}

// TestCheckOfMasterThatDoesNotWrite: where the bridge of this machine runs and cannot write,
// the check says why, and no command to start it.
func TestCheckOfMasterThatDoesNotWrite(t *testing.T) {
	dir := t.TempDir()
	store, err := sqlite.Open(t.Context(), filepath.Join(dir, "fleet.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for _, id := range []string{"salt-1", "salt-2"} {
		if _, err := store.Beat(t.Context(), fleet.Beat{InstanceID: id, IPAddr: "10.0.0.1", Incarnation: "1", Ready: true}); err != nil {
			t.Fatal(err)
		}
	}
	cfg := config.Default()
	cfg.InstanceID, cfg.Socket = "salt-1", filepath.Join(dir, "s")
	a := Admin{Config: cfg, Store: aMinuteAgo{store}}
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
		done <- api.Serve(ctx, l, api.Bridge{Invalidate: func([]string) {}, Restore: func([]string) {}, Release: func(context.Context) ([]string, error) { return nil, nil },
			Status: func() any {
				return service.Report{InstanceID: "salt-1", NotReady: "the heartbeat does not reach the store: database or disk is full"}
			}})
	}()
	says("salt-1", "database or disk is full", "systemctl start")
	stop()
	<-done
}
