package health

import (
	"context"
	"log/slog"
	"strings"
	"time"
)

// Metadata reads one path of the instance's metadata (IMDSv2), below
// /latest/meta-data. found is false where there is nothing, as for a spot
// interruption that nobody has announced.
type Metadata func(ctx context.Context, path string) (text string, found bool, err error)

// What an instance's metadata says of its own end.
const (
	pathLifecycle = "autoscaling/target-lifecycle-state" // of instances of a group
	pathSpot      = "spot/instance-action"               // two minutes before
	pathRebalance = "events/recommendations/rebalance"   // sooner, at a higher risk
	pathZone      = "placement/availability-zone"        // constant
	stateTerminal = "Terminated"                         // what AutoScaling is about to make of it
	leavingEvery  = 5 * time.Second                      // AWS advises it for spot interruptions
	leavingMost   = time.Minute                          // where the metadata does not answer
	leavingWithin = 3 * time.Second                      // it answers within milliseconds
)

// Leaving says why the instance is about to end; empty: nothing says that it is.
func Leaving(ctx context.Context, get Metadata) (why string, err error) {
	for _, is := range []struct {
		path string
		says func(text string) string
	}{
		{pathLifecycle, func(state string) string {
			if strings.TrimSpace(state) == stateTerminal {
				return "AutoScaling terminates this instance"
			}
			return ""
		}},
		{pathSpot, func(string) string { return "EC2 interrupts this spot instance" }},
		{pathRebalance, func(string) string { return "EC2 recommends to replace this spot instance" }},
	} {
		text, found, err := read(ctx, get, is.path)
		if err != nil {
			return "", err
		}
		if found {
			if why := is.says(text); why != "" {
				return why, nil
			}
		}
	}
	return "", nil
}

// Zone is the instance's availability zone; empty: it does not say.
func Zone(ctx context.Context, get Metadata) (string, error) {
	text, _, err := read(ctx, get, pathZone)
	return strings.TrimSpace(text), err
}

func read(ctx context.Context, get Metadata, path string) (string, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, leavingWithin)
	defer cancel()
	return get(ctx, path)
}

// WatchInstance reads the instance's metadata until ctx ends: zone is told once,
// and leave as soon as the instance is about to end, again until that succeeds.
func WatchInstance(ctx context.Context, get Metadata, zone func(string), leave func(ctx context.Context, why string) error, log *slog.Logger) error {
	placed, left, failing := false, false, false
	for {
		err := func() error {
			if !placed {
				where, err := Zone(ctx, get)
				if err != nil {
					return err
				}
				placed = true
				zone(where)
			}
			if left {
				return nil
			}
			why, err := Leaving(ctx, get)
			if err != nil || why == "" {
				return err
			}
			if err := leave(ctx, why); err != nil {
				log.Error("this master is about to end, and its row does not say so yet", "reason", why, "err", err)
				return nil
			}
			left = true
			return nil
		}()
		if ctx.Err() != nil {
			return nil
		}
		wait := leavingEvery
		if err != nil {
			if !failing {
				log.Warn("instance metadata does not answer: that the instance ends is heard of by messages alone", "err", err)
			}
			wait = leavingMost
		}
		failing = err != nil
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}
