package fleettest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"phoenix/bridge/fleet"
)

const racers = 8

// race runs f for each racer at the same time.
func race(f func(racer int)) {
	start := make(chan struct{})
	var wg sync.WaitGroup
	for r := range racers {
		wg.Go(func() {
			<-start
			f(r)
		})
	}
	close(start)
	wg.Wait()
}

// concurrentClaims: of all who saw the same version, one gets the claim. In odd
// rounds the claim is taken over, in even ones a new attempt begins.
func concurrentClaims(t *testing.T, ctx context.Context, s fleet.Store) {
	const minions, rounds = 10, 4
	var history History
	s = history.Watch(s)
	for m := range minions {
		id := fmt.Sprintf("i-%08x", m)
		row, err := fleet.ApplyOne(ctx, s, fleet.Add{InstanceID: id})
		if err != nil {
			t.Fatal(err)
		}
		for round := range rounds {
			results := [racers]fleet.Result{}
			race(func(r int) {
				c := fleet.Claim{InstanceID: id, From: row.ClaimVersion, Owner: fmt.Sprintf("m%d", r),
					Incarnation: fmt.Sprint(round), JID: fmt.Sprintf("j%d-%d-%d", m, round, r),
					Attempt: row.Attempt + 1}
				if row.ClaimState == fleet.Claimed {
					c.JID, c.Attempt = row.ClaimJID, row.Attempt
				}
				results[r].Row, results[r].Err = fleet.ApplyOne(ctx, s, c)
			})
			row = oneWinner(t, results, row)
			history.Published(row.InstanceID, row.ClaimVersion, row.ClaimOwner, row.ClaimJID, row.Attempt)
			if round%2 == 1 {
				row, err = fleet.ApplyOne(ctx, s,
					fleet.Finish{InstanceID: id, JID: row.ClaimJID, Outcome: fleet.Erred, Retcode: 1})
				if err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := history.Check(); err != nil {
		t.Error(err)
	}
}

func oneWinner(t *testing.T, results [racers]fleet.Result, before fleet.Minion) fleet.Minion {
	t.Helper()
	won, winner := 0, fleet.Minion{}
	for _, r := range results {
		switch {
		case r.Err == nil:
			won, winner = won+1, r.Row
		case !errors.Is(r.Err, fleet.ErrConflict):
			t.Errorf("claim lost with %v", r.Err)
		}
	}
	if won != 1 {
		t.Fatalf("%d claimers of %s won", won, before.InstanceID)
	}
	if winner.ClaimVersion != before.ClaimVersion+1 {
		t.Errorf("version went from %d to %d", before.ClaimVersion, winner.ClaimVersion)
	}
	return winner
}

// concurrentBeats: no beat is lost.
func concurrentBeats(t *testing.T, ctx context.Context, s fleet.Store) {
	const each = 10
	race(func(int) {
		for range each {
			if _, err := s.Beat(ctx, fleet.Beat{InstanceID: "i-m1"}); err != nil {
				t.Error(err)
			}
		}
	})
	rows, err := s.Masters(ctx)
	if err != nil || len(rows) != 1 || rows[0].Heartbeat != racers*each {
		t.Errorf("%d beats gave %+v (%v)", racers*each, rows, err)
	}
}
