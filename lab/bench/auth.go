package main

import (
	"sync"
	"time"

	"phoenix/bridge/salt"
	"phoenix/lab"
)

// askers is how many auth requests are on their way at a time: more than the master
// has workers, so that none of them waits for us.
const askers = 5

// requestAuth sends an auth request of each id, each with a key of its own, and gives when the first
// of them did. The keys are made before.
func requestAuth(s *runner, master *lab.Master, ids []string) (begun time.Time) {
	type caller struct{ id, key string }
	callers := make(chan caller, len(ids))
	for _, id := range ids {
		callers <- caller{id, lab.UnknownKey()}
	}
	close(callers)
	faults := make(chan error, len(ids))
	var wg sync.WaitGroup
	begun = time.Now()
	for range min(askers, len(ids)) {
		wg.Go(func() {
			for c := range callers {
				faults <- master.TryRequestAuth(c.id, c.key)
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
func wheel(s *runner, master *lab.Master) *salt.Master {
	config, err := salt.ReadConfig(master.ConfigPath())
	s.check(err)
	m, err := salt.NewMaster(config)
	s.check(err)
	return m
}
