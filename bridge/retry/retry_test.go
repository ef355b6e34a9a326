package retry

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestBackoff(t *testing.T) {
	b := Backoff{100 * time.Millisecond, time.Second}
	var last time.Duration
	for i, want := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
		want *= time.Millisecond
		if last = b.Next(last); last != want {
			t.Errorf("wait %d is %v, want %v", i, last, want)
		}
		if after := b.After(i + 1); after != want {
			t.Errorf("wait after %d failures is %v, want %v", i+1, after, want)
		}
	}
	for failures, want := range map[int]time.Duration{-1: b.First, 0: b.First, 1 << 40: b.Most} {
		if after := b.After(failures); after != want {
			t.Errorf("wait after %d failures is %v, want %v", failures, after, want)
		}
	}
	// A limit that falls holds at once.
	if next := (Backoff{b.First, 150 * time.Millisecond}).Next(time.Second); next != 150*time.Millisecond {
		t.Errorf("wait under a lower limit is %v", next)
	}
}

func TestRandomWaits(t *testing.T) {
	const d = time.Second
	jitters, spreads := map[time.Duration]bool{}, map[time.Duration]bool{}
	for range 1000 {
		j, s := Jitter(d), Spread(d, 0.2)
		if j < d/2 || j > d || s < d*8/10 || s > d*12/10 {
			t.Fatalf("jitter %v, spread %v of %v", j, s, d)
		}
		jitters[j], spreads[s] = true, true
	}
	if len(jitters) < 100 || len(spreads) < 100 {
		t.Errorf("%d different jitters and %d different spreads of 1000", len(jitters), len(spreads))
	}
	if Jitter(0) != 0 || Jitter(1) > 1 {
		t.Error("the shortest waits are not bounded")
	}
}

func TestSleepEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		if !Sleep(ctx, time.Second) || time.Since(start) != time.Second {
			t.Errorf("slept for %v", time.Since(start))
		}
		if Sleep(ctx, time.Hour) || time.Since(start) != time.Minute {
			t.Errorf("the context ended after %v", time.Since(start))
		}
		if Sleep(ctx, time.Hour) {
			t.Error("sleeps although the context has ended")
		}
	})
}
