package main

import (
	"context"
	"embed"
	"os"
	"path/filepath"
	"time"

	"phoenix/lab"
)

// seed is the system of 2015, as far as it accepts keys: a reactor on each auth request,
// which calls a runner, which scans the table for the minion and accepts its key.
//
//go:embed seed
var seed embed.FS

const (
	// oldRounds: one takes 10 s and more, and none begins after oldFor.
	oldRounds = 3
	oldFor    = 75 * time.Second
	// giveUp bounds one of them.
	giveUp = time.Minute
)

// baseline2015 is a master that accepts keys by the way of 2015.
type baseline2015 struct {
	s      *runner
	fleet  *roster
	master *lab.Master
	events *events
}

func startBaseline2015(s *runner, l *lab.Lab, r *roster) *baseline2015 {
	dir := filepath.Join(l.Dir(), "seed")
	s.check(os.CopyFS(l.Dir(), seed))
	return &baseline2015{s: s, fleet: r,
		master: l.StartMaster(lab.MasterOptions{Version: version, Workers: 3, Extra: map[string]any{
			"reactor":     []any{map[string]any{"salt/auth": []string{filepath.Join(dir, "auth.sls")}}},
			"runner_dirs": []string{dir},
			"fleet_table": r.path,
		}})}
}

// ready waits until a key was accepted: the reactor starts on its own, and its
// first call imports much.
func (o *baseline2015) ready(ctx context.Context) {
	o.master.Ready()
	o.events = listen(ctx, o.s, o.master)
	if _, ok := o.crowd(ids("warm", 1)); !ok {
		o.s.Fatalf("the reactor accepts no key\n%s", o.master.Tail())
	}
}

// crowd sends auth requests of all ids, and says how long it took until all were accepted, or
// that they were not in time.
func (o *baseline2015) crowd(ids []string) (took time.Duration, ok bool) {
	o.fleet.expect(ids)
	begun := requestAuth(o.s, o.master, ids)
	last, missing := o.events.wait(o.events.accepted, ids, giveUp)
	if missing > 0 {
		o.s.Logf("%d keys by the way of 2015: %d not accepted within %v", len(ids), missing, giveUp)
		return giveUp, false
	}
	took = last.Sub(begun)
	o.s.Logf("%d keys by the way of 2015: %s", len(ids), show(took))
	return took, true
}
