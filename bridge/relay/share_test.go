package relay

import (
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"phoenix/bridge/salt"
)

// memoryCache stands for the files of a master's data cache, which package salt tests.
type memoryCache struct {
	mu      sync.Mutex
	data    map[string]salt.MinionData
	stamps  map[string]int64
	written int // by the relay
	lists   int
}

func newMemoryCache() *memoryCache {
	return &memoryCache{data: map[string]salt.MinionData{}, stamps: map[string]int64{}}
}

func (c *memoryCache) List() (map[string]int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lists++
	return maps.Clone(c.stamps), nil
}

func (c *memoryCache) Stamp(id string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stamps[id]
}

func (c *memoryCache) Read(id string) (salt.MinionData, int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.data[id] == nil {
		return nil, 0, salt.ErrNoData
	}
	return c.data[id], c.stamps[id], nil
}

func (c *memoryCache) Write(id string, data salt.MinionData, seen, stamp int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stamps[id] != seen {
		return salt.ErrDataChanged
	}
	c.data[id], c.stamps[id] = data, stamp
	c.written++
	return nil
}

// master writes as the master does when a minion has asked for its pillar.
func (c *memoryCache) master(id, grains string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.data[id] = salt.MinionData{salt.DataGrains: packed(map[string]any{"grain": grains})}
	c.stamps[id] = max(time.Now().UnixNano(), c.stamps[id]+1)
}

func (c *memoryCache) has(id, grains string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.data[id][salt.DataGrains]) == string(packed(map[string]any{"grain": grains}))
}

// refreshed says on the bus that the master wrote data, as it does.
func (s *side) refreshed(id string) {
	s.Event(eventOf("minion/refresh/"+id, map[string]any{"Minion data cache refresh": id}))
}

// TestDataIsShared: what a master's data cache holds of minions, the others' hold, too;
// what it held before they were there, and what it writes later. Nothing goes round.
func TestDataIsShared(t *testing.T) {
	w := &world{t: t, caches: true}
	m1 := w.add("m1", ours)
	for i := range 500 {
		m1.cache.master(fmt.Sprint("old-", i), "before")
	}
	w.with("m2", "m3")
	m2, m3 := w.sides[1], w.sides[2]
	w.waitFor("the others have all", func() bool { return len(m2.cache.all()) == 500 && len(m3.cache.all()) == 500 })
	for _, s := range []*side{m2, m3} {
		if !s.cache.has("old-7", "before") {
			t.Errorf("%s has %v", s.name, s.cache.data["old-7"])
		}
	}
	m2.cache.master("old-7", "moved")
	m2.refreshed("old-7")
	w.waitFor("the others have the change",
		func() bool { return m1.cache.has("old-7", "moved") && m3.cache.has("old-7", "moved") })
	// Of a change, each one knows where the minion is.
	for _, s := range []*side{m1, m3} {
		s.records.mu.Lock()
		at, _ := s.records.lastSeen.get("old-7")
		s.records.mu.Unlock()
		if at != "m2" {
			t.Errorf("%s saw it last on %q", s.name, at)
		}
	}
	w.waitFor("another scan", func() bool { m1.refreshed("x"); return m1.scans() > 2 })
	if m1.cache.writes() != 1 || m2.cache.writes() != 500 || m3.cache.writes() != 501 {
		t.Errorf("the relay wrote %d, %d, %d", m1.cache.writes(), m2.cache.writes(), m3.cache.writes())
	}
}

