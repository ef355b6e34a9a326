package relay

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"phoenix/bridge/salt"
)

// Cache is the minion data cache of the master; see salt.DataCache.
type Cache interface {
	List() (map[string]int64, error)
	Stamp(id string) int64
	Read(id string) (salt.MinionData, int64, error)
	Write(id string, data salt.MinionData, seen, stamp int64) error
}

const (
	// scanEvery is how often the cache is read for changes that no event announces: the
	// mine, and all of it where minion_data_cache_events is off.
	scanEvery = 10 * time.Second
	// scanSoon is how long after an event it is read.
	scanSoon = time.Second
	// scanShare bounds what reading takes: one part in so many of the time.
	scanShare = 20
	// minionEvery bounds how often the data of one minion is offered as changed: a minion
	// can have its master write it at any rate.
	minionEvery = 10 * time.Second
	// maxIndex bounds the minions that one message offers.
	maxIndex = 5000
)

// share gives other masters what this one's data cache holds of minions, and takes what
// theirs hold. A master decides by its cache which minions a target by grains, pillar or
// mine means; without this it would expect nothing of minions that connect elsewhere.
//
// What a master's cache holds is offered to each peer when that connects (an index), and
// later what the master wrote (a change). The peer asks for what it wants. Of an index it
// wants what it does not have, or has from an earlier time. This compares the clocks of
// two hosts. What is stamped ahead of this host's clock replaces nothing until the clock
// has reached the stamp: it is written here with the time of its arrival, so every index
// would make it appear to be newer, and be transferred again. So wrong clocks cost old
// grains until then, or until the next change. A change it always wants: the minion has
// just spoken to that master.
type share struct {
	cache Cache
	now   func() time.Time
	log   *slog.Logger
	wake  chan struct{}

	mu      sync.Mutex
	stamps  map[string]int64     // of the cache, as they were offered; nil: it was not read yet
	offered map[string]time.Time // of the minions that changed within minionEvery: when
	fault   error                // why it was not read
}

func newShare(cache Cache, now func() time.Time, log *slog.Logger) *share {
	return &share{cache: cache, now: now, log: log, wake: make(chan struct{}, 1), offered: map[string]time.Time{}}
}

// hint has the cache read soon.
func (s *share) hint() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run offers changes until ctx ends. index asks for an index for peers that have had none.
func (s *share) run(ctx context.Context, changed func(map[string]int64), each func()) {
	for ctx.Err() == nil {
		began := time.Now()
		stamps, first := s.scan()
		if first {
			changed(nil)
		} else if len(stamps) > 0 {
			changed(stamps)
		}
		each()
		took := time.Since(began)
		soon := time.After(max(scanSoon, scanShare*took))
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(scanEvery, scanShare*took)):
			continue
		case <-s.wake:
		}
		select {
		case <-ctx.Done():
		case <-soon:
		}
	}
}

// scan returns what the master wrote since the last scan. first: there was none.
func (s *share) scan() (changes map[string]int64, first bool) {
	list, err := s.cache.List()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		if s.fault == nil {
			s.log.Warn("relay: minion data cache not read; changes are not shared", "err", err)
		}
		s.fault = err
		return nil, false
	}
	s.fault = nil
	if s.stamps == nil {
		s.stamps = list
		return nil, true
	}
	now := s.now()
	maps.DeleteFunc(s.offered, func(_ string, at time.Time) bool { return now.Sub(at) >= minionEvery })
	changes = map[string]int64{}
	for id, stamp := range list {
		if stamp == s.stamps[id] {
			continue
		}
		if _, lately := s.offered[id]; lately {
			list[id] = s.stamps[id] // the next scan sees it again
			continue
		}
		if stamp = s.cache.Stamp(id); stamp == 0 || stamp == s.stamps[id] { // a peer's, written during the scan
			list[id] = s.stamps[id]
			continue
		}
		list[id], changes[id], s.offered[id] = stamp, stamp, now
	}
	s.stamps = list
	return changes, false
}

// index returns all stamps; nil: the cache was not read yet.
func (s *share) index() map[string]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.stamps)
}

// needs reports whether a peer's data is wanted, and the stamp of what is here.
func (s *share) needs(id string, o offer) (here int64, yes bool) {
	here = s.cache.Stamp(id)
	if o.fresh {
		return here, here != o.stamp
	}
	if here != 0 && o.stamp > s.now().UnixNano() {
		return here, false
	}
	return here, here < o.stamp
}

// write takes a peer's data.
func (s *share) write(id string, data salt.MinionData, seen, stamp int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.cache.Write(id, data, seen, stamp)
	if err == nil && s.stamps != nil {
		s.stamps[id] = stamp
	}
	if errors.Is(err, salt.ErrDataChanged) { // the minion has just spoken to this master
		return nil
	}
	return err
}

func (s *share) status() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault != nil {
		return s.fault.Error()
	}
	return ""
}

// parts divides what is offered into messages.
func parts(like message, stamps map[string]int64) []message {
	var list []message
	for id, stamp := range stamps {
		if n := len(list); n == 0 || len(list[n-1].Stamps) == maxIndex {
			m := like
			m.Stamps = map[string]int64{}
			list = append(list, m)
		}
		list[len(list)-1].Stamps[id] = stamp
	}
	return list
}
