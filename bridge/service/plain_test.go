package service

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	"phoenix/bridge/decide"
	"phoenix/bridge/event"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
)

// plain is a Salt master that does at once what it is asked, for tests of what
// the engine makes of a store: faults and delays are the simulator's.
type plain struct {
	keys      map[salt.State]map[string][]byte
	published []salt.Job
}

func newPlain() *plain {
	p := &plain{keys: map[salt.State]map[string][]byte{}}
	for _, state := range []salt.State{salt.Accepted, salt.Pending, salt.Rejected, salt.Denied} {
		p.keys[state] = map[string][]byte{}
	}
	return p
}

func (p *plain) Accept(_ context.Context, ids []string) error {
	for _, id := range ids {
		p.keys[salt.Accepted][id] = p.keys[salt.Pending][id]
		delete(p.keys[salt.Pending], id)
	}
	return nil
}

func (p *plain) Delete(_ context.Context, keys map[salt.State][]string) error {
	for state, ids := range keys {
		for _, id := range ids {
			delete(p.keys[state], id)
		}
	}
	return nil
}

func (p *plain) Publish(_ context.Context, j salt.Job) ([]string, error) {
	p.published = append(p.published, j)
	return j.Targets, nil
}

func (p *plain) Ping(_ context.Context, _ string, ids []string) ([]string, error) { return ids, nil }

func (p *plain) Ask(context.Context, string, salt.Question, []string) error { return nil }

func (p *plain) List() (salt.Listing, error) {
	ids := func(state salt.State) []string { return slices.Sorted(maps.Keys(p.keys[state])) }
	return salt.Listing{Accepted: ids(salt.Accepted), Pending: ids(salt.Pending), Rejected: ids(salt.Rejected),
		Denied: ids(salt.Denied)}, nil
}

func (p *plain) Read(id string, state salt.State) ([]byte, error) {
	if text, found := p.keys[state][id]; found {
		return text, nil
	}
	return nil, salt.ErrNoKey
}

func (p *plain) Version(string, salt.State) (salt.FileVersion, error) { return salt.FileVersion{}, nil }

func (p *plain) UnlinkPending(id string, _ []byte) error {
	delete(p.keys[salt.Pending], id)
	return nil
}

func (p *plain) WriteAccepted(keys map[string][]byte) (written []string, _ map[string]error, _ error) {
	maps.Copy(p.keys[salt.Accepted], keys)
	return slices.Sorted(maps.Keys(keys)), nil, nil
}

// knock sends one auth request of a minion with a key, as Salt handles it.
func (p *plain) knock(id string, key []byte) {
	if _, known := p.keys[salt.Accepted][id]; !known {
		p.keys[salt.Pending][id] = key
	}
}

// beating is a heartbeat that reaches the store.
type beating struct{ minions *int } // that it counts; nil: nobody asks

func (beating) LeaseValid(time.Time) bool                  { return true }
func (beating) Draining() bool                             { return false }
func (beating) OwnerLiveness(fleet.Minion) decide.Liveness { return decide.Beating }
func (beating) SetQueued(int)                              {}
func (beating) Changed() <-chan struct{}                   { return nil }

func (b beating) SetMinions(n int) {
	if b.minions != nil {
		*b.minions = n
	}
}

// rig is an engine whose clock stands until a test moves it.
type rig struct {
	t      *testing.T
	salt   *plain
	store  fleet.Store
	inbox  *Inbox
	engine *Engine
	clock  time.Time
	told   []string // of problems and blocked stages, by status

	minions int // that the heartbeat counts
}

func newRig(t *testing.T, store fleet.Store, edit func(*Config)) *rig {
	return newRigOn(t, newPlain(), store, edit)
}

func newRigOn(t *testing.T, p *plain, store fleet.Store, edit func(*Config)) *rig {
	r := &rig{t: t, salt: p, store: store, inbox: NewInbox(), clock: time.Now()}
	cfg := Config{InstanceID: "i-0000000000000000a", Incarnation: "1", Admit: decide.Bound,
		ValidID:   func(string) bool { return true },
		Highstate: decide.Policy{Enabled: true, Attempts: 3, Lease: 30 * time.Second}, Function: "state.highstate",
		Concurrency: 10,
		ResyncEvery: 1000 * time.Hour, PollEvery: 1000 * time.Hour, UnknownFor: time.Minute}
	edit(&cfg)
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	r.engine = NewEngine(cfg, store, r.salt, r.salt, beating{&r.minions}, r.inbox, NewAudit(log),
		func() time.Time { return r.clock }, log)
	r.step() // warm, compare, poll
	return r
}

// step lets the engine work until it waits for something.
func (r *rig) step() {
	r.t.Helper()
	r.engine.Step(r.t.Context())
	if held := r.engine.Status().Fault; held != "" {
		r.t.Fatal(held)
	}
}

// pass lets time pass.
func (r *rig) pass(d time.Duration) { r.clock = r.clock.Add(d) }

// knocks: the minion sends an auth request, and the bridge receives its event.
func (r *rig) knocks(id string, key []byte) {
	r.t.Helper()
	r.salt.knock(id, key)
	r.inbox.Enqueue(id, false)
	r.step()
}

// apply is another writer, which notifies this bridge.
func (r *rig) apply(c fleet.Change) {
	r.t.Helper()
	if _, err := fleet.ApplyOne(r.t.Context(), r.store, c); err != nil {
		r.t.Fatal(err)
	}
	r.inbox.Invalidate([]string{c.Instance()})
}

// returns: the minion returns the job that was published last.
func (r *rig) returns(id string) {
	r.t.Helper()
	if len(r.salt.published) == 0 {
		r.t.Fatal("nothing was published")
	}
	job := r.salt.published[len(r.salt.published)-1]
	r.inbox.Return(event.Return{ID: id, JID: job.JID, Fun: "state.highstate"})
	r.step()
}

func (r *rig) row(instance string) fleet.Minion {
	r.t.Helper()
	rows, err := r.store.Minions(r.t.Context(), []string{instance})
	if err != nil {
		r.t.Fatal(err)
	}
	return rows[instance]
}

func logTo(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }
