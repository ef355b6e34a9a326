package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
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

// Heartbeats says that this master lives, and watches whether the others do.
type Heartbeats struct {
	store fleet.Store
	now   func() time.Time
	lease time.Duration
	log   *slog.Logger

	changed chan struct{}
	beatNow chan struct{}

	mu         sync.Mutex
	beat       fleet.Beat
	ticked     time.Time // end of the last beat, whatever came of it
	reached    time.Time // begin of the last beat that reached the store
	ready      time.Time // begin of the last beat after which the row said ready
	row        fleet.Master
	fault      error // why the last beat was not written; nil: it was
	twin       decide.Twin
	otherReady bool // master is ready, stays and beats, as they were last read
	detector   decide.FailureDetector
	watched    map[string]time.Time // owners that somebody asked for lately

	connected func(leaving bool) (int, error) // nil: not counted
	counted   time.Time                       // when connected was last called
}

// NewHeartbeats makes the heartbeat of one master; it beats when Tick is called.
func NewHeartbeats(store fleet.Store, beat fleet.Beat, lease time.Duration, now func() time.Time,
	log *slog.Logger) *Heartbeats {
	return &Heartbeats{store: store, now: now, lease: lease, log: log, beat: beat,
		changed: make(chan struct{}, 1), beatNow: make(chan struct{}, 1), watched: map[string]time.Time{}}
}

// ErrTwin: another bridge beats under the same instance_id.
var ErrTwin = errors.New("another bridge runs under this instance_id (each master needs its own)")

// ErrRetired: the row of this master says TERMINATE. On AWS its instance is about to end; else
// an administrator has retired it.
var ErrRetired = errors.New("this master is retired, which is final for its instance_id: set another instance_id in the configuration, and restart phoenix-bridge")

// Run beats until ctx ends, or until it turns out that another bridge had this
// instance_id before.
func (b *Heartbeats) Run(ctx context.Context) error {
	for {
		b.Tick(ctx)
		if err := b.Twin(); err != nil && b.cameSecond() {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-b.beatNow: // something that the others should know at once
		case <-time.After(beatEvery):
		}
	}
}

// Tick beats once and, if another master's claim matters, reads the others' rows.
func (b *Heartbeats) Tick(ctx context.Context) {
	b.checkForTwin(ctx)
	b.countConnected()
	// Counted from before the write: the observers count from after their read.
	begun := b.now()
	b.mu.Lock()
	beat := b.beat
	b.mu.Unlock()
	row, err := b.store.Beat(ctx, beat)
	b.mu.Lock()
	b.ticked = b.now()
	was, drained := b.leaseValid(begun), b.row.Draining && b.otherReady
	if err == nil {
		b.twin.Beat(row)
		b.reached, b.row = begun, row
		if row.Ready && (b.beat.Ready || b.beat.KeepReady) { // not withdrawn meanwhile
			b.ready = begun
		}
	} else if errors.Is(err, fleet.ErrTerminated) {
		b.reached = time.Time{}
	}
	if ctx.Err() == nil {
		switch {
		case errors.Is(err, fleet.ErrTerminated):
			if !errors.Is(b.fault, ErrRetired) {
				b.log.Error("heartbeat not written", "err", ErrRetired)
			}
			err = ErrRetired
		case err != nil && (b.fault == nil || errors.Is(b.fault, ErrRetired)):
			b.log.Error("heartbeat not written; without it this master starts no highstates after a lease", "err", err)
		case err == nil && b.fault != nil:
			b.log.Info("heartbeat written again")
		}
		b.fault = err
	}
	changed := was != b.leaseValid(b.now()) || drained != (b.row.Draining && b.otherReady)
	watch := b.anyWatched(begun) || b.row.Draining
	b.mu.Unlock()
	if watch && err == nil {
		if _, err := b.ReadMasters(ctx); err == nil {
			changed = true
		}
	}
	if changed {
		b.wake()
	}
}

