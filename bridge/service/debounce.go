package service

import (
	"context"
	"time"
)

// The end of a burst of events; see debounce.
const (
	// debouncePause is longer than the time between two asks to be accepted of many minions: 2 ms, which
	// is what a master takes one in, and some more where it is short of cores.
	debouncePause = 20 * time.Millisecond
	// debounceMost bounds what the first of many minions waits for the last. Longer than
	// that, places that became free would wait for a whole wave of returns.
	debounceMost = 100 * time.Millisecond
)

// debounce waits for the end of a rush: until nothing has come in for a moment, or
// for long enough. Were each step to take the few that asked during the last
// one, many minions would cost the master many calls, and it is slower then to take
// in the rest: 200 keys took 1.5 times as long.
func (in *Inbox) debounce(ctx context.Context) {
	most := time.NewTimer(debounceMost)
	defer most.Stop()
	pause := time.NewTimer(debouncePause)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-most.C:
			return
		case <-pause.C:
			return
		case <-in.wake:
			pause.Reset(debouncePause)
		}
	}
}
