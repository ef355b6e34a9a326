package relay

import (
	"fmt"
	"testing"

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
			m1 := w.add("m1", ours)
			for i := range 10 {
				m1.cache.master(fmt.Sprint("web-", i), "x")
			}
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
	m1 := w.add("m1", ours)
	m1.cache.master("web-1", "x")
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
