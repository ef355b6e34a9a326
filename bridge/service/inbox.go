package service

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"phoenix/bridge/event"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
)

// The limits of what waits while an engine is blocked (the store does not answer).
// Past that, details are dropped and everything is compared instead. Any accepted
// minion can send returns of any size, so that those are bounded in bytes.
const (
	// maxWaiting bounds ids and returns, each.
	maxQueued = 20_000
	// maxReturned bounds the bodies of returns, all together.
	maxReturned = 16 << 20
	// maxBody bounds each, after it was reduced to what is decided on: a list of the
	// jobs that run on a minion is the longest.
	maxBody = 64 << 10
)

// maxID is longer than any id that Phoenix lets in (id_pattern), and bounds what
// a hostile event can make us keep.
const maxID = 255

// Inbox gathers what happened since the engine last drained it. The bus fills it,
// never waiting; the engine empties it.
type Inbox struct {
	wake chan struct{} // holds one token while there is something to do

	mu      sync.Mutex
	ids     map[string]bool // ids to check; true: the minion has just connected here
	returns map[returnKey]event.Return
	bytes   int                     // of the bodies of returns
	invalid map[string]bool         // ids whose row somebody else has changed
	upserts map[string]fleet.Minion // rows that were written past the engine, by instance
	restore map[string]bool         // ids whose known key an admin wants back
	gap     string                  // why everything must be compared; empty: no need
	dropped int64
	jids    map[string]struct{} // our jobs, whose returns are read
	awaited map[string]struct{} // ids whose connection matters: their highstate is wanted
	authed  map[string]struct{} // those of them that have authenticated here
}

// returnKey is what a minion returns once.
type returnKey struct{ jid, id string }

// NewInbox returns an empty Inbox.
func NewInbox() *Inbox {
	return &Inbox{
		wake:    make(chan struct{}, 1),
		ids:     map[string]bool{},
		returns: map[returnKey]event.Return{},
		invalid: map[string]bool{},
		restore: map[string]bool{},
		upserts: map[string]fleet.Minion{},
		jids:    map[string]struct{}{},
		awaited: map[string]struct{}{},
		authed:  map[string]struct{}{},
	}
}

// Wake delivers one token after each filling.
func (in *Inbox) Wake() <-chan struct{} { return in.wake }

// Event records one event of the bus (see bus.Handler). Any accepted minion can
// put any event there, so an event is a hint: ids in tag and data must agree,
// and nothing but the id is believed.
func (in *Inbox) Event(e event.Event) {
	switch e.Kind {
	case event.KindAuth:
		// A minion that is let in already re-authenticates often, all of them at
		// once after each deletion of a key: its keys need no check.
		if a, err := e.Auth(); err == nil && a.Act != "accept" {
			in.Enqueue(a.ID, false)
		} else if err == nil {
			in.authenticated(a.ID)
		}
	case event.KindKey:
		if k, err := e.Key(); err == nil {
			in.Enqueue(k.ID, false)
		}
	case event.KindStart:
		if s, err := e.Start(); err == nil {
			in.Enqueue(s.ID, true)
		}
	case event.KindReturn:
		if !in.subscribed(e.JID) {
			return
		}
		if r, err := e.Return(); err == nil {
			r.Body = briefBody(r)
			in.Return(r)
		}
	}
}

// Gap says that events may have been missed (see bus.Handler).
func (in *Inbox) Gap(reason string) {
	in.mu.Lock()
	in.gap = reason
	in.mu.Unlock()
	in.signal()
}

// Enqueue asks the engine to check one minion.
func (in *Inbox) Enqueue(id string, connected bool) {
	if id == "" || len(id) > maxID {
		return
	}
	in.mu.Lock()
	if _, there := in.ids[id]; there || len(in.ids) < maxQueued {
		in.ids[id] = in.ids[id] || connected
	} else {
		in.overflowed()
	}
	in.mu.Unlock()
	in.signal()
}

// Invalidate says that somebody else (an admin's command) changed rows.
func (in *Inbox) Invalidate(ids []string) {
	in.mu.Lock()
	for _, id := range ids {
		delete(in.upserts, id)
		if len(in.invalid) < maxQueued {
			in.invalid[id] = true
		} else {
			in.overflowed()
		}
	}
	in.mu.Unlock()
	for _, id := range ids {
		in.Enqueue(id, false)
	}
}

