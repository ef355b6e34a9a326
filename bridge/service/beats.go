package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
)

const (
	// beatEvery: how often this master says that it lives.
	beatEvery = 5 * time.Second
	// publishTakes bounds a publish that has begun. A master whose beats fail
	// stops that long before its lease could be seen to have run out.
	publishTakes = 10 * time.Second
)

// Beats says that this master lives, and watches whether the others do.
type Beats struct {
	store fleet.Store
	now   func() time.Time
	lease time.Duration
	log   *slog.Logger

	changed chan struct{}
	say     chan struct{}

	mu      sync.Mutex
	beat    fleet.Beat
	ticked  time.Time // end of the last beat, whatever came of it
	reached time.Time // begin of the last beat that reached the store
	ready   time.Time // begin of the last beat after which the row said ready
	row     fleet.Master
	failing bool
	twin    decide.Twin
	another bool // master is ready, stays and beats, as they were last read
	pulses  decide.Pulses
	watched map[string]time.Time // owners that somebody asked for lately

	connected func() (int, error) // nil: not counted
	counted   time.Time           // when connected was last called
}

// NewBeats makes the heartbeat of one master; it beats when Tick is called.
func NewBeats(store fleet.Store, beat fleet.Beat, lease time.Duration, now func() time.Time, log *slog.Logger) *Beats {
	return &Beats{store: store, now: now, lease: lease, log: log, beat: beat,
		changed: make(chan struct{}, 1), say: make(chan struct{}, 1), watched: map[string]time.Time{}}
}

// ErrTwin: another bridge beats under the same instance_id.
var ErrTwin = errors.New("another bridge runs under this instance_id (each master needs its own)")

// Run beats until ctx ends, or until it turns out that another bridge had this
// instance_id before.
func (b *Beats) Run(ctx context.Context) error {
	for {
		b.Tick(ctx)
		if err := b.Twin(); err != nil && b.younger() {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-b.say: // something that the others should know at once
		case <-time.After(beatEvery):
		}
	}
}

// Tick beats once and, if another master's claim matters, looks at the others.
func (b *Beats) Tick(ctx context.Context) {
	b.lookForTwin(ctx)
	b.countConnected()
	// Counted from before the write: the observers count from after their read.
	begun := b.now()
	b.mu.Lock()
	beat := b.beat
	b.mu.Unlock()
	row, err := b.store.Beat(ctx, beat)
	b.mu.Lock()
	b.ticked = b.now()
	was, drained := b.reach(begun), b.row.Draining && b.another
	if err == nil {
		b.twin.Beat(row)
		b.reached, b.row = begun, row
		if row.Ready && (b.beat.Ready || b.beat.KeepReady) { // not withdrawn meanwhile
			b.ready = begun
		}
	} else if errors.Is(err, fleet.ErrTerminated) {
		b.reached = time.Time{}
	}
	if failing := err != nil; failing != b.failing && ctx.Err() == nil {
		b.failing = failing
		if failing {
			b.log.Error("heartbeat does not reach the store; after a lease without it no highstate is started", "err", err)
		} else {
			b.log.Info("heartbeat reaches the store")
		}
	}
	changed := was != b.reach(b.now()) || drained != (b.row.Draining && b.another)
	watch := b.anyWatched(begun) || b.row.Draining
	b.mu.Unlock()
	if watch && err == nil {
		if _, err := b.Others(ctx); err == nil {
			changed = true
		}
	}
	if changed {
		b.wake()
	}
}

// Others reads the masters, and takes in how they look.
func (b *Beats) Others(ctx context.Context) ([]fleet.Master, error) {
	masters, err := b.store.Masters(ctx)
	if _, err = fleet.WithoutBadRows(err); err == nil {
		b.mu.Lock()
		b.pulses.Observe(masters, b.now())
		b.another = slices.ContainsFunc(masters, func(m fleet.Master) bool {
			return b.staysReady(m) && b.pulses.Of(m.InstanceID, b.lease) == decide.Beating
		})
		b.mu.Unlock()
	}
	return masters, err
}

// Another reads the masters, and says whether one of them serves besides this one:
// it is ready, stays, and was seen to beat for a lease.
func (b *Beats) Another(ctx context.Context) (bool, error) {
	masters, err := b.Others(ctx)
	if err != nil {
		return false, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range masters {
		if b.staysReady(m) && b.pulses.Steady(m.InstanceID, b.lease) {
			return true, nil
		}
	}
	return false, nil
}

// staysReady says whether a row is another master's, and says that minions may go
// there. The row of a bridge that died goes on to say so.
func (b *Beats) staysReady(m fleet.Master) bool {
	return m.InstanceID != b.beat.InstanceID && m.Status == fleet.Launch && m.Ready && !m.Draining
}

// lookForTwin reads this master's row before it is written, while there is reason
// to think that another bridge writes it too.
func (b *Beats) lookForTwin(ctx context.Context) {
	b.mu.Lock()
	suspects := b.twin.Suspects()
	own := b.beat
	b.mu.Unlock()
	if !suspects {
		return
	}
	masters, err := b.Others(ctx)
	if err != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range masters {
		if m.InstanceID != own.InstanceID {
			continue
		}
		was := b.twin.Found()
		b.twin.Look(m, own.Incarnation)
		if is := b.twin.Found(); is != was && is {
			b.log.Error(ErrTwin.Error(), "instance", own.InstanceID, "its_address", m.IPAddr, "its_incarnation", m.Incarnation)
		} else if is != was {
			b.log.Info("no other bridge runs under this instance_id any more", "instance", own.InstanceID)
		}
	}
}

// Twin says whether another bridge runs under the same instance_id.
func (b *Beats) Twin() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.twin.Found() {
		return nil
	}
	return fmt.Errorf("%s: %w", b.beat.InstanceID, ErrTwin)
}