// Changed delivers a token when something that decisions lean on has changed.
func (b *Heartbeats) Changed() <-chan struct{} { return b.changed }

func (b *Heartbeats) wake() {
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// LeaseValid reports whether this master may publish: its beats reach the store and its
// row says ready, so that nobody can have taken its claims over yet.
func (b *Heartbeats) LeaseValid(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.leaseValid(now)
}

func (b *Heartbeats) leaseValid(now time.Time) bool {
	return b.within(b.reached, now) && b.within(b.ready, now)
}

// Lost returns why waiting does not bring the store back, as far as the last beat knows:
// its file was deleted or replaced, or the own row is damaged. Else it returns nil.
func (b *Heartbeats) Lost() error {
	if err := b.Fault(); errors.Is(err, fs.ErrNotExist) || errors.Is(err, fleet.ErrCorrupt) {
		return err
	}
	return nil
}

// Fault returns why the last beat was not written: nil if it was, or if there was none yet.
func (b *Heartbeats) Fault() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fault
}

// NotReached returns why this master's beats do not reach the store; nil if they do.
func (b *Heartbeats) NotReached(now time.Time) error {
	if b.StoreReached(now) {
		return nil
	}
	if err := b.Fault(); err != nil {
		return fmt.Errorf("the heartbeat does not reach the store: %w", err)
	}
	return errors.New("the heartbeat does not reach the store")
}

// StoreReached reports whether this master's beats reach the store. Those of a retired master
// do, and are refused.
func (b *Heartbeats) StoreReached(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.within(b.reached, now) || errors.Is(b.fault, ErrRetired)
}

func (b *Heartbeats) within(at, now time.Time) bool {
	return !at.IsZero() && now.Sub(at) < b.lease-publishTakes
}

// Draining reports whether no first highstate is to begin here: minions are to leave
// this master, and there is another one.
func (b *Heartbeats) Draining() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.row.Draining && b.otherReady
}

// OwnerLiveness returns the liveness of the owner of a row's claim, and watches the owner.
func (b *Heartbeats) OwnerLiveness(row fleet.Minion) decide.Liveness {
	if row.ClaimState != fleet.Claimed || row.ClaimOwner == b.beat.InstanceID {
		return decide.Unseen
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watched[row.ClaimOwner] = b.now()
	return b.detector.Of(row.ClaimOwner, b.lease)
}

// watchFor: how long after the last question an owner is still watched.
const watchFor = 5 * time.Minute

func (b *Heartbeats) anyWatched(now time.Time) bool {
	for id, at := range b.watched {
		if now.Sub(at) > watchFor {
			delete(b.watched, id)
		}
	}
	return len(b.watched) > 0
}

// SetReady says, with a beat at once, whether minions may be sent here.
func (b *Heartbeats) SetReady(ready bool) {
	b.mu.Lock()
	b.beat.Ready, b.beat.KeepReady = ready, false
	if !ready {
		b.ready = time.Time{}
	}
	b.mu.Unlock()
	b.wake()
	select {
	case b.beatNow <- struct{}{}:
	default:
	}
}

// SetKey says in the next beat which key this master has.
func (b *Heartbeats) SetKey(digest string) {
	b.mu.Lock()
	b.beat.MasterKeySHA256 = digest
	b.mu.Unlock()
}

// SetZone says in the next beat in which availability zone this master is.
func (b *Heartbeats) SetZone(zone string) {
	b.mu.Lock()
	if zone != "" {
		b.beat.Zone = zone
	}
	b.mu.Unlock()
}

// Key returns the key that SetKey last received.
func (b *Heartbeats) Key() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.beat.MasterKeySHA256
}

// last is when the last beat ended, and when the last one that reached the store began.
func (b *Heartbeats) last() (ticked, reached time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ticked, b.reached
}

// Row is this master's row as it was last written.
func (b *Heartbeats) Row() fleet.Master {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.row
}
