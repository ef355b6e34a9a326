package service

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/metrics"
)

// Counters count what a bridge did since its start. Any goroutine may read them.
type Counters struct {
	accepted, adopted, refused, unlinked, deleted, preloaded atomic.Int64
	published, takenOver                                     atomic.Int64
	succeeded, erred, busy, vanished                         atomic.Int64
	heldUp, storeFailures                                    atomic.Int64

	// Durations, if not nil, is where times are observed. It is set before the
	// bridge runs.
	Durations *metrics.Durations
}

// Counts is what they say.
type Counts struct {
	KeysAccepted int64 `json:"keys_accepted"`
	KeysAdopted  int64 `json:"keys_adopted"`
	// left pending, differing or accepted in another's place: decisions, not auth requests
	KeysRefused  int64 `json:"keys_refused"`
	KeysUnlinked int64 `json:"keys_unlinked"`
	KeysDeleted  int64 `json:"keys_deleted"` // ids
	KeysWritten  int64 `json:"keys_written"` // known ones, as accepted

	Published int64                   `json:"highstates_published"` // the same jid may be sent twice
	TakenOver int64                   `json:"highstates_taken_over"`
	Ended     map[fleet.Outcome]int64 `json:"highstates_ended"`

	HeldUp        int64 `json:"work_held_up"` // steps that could not be ended
	StoreFailures int64 `json:"store_failures"`
}

// Counts is what has been counted so far.
func (c *Counters) Counts() Counts {
	return Counts{
		KeysAccepted: c.accepted.Load(), KeysAdopted: c.adopted.Load(), KeysRefused: c.refused.Load(),
		KeysUnlinked: c.unlinked.Load(), KeysDeleted: c.deleted.Load(), KeysWritten: c.preloaded.Load(),
		Published: c.published.Load(), TakenOver: c.takenOver.Load(),
		Ended: map[fleet.Outcome]int64{fleet.Succeeded: c.succeeded.Load(), fleet.Erred: c.erred.Load(),
			fleet.Busy: c.busy.Load(), fleet.Vanished: c.vanished.Load()},
		HeldUp: c.heldUp.Load(), StoreFailures: c.storeFailures.Load(),
	}
}

// decided counts a decision about a key that is recorded for the first time.
func (c *Counters) decided(d decide.KeyDecision) {
	switch {
	case d.Act == decide.AdoptKey:
		c.adopted.Add(1)
	case d.Act == decide.ReportKey, d.Act == decide.UnlinkPending, leftPending(d):
		c.refused.Add(1)
	}
}

func (c *Counters) ended(outcome fleet.Outcome) {
	switch outcome {
	case fleet.Succeeded:
		c.succeeded.Add(1)
	case fleet.Erred:
		c.erred.Add(1)
	case fleet.Busy:
		c.busy.Add(1)
	case fleet.Vanished:
		c.vanished.Add(1)
	}
}

// CountFailures returns a store whose calls are timed and whose failures are counted:
// those of the store itself, not what a row says no with. A bridge's loops call no
// other methods of it.
func CountFailures(s fleet.Store, c *Counters) fleet.Store { return &counted{s, c} }

type counted struct {
	fleet.Store
	counters *Counters
}

// Unwrap returns fleet.BreakersOf the store itself.
func (s *counted) Unwrap() fleet.Store { return s.Store }

func (s *counted) count(ctx context.Context, call string, begun time.Time, err error) {
	s.counters.Durations.Store(call, begun)
	_, err = fleet.WithoutBadRows(err) // the store did its part
	failed := errors.Is(err, fleet.ErrUnavailable) || errors.Is(err, fleet.ErrCorrupt) ||
		errors.Is(err, fleet.ErrDenied)
	if failed && ctx.Err() == nil { // else the caller gave up
		s.counters.storeFailures.Add(1)
	}
}

func (s *counted) Minion(ctx context.Context, id string) (fleet.Minion, error) {
	begun := time.Now()
	m, err := s.Store.Minion(ctx, id)
	s.count(ctx, "minion", begun, err)
	return m, err
}

func (s *counted) Minions(ctx context.Context, ids []string) (map[string]fleet.Minion, error) {
	begun := time.Now()
	m, err := s.Store.Minions(ctx, ids)
	s.count(ctx, "minions", begun, err)
	return m, err
}

func (s *counted) Apply(ctx context.Context, changes []fleet.Change) ([]fleet.Result, error) {
	begun := time.Now()
	r, err := s.Store.Apply(ctx, changes)
	s.count(ctx, "apply", begun, err)
	return r, err
}

func (s *counted) ByStatus(ctx context.Context, status fleet.Status, since string,
	fn func([]fleet.Minion) error) error {
	begun := time.Now()
	err := s.Store.ByStatus(ctx, status, since, fn)
	s.count(ctx, "by_status", begun, err)
	return err
}

func (s *counted) Masters(ctx context.Context) ([]fleet.Master, error) {
	begun := time.Now()
	m, err := s.Store.Masters(ctx)
	s.count(ctx, "masters", begun, err)
	return m, err
}

func (s *counted) Beat(ctx context.Context, b fleet.Beat) (fleet.Master, error) {
	begun := time.Now()
	m, err := s.Store.Beat(ctx, b)
	s.count(ctx, "beat", begun, err)
	return m, err
}

func (s *counted) RetireMaster(ctx context.Context, id string) error {
	begun := time.Now()
	err := s.Store.RetireMaster(ctx, id)
	s.count(ctx, "retire_master", begun, err)
	return err
}

func (s *counted) DrainMaster(ctx context.Context, id string, draining bool) error {
	begun := time.Now()
	err := s.Store.DrainMaster(ctx, id, draining)
	s.count(ctx, "drain_master", begun, err)
	return err
}

func (s *counted) Proofs(ctx context.Context, arns []string) (map[string]fleet.Proof, error) {
	begun := time.Now()
	m, err := s.Store.Proofs(ctx, arns)
	s.count(ctx, "proofs", begun, err)
	return m, err
}