// Upsert records rows that another part of this bridge wrote: the engine need not
// read them.
func (in *Inbox) Upsert(rows []fleet.Minion) {
	in.mu.Lock()
	for _, row := range rows {
		if len(in.upserts) < maxQueued {
			in.upserts[row.InstanceID] = row
		} else {
			in.overflowed()
		}
	}
	in.mu.Unlock()
	for _, row := range rows {
		in.Enqueue(row.InstanceID, false)
	}
}

// briefBody is as much of the body of a return as anything is decided on, apart from
// the frame that it came in.
func briefBody(r event.Return) []byte {
	body := salt.Brief(r.Fun, r.Body)
	if len(body) > maxBody {
		return nil
	}
	return slices.Clone(body)
}

// Restore asks the engine to write known keys as accepted again that were deleted
// here by hand: an admin's word.
func (in *Inbox) Restore(ids []string) {
	in.mu.Lock()
	for _, id := range ids {
		if len(in.restore) < maxQueued {
			in.restore[id] = true
		} else {
			in.overflowed()
		}
	}
	in.mu.Unlock()
	in.signal()
}

// authenticated records that a minion whose connection is awaited has authenticated. One
// whose connection to the publish port is still open sends no start event after that
// (salt/channel/client.py, 3006 to 3008).
func (in *Inbox) authenticated(id string) {
	in.mu.Lock()
	_, awaited := in.awaited[id]
	if awaited {
		in.authed[id] = struct{}{}
	}
	in.mu.Unlock()
	if awaited {
		in.signal()
	}
}

// Return records the return of a job of ours. A minion may return twice; the
// first return is kept.
func (in *Inbox) Return(r event.Return) {
	key := returnKey{r.JID, r.ID}
	in.mu.Lock()
	_, there := in.returns[key]
	switch {
	case there:
	case len(in.returns) < maxQueued && in.bytes+len(r.Body) <= maxReturned:
		in.returns[key] = r
		in.bytes += len(r.Body)
	default:
		in.overflowed()
	}
	in.mu.Unlock()
	in.signal()
}

// overflowReason is the reason of a comparison that stands for what was dropped.
const overflowReason = "too much waited for the engine"

func (in *Inbox) overflowed() {
	in.dropped++
	in.gap = overflowReason
}

// overflow counts what the engine could not keep.
func (in *Inbox) overflow(n int) {
	in.mu.Lock()
	in.dropped += int64(n)
	in.mu.Unlock()
}

func (in *Inbox) signal() {
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

// inboxBatch is what has gathered.
type inboxBatch struct {
	ids     map[string]bool
	returns []event.Return
	invalid map[string]bool
	upserts map[string]fleet.Minion
	restore map[string]bool
	authed  map[string]struct{}
	gap     string
}

func (in *Inbox) drain() inboxBatch {
	in.mu.Lock()
	defer in.mu.Unlock()
	// the same work gives the same calls
	returns := slices.SortedFunc(maps.Values(in.returns), func(a, b event.Return) int {
		return cmp.Or(cmp.Compare(a.JID, b.JID), cmp.Compare(a.ID, b.ID))
	})
	w := inboxBatch{ids: in.ids, returns: returns, invalid: in.invalid, upserts: in.upserts, restore: in.restore,
		authed: in.authed, gap: in.gap}
	in.ids, in.invalid, in.upserts, in.gap = map[string]bool{}, map[string]bool{}, map[string]fleet.Minion{}, ""
	in.restore, in.authed = map[string]bool{}, map[string]struct{}{}
	in.returns, in.bytes = map[returnKey]event.Return{}, 0
	return w
}

// waiting says how much has gathered, and how much was ever dropped.
func (in *Inbox) waiting() (n int, dropped int64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.ids) + len(in.returns), in.dropped
}

// subscribe has the returns of a jid read. It must be called before the publish:
// a minion may answer before the master's answer to the publish is here.
func (in *Inbox) subscribe(jid string) {
	in.mu.Lock()
	in.jids[jid] = struct{}{}
	in.mu.Unlock()
}

// await has the engine be told when a minion has authenticated here.
func (in *Inbox) await(id string) {
	in.mu.Lock()
	in.awaited[id] = struct{}{}
	in.mu.Unlock()
}

// subscribeOnly forgets all other jids, and all other ids that are awaited.
func (in *Inbox) subscribeOnly(jids, awaited map[string]struct{}) {
	in.mu.Lock()
	in.jids, in.awaited = maps.Clone(jids), maps.Clone(awaited)
	in.mu.Unlock()
}

func (in *Inbox) subscribed(jid []byte) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	_, ours := in.jids[string(jid)]
	return ours
}
