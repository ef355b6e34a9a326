package main

import (
	"context"
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"phoenix/lab"
)

// seed is the system of 2015, as far as it accepts keys: a reactor on each knock,
// which calls a runner, which scans the table for the minion and accepts its key.
//
//go:embed seed
var seed embed.FS

const (
	// fewer is measured first, and stands in if the crowd takes too long.
	fewer = 50
	// giveUp bounds the whole of a crowd.
	giveUp = 4 * time.Minute
)

// way2015 measures a crowd by the way of 2015, on a master of its own.
func way2015(ctx context.Context, s *stage, t *table, f *newcomers, l *lab.Lab, ours time.Duration) {
	dir := filepath.Join(l.Dir(), "seed")
	for _, name := range []string{"auth.sls", "key_runner.py"} {
		text, err := seed.ReadFile("seed/" + name)
		s.check(err)
		s.check(os.MkdirAll(dir, 0o755))
		s.check(os.WriteFile(filepath.Join(dir, name), text, 0o644))
	}
	master := l.StartMaster(lab.MasterOptions{Version: version, Extra: map[string]any{
		"reactor":     []any{map[string]any{"salt/auth": []string{filepath.Join(dir, "auth.sls")}}},
		"runner_dirs": []string{dir},
		"fleet_table": f.path,
	}})
	master.Ready()
	e := listen(ctx, s, master)
	// The reactor starts on its own, and its first call imports much.
	warm := f.ids("warm", 1)
	f.expect(warm)
	knock(s, master, warm)
	if _, missing := e.wait(e.accepted, warm, perKey); missing > 0 {
		s.Fatalf("the reactor accepts no key\n%s", master.Tail())
	}
	for _, n := range []int{fewer, crowd} {
		ids := f.ids(fmt.Sprintf("seed%d", n), n)
		f.expect(ids)
		begun := knock(s, master, ids)
		at, missing := e.wait(e.accepted, ids, giveUp)
		took := at.Sub(begun)
		s.Logf("the way of 2015, %d keys: %s, %d missing", n, show(took), missing)
		switch {
		case missing > 0:
			t.note(fmt.Sprintf("%d keys by the way of 2015", n), "", fmt.Sprintf("%d accepted in %v", n-missing, giveUp))
		case n == crowd:
			t.atLeast(fmt.Sprintf("%d keys, against the way of 2015", n), ours, took, 25)
		default:
			t.note(fmt.Sprintf("%d keys by the way of 2015", n), "", show(took))
		}
	}
	master.Stop()
}
