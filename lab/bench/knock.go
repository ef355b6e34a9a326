package main

import (
	"sync"
	"time"

	"phoenix/bridge/salt"
	"phoenix/lab"
)

// knockers is how many knocks are on their way at a time: more than the master
// has workers, so that none of them waits for us.
const knockers = 5

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
