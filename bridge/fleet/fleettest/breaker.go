package fleettest

import (
	"context"
	"fmt"
	"reflect"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"phoenix/bridge/fleet"
)

func breakersOf(t *testing.T, s fleet.Store) fleet.Breakers {
	t.Helper()
	b := fleet.BreakersOf(inner(s))
	if b == nil {
		t.Fatalf("%T keeps no record of the circuit breaker", s)
	}
	return b
}

// breaker: what is written is read as it was, the write of one that read an older
// record changes nothing, and one who asks again after its answer was lost has written.
func breaker(t *testing.T, ctx context.Context, s fleet.Store) {
	b := breakersOf(t, s)
	if last, err := b.LastBreaker(ctx); err != nil || !reflect.DeepEqual(last, fleet.Breaker{}) || last.Open() {
		t.Fatalf("at first %+v, %v", last, err)
	}
	open := fleet.Breaker{Version: 1, Writer: "i-m1", Opened: "2026-01-02T03:04:05.000Z", OpenedBy: "i-m1",
		Reason: "2 of the last 3 \"failed\" – ü",
		Last: []fleet.BreakerResult{{InstanceID: "i-1", JID: "1", Failed: true}, {InstanceID: "i-2", JID: "2"},
			{InstanceID: "i-3", JID: "3", Failed: true}}}
	closed := fleet.Breaker{Version: 2, Writer: "root", Resumed: "2026-01-02T03:05:05.000Z", ResumedBy: "root"}
	for _, next := range []fleet.Breaker{open, closed} {
		for range 2 { // the second: its answer was lost
			if now, mine, err := b.WriteBreaker(ctx, next); err != nil || !mine || !reflect.DeepEqual(now, next) {
				t.Errorf("wrote %+v, mine %v, %v; want %+v", now, mine, err, next)
			}
		}
		if last, err := b.LastBreaker(ctx); err != nil || !reflect.DeepEqual(last, next) {
			t.Errorf("read %+v, %v; want %+v", last, err, next)
		}
	}
	for _, version := range []int64{0, 1, 2, 4} {
		if now, mine, err := b.WriteBreaker(ctx, fleet.Breaker{Version: version, Writer: "i-m2"}); err != nil || mine ||
			!reflect.DeepEqual(now, closed) {
			t.Errorf("version %d over 2: %+v, mine %v, %v", version, now, mine, err)
		}
	}
	if err := listed(ctx, s, fleet.Launch, 0, func(string) bool { return false }); err != nil {
		t.Errorf("the record is taken for a minion: %v", err)
	}
}

// breakerRaces: of results that many masters record at once, none is lost.
func breakerRaces(t *testing.T, ctx context.Context, s fleet.Store) {
	b := breakersOf(t, s)
	const masters, each = 4, 5
	var conflicts atomic.Int64
	var group errgroup.Group
	for m := range masters {
		group.Go(func() error {
			for i := range each {
				for {
					next, err := b.LastBreaker(ctx)
					if err != nil {
						return err
					}
					next.Version, next.Writer = next.Version+1, fmt.Sprintf("i-m%d", m)
					next.Last = append(next.Last, fleet.BreakerResult{InstanceID: fmt.Sprintf("i-%d-%d", m, i),
						Failed: true})
					_, mine, err := b.WriteBreaker(ctx, next)
					if err != nil {
						return err
					}
					if mine {
						break
					}
					conflicts.Add(1)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	last, err := b.LastBreaker(ctx)
	names := map[string]bool{}
	for _, r := range last.Last {
		names[r.InstanceID] = true
	}
	if err != nil || last.Version != masters*each || len(names) != masters*each || len(last.Last) != masters*each {
		t.Errorf("%+v, %v, after %d conflicts", last, err, conflicts.Load())
	}
}
