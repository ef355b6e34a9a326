package swarm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// RequestAuth sends one auth request for each id, as fast as the master answers them, and
// stays for none: the keys are left pending, or accepted. told is told of each
// answer, by several goroutines.
func RequestAuth(ctx context.Context, addr string, ids []string, told func(id string)) error {
	m, err := newMaster(addr, time.Minute)
	if err != nil {
		return fmt.Errorf("request authentication: %w", err)
	}
	keys, err := newKeys(1)
	if err != nil {
		return fmt.Errorf("request authentication: %w", err)
	}
	working, stop := context.WithCancel(ctx)
	queue := make(chan string)
	var mu sync.Mutex
	var failed []error
	var requesting, serving sync.WaitGroup
	for range requestConns {
		serving.Go(func() { m.work(working) })
		requesting.Go(func() {
			for id := range queue {
				// What the master decides is not of interest; that it answered is.
				if _, _, err := m.auth(ctx, id, keys[0], ""); err != nil {
					mu.Lock()
					failed = append(failed, fmt.Errorf("request authentication of %s: %w", id, err))
					mu.Unlock()
					continue
				}
				told(id)
			}
		})
	}
	for _, id := range ids {
		if ctx.Err() != nil {
			break
		}
		queue <- id
	}
	close(queue)
	requesting.Wait()
	stop()
	serving.Wait()
	if len(failed) > 0 {
		return fmt.Errorf("%d of %d: %w", len(failed), len(ids), errors.Join(failed[:min(len(failed), 3)]...))
	}
	return ctx.Err()
}