// younger says whether the other bridge was there when this one began.
func (b *Beats) younger() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.twin.Younger()
}

// Changed delivers a token when something that decisions lean on has changed.
func (b *Beats) Changed() <-chan struct{} { return b.changed }

func (b *Beats) wake() {
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// Reach says whether this master may publish: its beats reach the store and its
// row says ready, so that nobody can have taken its claims over yet.
func (b *Beats) Reach(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.reach(now)
}

func (b *Beats) reach(now time.Time) bool {
	return b.within(b.reached, now) && b.within(b.ready, now)
}

// Stored says whether this master's beats reach the store.
func (b *Beats) Stored(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.within(b.reached, now)
}

func (b *Beats) within(at, now time.Time) bool {
	return !at.IsZero() && now.Sub(at) < b.lease-publishTakes
}

// Draining says whether no first highstate is to begin here: minions are to leave
// this master, and there is another one.
func (b *Beats) Draining() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.row.Draining && b.another
}

// Pulse says how the owner of a row's claim looks, and keeps an eye on it.
func (b *Beats) Pulse(row fleet.Minion) decide.Pulse {
	if row.ClaimState != fleet.Claimed || row.ClaimOwner == b.beat.InstanceID {
		return decide.Unseen
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watched[row.ClaimOwner] = b.now()
	return b.pulses.Of(row.ClaimOwner, b.lease)
}

// watchFor: how long after the last question an owner is still watched.
const watchFor = 5 * time.Minute

func (b *Beats) anyWatched(now time.Time) bool {
	for id, at := range b.watched {
		if now.Sub(at) > watchFor {
			delete(b.watched, id)
		}
	}
	return len(b.watched) > 0
}

// SetReady says, with a beat at once, whether minions may be sent here.
func (b *Beats) SetReady(ready bool) {
	b.mu.Lock()
	b.beat.Ready, b.beat.KeepReady = ready, false
	if !ready {
		b.ready = time.Time{}
	}
	b.mu.Unlock()
	b.wake()
	select {
	case b.say <- struct{}{}:
	default:
	}
}

// SetKey says in the next beat which key this master has.
func (b *Beats) SetKey(digest string) {
	b.mu.Lock()
	b.beat.MasterKeySHA256 = digest
	b.mu.Unlock()
}

// SetZone says in the next beat in which availability zone this master is.
func (b *Beats) SetZone(zone string) {
	b.mu.Lock()
	if zone != "" {
		b.beat.Zone = zone
	}
	b.mu.Unlock()
}

// Key is what SetKey was last told.
func (b *Beats) Key() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.beat.MasterKeySHA256
}

// last is when the last beat ended, and when the last one that reached the store began.
func (b *Beats) last() (ticked, reached time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ticked, b.reached
}

// Cleared says, in the next beat, that terminations were read, and that this
// master holds no key of them.
func (b *Beats) Cleared() {
	b.mu.Lock()
	b.beat.Cleared++
	b.mu.Unlock()
}

// Row is this master's row as it was last written.
func (b *Beats) Row() fleet.Master {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.row
}

// SetMinions says in the next beat of how many ids this master holds a key: agents
// spread their restarts by it.
func (b *Beats) SetMinions(n int) {
	b.mu.Lock()
	b.beat.Minions = n
	b.mu.Unlock()
}

// countEvery: how often the connections of minions are counted. 10,000 of them take
// some 20 ms to read.
const countEvery = 30 * time.Second

// CountConnected makes the beats say how many minions are connected to this master, as
// connected counts them. It is to be called before the first beat.
func (b *Beats) CountConnected(connected func() (int, error)) { b.connected = connected }

// countConnected counts them if it is time. An error means that nobody listens: the
// master is down.
func (b *Beats) countConnected() {
	now := b.now()
	if b.connected == nil || !b.counted.IsZero() && now.Sub(b.counted) < countEvery {
		return
	}
	b.counted = now
	n, err := b.connected()
	if err != nil {
		n = 0
	}
	b.mu.Lock()
	b.beat.Connected = n
	b.mu.Unlock()
}
