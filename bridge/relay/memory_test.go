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
		// a hello on its way for 200 ms
		ours.observe(theirs.at(now.Add(apart+300*time.Millisecond)), now.Add(500*time.Millisecond), true)
		sent := theirs.at(now.Add(apart + time.Second))
		for late, want := range map[time.Duration]time.Duration{0: -200 * time.Millisecond,
			6 * time.Second: 5800 * time.Millisecond} {
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

// TestG11_ClocksThatDrift: a clock that runs 500 ppm slow, or one that stood still for
// an hour with its host, makes no job late for longer than two minutes; and a
// connection that has become slow does not become the measure.
func TestG11_ClocksThatDrift(t *testing.T) {
	begun := time.Now()
	now, theirs, ours := begun, time.Duration(0), newClock(begun)
	at := func() int64 { return theirs.Milliseconds() }
	run := func(d time.Duration, ppm int64, transit time.Duration) {
		for end := now.Add(d); now.Before(end); {
			now = now.Add(pingEvery)
			theirs += pingEvery - pingEvery*time.Duration(ppm)/1e6
			ours.observe(at(), now.Add(transit), transit <= helloWithin)
		}
	}
	run(time.Minute, 0, time.Millisecond)
	run(24*time.Hour, 500, time.Millisecond)
	if age := ours.age(at(), now); age > time.Second {
		t.Errorf("a clock that is slow: a job of now is %v late", age)
	}
	now = now.Add(time.Hour) // theirs stood still
	run(2*clockBucket+2*pingEvery, 0, time.Millisecond)
	if age := ours.age(at(), now); age > time.Second {
		t.Errorf("a clock that stood still: a job of now is %v late", age)
	}
	run(time.Hour, 0, 8*time.Second)
	if age := ours.age(at(), now.Add(8*time.Second)); age < lateAfter {
		t.Errorf("a job that came after 8 s is %v late", age)
	}
}

// TestClockIsMeasuredAgain: pings tell how long they took.
func TestClockIsMeasuredAgain(t *testing.T) {
	c := newClock(time.Now())
	for _, x := range []struct {
		asked, held, now int64
		want             bool
	}{{0, 0, 1000, false}, {5000, 2990, 8000, true}, {5000, 0, 8000, false}, {5000, -9000, 8000, false}} {
		if got := c.answered(x.asked, x.held, c.began.Add(time.Duration(x.now)*time.Millisecond)); got != x.want {
			t.Errorf("%+v: %v", x, got)
		}
	}
}

// TestPingsMeasureTheClock: a peer's second ping tells how long it took.
func TestPingsMeasureTheClock(t *testing.T) {
	w := newWorld(t, "m1")
	m1 := w.sides[0]
	l, err := fakePeer(t, m1.Status().Listen, "m2")
	if err != nil {
		t.Fatal(err)
	}
	var clock *clock
	w.waitFor("m2 is there", func() bool {
		m1.Relay.mu.Lock()
		defer m1.Relay.mu.Unlock()
		g := m1.askers["m2"]
		if g != nil && g.link != nil {
			clock = g.link.clock
		}
		return clock != nil
	})
	clock.mu.Lock()
	clock.current.sure = false
	clock.mu.Unlock()
	w.waitFor("the clock is measured", func() bool {
		if err := l.ping(); err != nil {
			t.Fatal(err)
		}
		if _, err := l.read(); err != nil {
			t.Fatal(err)
		}
		clock.mu.Lock()
		defer clock.mu.Unlock()
		return clock.current.sure
	})
}
