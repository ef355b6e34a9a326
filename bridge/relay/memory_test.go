package relay

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func jid(n int) string { return fmt.Sprintf("20261126%012d", n) }

// TestG11_OnceEach: of all who take a job at the same time, one gets it.
func TestG11_OnceEach(t *testing.T) {
	m := newMemory(time.Now)
	var got atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range 1000 {
				if m.take(jid(i), ofMaster, digest{}) == fresh {
					got.Add(1)
				}
			}
		})
	}
	all.Wait()
	if got.Load() != 1000 {
		t.Errorf("1000 jobs were taken %d times", got.Load())
	}
}

// TestG11_FullMemoryTakesNothing: where a job cannot be remembered, it is not taken,
// rather than perhaps twice; and what is remembered stays so for as long as it matters.
func TestG11_FullMemoryTakesNothing(t *testing.T) {
	now := time.Now()
	m := newMemory(func() time.Time { return now })
	for i := range maxKept {
		if v := m.take(jid(i), ofMaster, digest{}); v != fresh {
			t.Fatalf("job %d: %v", i, v)
		}
	}
	if v := m.take(jid(maxKept), ofMaster, digest{}); v != crowded {
		t.Errorf("one more: %v", v)
	}
	now = now.Add(keptFor)
	if v := m.take(jid(0), ofMaster, digest{}); v != known {
		t.Errorf("the first after %v: %v", keptFor, v)
	}
	now = now.Add(time.Second)
	if v := m.take(jid(maxKept), ofMaster, digest{}); v != fresh {
		t.Errorf("one more, later: %v", v)
	}
	if len(m.jobs) != 1 || len(m.order) != 1 {
		t.Errorf("%d and %d are kept", len(m.jobs), len(m.order))
	}
}

// TestG11_Late: how late a message is does not depend on what the hosts' clocks say,
// and is never taken for less than it is by more than the hello may take.
func TestG11_Late(t *testing.T) {
	for _, apart := range []time.Duration{-24 * time.Hour, 0, time.Hour} {
		now := time.Now()
		ours := newClock(now)
		theirs := newClock(now.Add(apart))
		ours.observe(theirs.at(now.Add(apart+300*time.Millisecond)), now.Add(500*time.Millisecond)) // a hello on its way for 200 ms
		sent := theirs.at(now.Add(apart + time.Second))
		for late, want := range map[time.Duration]time.Duration{0: -200 * time.Millisecond, 6 * time.Second: 5800 * time.Millisecond} {
			if age := ours.age(sent, now.Add(time.Second+late)); (age - want).Abs() > 2*time.Millisecond {
				t.Errorf("clocks %v apart, %v late: %v, not %v", apart, late, age, want)
			}
		}
	}
}

// TestG11_JobIDsHaveOneMaster: under one job id there may be several loads (Salt 3008's
// batch mode), all of the master that had it first.
func TestG11_JobIDsHaveOneMaster(t *testing.T) {
	now := time.Now()
	m := newMemory(func() time.Time { return now })
	part := func(tgt string) digest { return digestOfLoad(asRaw(map[string][]byte{"tgt": packed(tgt)})) }
	for i, c := range []struct {
		whose, tgt string
		want       verdict
	}{
		{"m2", "web-1", fresh}, {"m2", "web-1", known}, {"m2", "web-2", fresh},
		{ofMaster, "web-1", known}, // heard here, since it was published here
		{ofMaster, "web-3", known}, {"m3", "web-3", known}, {ofPhoenix, "web-3", known},
		{"m2", "web-3", fresh},
	} {
		if got := m.take(jid(1), c.whose, part(c.tgt)); got != c.want {
			t.Errorf("%d: %v, not %v", i, got, c.want)
		}
	}
	for range 3 { // as long as there is something new of it, nothing of it is forgotten
		now = now.Add(keptFor / 2)
		m.take(jid(1), "m2", part(now.String()))
	}
	if got := m.take(jid(1), "m2", part("web-1")); got != known {
		t.Errorf("after a while: %v", got)
	}
	now = now.Add(2 * keptFor)
	m.take(jid(2), "m2", part("web-1"))
	if m.loads != 1 || len(m.jobs) != 1 {
		t.Errorf("%d loads of %d jobs are kept", m.loads, len(m.jobs))
	}
}
