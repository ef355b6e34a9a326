package main

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/sqlite"
	"phoenix/bridge/salt"
	"phoenix/lab"
)

// known is how many other minions the fleet has, for each way to look one up in.
const known = 1000

// knockers is how many knocks are on their way at a time: more than the master
// has workers, so that none of them waits for us.
const knockers = 5

// knocksWithin bounds 200 knocks: one takes some 10 ms of a worker.
const knocksWithin = time.Minute

// newcomers are the minions that are expected: the fleet's one file.
type newcomers struct {
	s    *stage
	path string
	db   *sqlite.Store
}

func newFleet(s *stage, l *lab.Lab) *newcomers {
	path := filepath.Join(l.Dir(), "fleet.db")
	db, err := sqlite.Open(context.Background(), path)
	s.check(err)
	s.Cleanup(func() { db.Close() })
	f := &newcomers{s: s, path: path, db: db}
	f.expect(ids("known", known))
	return f
}

func (f *newcomers) store() string { return "sqlite:" + f.path }

// ids makes n names.
func ids(name string, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%s-%d", name, i)
	}
	return ids
}

// expect lists ids in the fleet, as "phoenix minions add" does.
func (f *newcomers) expect(ids []string) {
	changes := make([]fleet.Change, len(ids))
	for i, id := range ids {
		changes[i] = fleet.Add{InstanceID: id, MinionID: id}
	}
	apply(f.s, f.db, changes)
}

func apply(s *stage, db *sqlite.Store, changes []fleet.Change) {
	results, err := db.Apply(context.Background(), changes)
	s.check(err)
	for _, r := range results {
		s.check(r.Err)
	}
}

// knock has all ids knock, each with a key of its own, and gives when the first
// of them did. The keys are made before.
func knock(s *stage, master *lab.Master, ids []string) (begun time.Time) {
	type caller struct{ id, key string }
	callers := make(chan caller, len(ids))
	for _, id := range ids {
		callers <- caller{id, lab.StrangerKey()}
	}
	close(callers)
	faults := make(chan error, len(ids))
	var wg sync.WaitGroup
	begun = time.Now()
	for range min(knockers, len(ids)) {
		wg.Go(func() {
			for c := range callers {
				faults <- master.TryKnock(c.id, c.key)
			}
		})
	}
	wg.Wait()
	close(faults)
	for err := range faults {
		s.check(err)
	}
	return begun
}

// wheel is the master as the bridge calls it.
func wheel(s *stage, master *lab.Master) *salt.Master {
	config, err := salt.ReadConfig(master.ConfigPath())
	s.check(err)
	m, err := salt.NewMaster(config)
	s.check(err)
	return m
}