// TestDataOfUnknownMinions: without a key here, a minion's data does not come; with it,
// it does. What this master knows from a later time stays, unless the minion spoke to the
// other one since.
func TestDataOfUnknownMinions(t *testing.T) {
	w := &world{t: t, caches: true}
	m1 := w.add("m1", ours)
	m1.cache.master("web-1", "old")
	m1.cache.master("web-2", "there")
	m1.cache.stamps["web-1"] -= int64(time.Hour)
	var mu sync.Mutex
	keys := map[string]bool{"web-1": true}
	w.accepted = func(id string) bool { mu.Lock(); defer mu.Unlock(); return keys[id] }
	w.before = func(c *memoryCache) { c.master("web-1", "own") }
	w.with("m2")
	m2 := w.sides[1]
	m1.cache.master("web-3", "new")
	m1.refreshed("web-3")
	w.waitFor("m2 was offered it", func() bool { return m2.offers() == 2 })
	if !m2.cache.has("web-1", "own") || m2.cache.writes() != 0 {
		t.Errorf("m2 has %v", m2.cache.all())
	}
	mu.Lock()
	keys["web-2"] = true
	mu.Unlock()
	m2.refreshed("x") // scans
	w.waitFor("m2 has that of the minion whose key it has now", func() bool { return m2.cache.has("web-2", "there") })
	if m2.cache.has("web-3", "new") {
		t.Error("m2 has data of a minion whose key it does not have")
	}
	m1.cache.master("web-1", "moved")
	m1.cache.mu.Lock()
	m1.cache.stamps["web-1"] -= int64(time.Hour) // its clock is behind
	m1.cache.mu.Unlock()
	m1.refreshed("web-1")
	w.waitFor("m2 has what the minion said last", func() bool { return m2.cache.has("web-1", "moved") })
}

// TestG7_DataIsBounded: what a peer offers, and what a minion has its master write.
func TestG7_DataIsBounded(t *testing.T) {
	clock := time.Now()
	f := newFetches(func(string, offer) (int64, bool) { return 0, true }, func(id string) bool { return id[0] == 'k' },
		func() time.Time { return clock })
	f.begin("m2")
	f.begin("m3")
	f.begin("m4")
	for n := range 5 {
		stamps := map[string]int64{}
		for i := range maxOffers / 4 {
			stamps[fmt.Sprint("x", n, "-", i)] = 1
		}
		f.offered("m2", stamps, false)
		f.offered("m4", stamps, false)
		if n == 2 && f.size != 2*maxOffersOfOne {
			t.Errorf("%d offers of two peers", f.size)
		}
		f.offered("m3", stamps, false)
	}
	if f.size != maxOffers || len(f.peers["m2"].offers) != maxOffersOfOne {
		t.Errorf("%d offers, %d of one peer", f.size, len(f.peers["m2"].offers))
	}
	f.end("m2")
	f.end("m4")
	f.begin("m3")
	f.offered("m3", map[string]int64{"../x": 1, "": 1, "k": -1}, false)
	if f.size != 0 {
		t.Errorf("%d offers", f.size)
	}
	stamps := map[string]int64{}
	for i := range 200 {
		stamps[fmt.Sprint("k", i)] = 1
	}
	f.offered("m3", stamps, false)
	if ids := f.next("m3"); len(ids) != maxOpen {
		t.Errorf("%d are asked for at a time", len(ids))
	}
	if _, ok := f.came("m2", "k1"); ok {
		t.Error("another peer's answer counts")
	}
	// A question that is not answered, or could not be sent, is asked again.
	f.again()
	if ids := f.next("m3"); len(ids) != 0 {
		t.Errorf("%d are asked for besides", len(ids))
	}
	clock = clock.Add(answerWithin + time.Second)
	f.again()
	ids := f.next("m3")
	if len(ids) != maxOpen || len(f.open) != maxOpen {
		t.Errorf("%d are asked for again, %d are open", len(ids), len(f.open))
	}
	f.unasked("m3", ids)
	f.again()
	if again := f.next("m3"); len(again) != maxOpen || len(f.open) != maxOpen || f.size != 200-maxOpen {
		t.Errorf("%d are asked for once more, %d are open, %d are offered", len(again), len(f.open), f.size)
	}

	c := newMemoryCache()
	now := time.Now()
	s := newShare(c, func() time.Time { return now }, silent)
	s.scan()
	for range 5 {
		c.master("web-1", "x")
		changes, _ := s.scan()
		now = now.Add(time.Second)
		if len(changes) != 0 && now.Sub(s.offered["web-1"]) != time.Second {
			t.Errorf("changes at any rate: %v", changes)
		}
	}
	now = now.Add(minionEvery)
	if changes, _ := s.scan(); len(changes) != 1 {
		t.Errorf("the last change is lost: %v", changes)
	}
}
