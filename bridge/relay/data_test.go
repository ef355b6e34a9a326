package relay

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"phoenix/bridge/fleet"
)

// TestOffersOfRemovedPeersGo: a peer that is no longer in the table, or has another
// address, leaves no offers behind.
func TestOffersOfRemovedPeersGo(t *testing.T) {
	for name, change := range map[string]func(m *fleet.Master){
		"terminated":    func(m *fleet.Master) { m.Status = fleet.Terminate },
		"other address": func(m *fleet.Master) { m.Relay = "127.0.0.1:1" },
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{t: t, caches: true, accepted: func(string) bool { return false }}
			w.before = func(c *memoryCache) {
				for i := range 10 {
					c.master(fmt.Sprint("web-", i), "x")
				}
			}
			w.add("m1", ours)
			w.before = nil
			w.with("m2")
			m2 := w.sides[1]
			w.waitFor("m2 has the offers", func() bool { return m2.offers() == 10 })
			m2.Relay.mu.Lock()
			old := m2.peers["m1"]
			m2.Relay.mu.Unlock()
			w.mu.Lock()
			change(&w.rows[0])
			w.mu.Unlock()
			w.waitFor("the offers are gone", func() bool { return m2.offers() == 0 })
			// A connection of the removed peer that was just being made begins nothing.
			m2.changed(old, nil)
			m2.fetches.offered("m1", map[string]int64{"web-1": 1}, false)
			if n := m2.offers(); n != 0 {
				t.Errorf("%d offers of a removed peer", n)
			}
		})
	}
}

// TestAnswersOfOneConnection: a peer that connects again, while its earlier connection is
// not over, gets the answer to each of its questions on the connection that asks. The race
// detector sees the two connections share what they should not.
func TestAnswersOfOneConnection(t *testing.T) {
	w := &world{t: t, caches: true}
	w.before = func(c *memoryCache) { c.master("web-1", "x") }
	m1 := w.add("m1", ours)
	for n := range 5 {
		l, err := fakePeer(t, m1.Status().Listen, "m9")
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := l.send(message{Kind: kindWant, IDs: []string{"web-1"}}); err != nil {
				t.Fatal(err)
			}
			for {
				m, err := l.read()
				if err != nil {
					t.Fatalf("connection %d: %v", n, err)
				}
				if m.Kind == kindData {
					if m.ID != "web-1" || len(m.Values) == 0 {
						t.Errorf("connection %d: %+v", n, m)
					}
					break
				}
			}
		}
	}
}

// sharing is a relay that does not run, with an empty data cache, and a peer m1 to which it
// is connected.
func sharing(t *testing.T, now func() time.Time, accepted func(string) bool) (*Relay, *memoryCache) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	s, c := &side{}, newMemoryCache()
	r, err := New(Options{Instance: "m2", Listener: l, Member: s, Publisher: s, Pair: ours, Cache: c,
		Accepted: accepted, Now: now,
		Masters: func(context.Context) ([]fleet.Master, error) { return nil, nil }})
	if err != nil {
		t.Fatal(err)
	}
	r.fetches.begin("m1")
	return r, c
}

// TestPeerWhoseClockIsAhead: its data is taken once, and again when it says that it changed,
// not with each index.
func TestPeerWhoseClockIsAhead(t *testing.T) {
	clock := time.Now()
	r, c := sharing(t, func() time.Time { return clock }, func(string) bool { return true })
	ahead := clock.Add(time.Hour).UnixNano()
	// offered returns how many questions an offer causes, and answers them.
	offered := func(stamp int64, fresh bool) int {
		r.offersData("m1", message{Kind: kindHave, Stamps: map[string]int64{"web-1": stamp}, Fresh: fresh})
		ids := r.fetches.next("m1")
		for _, id := range ids {
			r.takesData("m1", message{Kind: kindData, ID: id, Stamp: stamp,
				Values: asRaw(map[string][]byte{"grains": packed("x")})})
		}
		return len(ids)
	}
	for i, step := range []struct {
		after time.Duration
		stamp int64
		fresh bool
		want  int
	}{
		{0, ahead, false, 1}, // nothing is here
		{indexEvery, ahead, false, 0},
		{indexEvery, ahead, false, 0},
		{0, ahead + 1, true, 1}, // a change
		{indexEvery, ahead + 1, false, 0},
		{time.Hour, ahead + 1, false, 1}, // no longer ahead
		{indexEvery, ahead + 1, false, 0},
	} {
		clock = clock.Add(step.after)
		if n := offered(step.stamp, step.fresh); n != step.want {
			t.Errorf("step %d: asked %d times, want %d", i, n, step.want)
		}
		if here := c.Stamp("web-1"); here > clock.UnixNano() {
			t.Errorf("step %d: its stamp is ahead by %v", i, time.Duration(here-clock.UnixNano()))
		}
	}
}

// TestKeyDeletedBeforeAnswer: data of a minion whose key was deleted between the question
// and the answer is not written.
func TestKeyDeletedBeforeAnswer(t *testing.T) {
	key := true
	r, c := sharing(t, time.Now, func(string) bool { return key })
	stamp := time.Now().UnixNano()
	ask := func() {
		t.Helper()
		r.offersData("m1", message{Kind: kindHave, Stamps: map[string]int64{"web-1": stamp}})
		if ids := r.fetches.next("m1"); len(ids) != 1 {
			t.Fatalf("asked for %v", ids)
		}
	}
	answer := message{Kind: kindData, ID: "web-1", Stamp: stamp,
		Values: asRaw(map[string][]byte{"grains": packed("x")})}
	ask()
	key = false
	r.takesData("m1", answer)
	if c.writes() != 0 || r.Status().DataTaken != 0 {
		t.Errorf("%d writes for a minion without a key", c.writes())
	}
	// The next index brings it when the key is there again.
	key = true
	ask()
	r.takesData("m1", answer)
	if c.writes() != 1 {
		t.Errorf("%d writes for a minion with a key", c.writes())
	}
}
