package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"phoenix/bridge/config"
	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
)

// Breaker is the circuit breaker of first highstates, which all masters share.
type Breaker struct {
	Open      bool     `json:"open"` // no new first highstate begins
	Opened    string   `json:"opened,omitempty"`
	OpenedBy  string   `json:"opened_by,omitempty"` // the master
	Reason    string   `json:"reason,omitempty"`
	Failed    []string `json:"failed,omitempty"`  // the instances whose highstates are counted as failed
	Resumed   string   `json:"resumed,omitempty"` // when it was last closed by hand
	ResumedBy string   `json:"resumed_by,omitempty"`
}

func breakerOf(b fleet.Breaker, err error) *Breaker {
	shown := &Breaker{Open: b.Open(), Opened: b.Opened, OpenedBy: b.OpenedBy, Reason: b.Reason, Resumed: b.Resumed,
		ResumedBy: b.ResumedBy}
	if err != nil { // masters take it for open
		shown.Open, shown.Reason = true, OneLine(err)
	}
	for _, r := range b.Last {
		if r.Failed {
			shown.Failed = append(shown.Failed, r.InstanceID)
		}
	}
	return shown
}

// breaker reads the circuit breaker; nil if highstate.breaker is off.
func (a Admin) breaker(ctx context.Context) (*Breaker, error) {
	policy, err := decide.ParseBreaker(a.Config.Highstate.Breaker)
	breakers := fleet.BreakersOf(a.Store)
	if err != nil || policy.Off() || breakers == nil {
		return nil, err
	}
	b, err := breakers.LastBreaker(ctx)
	if err != nil && !errors.Is(err, fleet.ErrCorrupt) {
		return nil, fmt.Errorf("read circuit breaker: %w", err)
	}
	return breakerOf(b, err), nil
}

// Resumed is the result of ResumeHighstates.
type Resumed struct {
	WasOpen bool     `json:"was_open"`
	Breaker *Breaker `json:"breaker"` // as it is now
}

// resumeTries bounds how often the breaker is closed anew as masters write at the
// same time. One that is open they do not write.
const resumeTries = 5

// ResumeHighstates closes the circuit breaker of first highstates: the masters begin
// new ones within seconds. One that is not open is left as it is.
func (a Admin) ResumeHighstates(ctx context.Context) (*Resumed, error) {
	breakers := fleet.BreakersOf(a.Store)
	if breakers == nil {
		return nil, config.Invalid(errors.New("resume highstates: this store keeps no circuit breaker"))
	}
	for range resumeTries {
		b, err := breakers.LastBreaker(ctx)
		if err != nil && !errors.Is(err, fleet.ErrCorrupt) {
			return nil, fmt.Errorf("resume highstates: %w", err)
		}
		if err == nil && !b.Open() {
			return &Resumed{Breaker: breakerOf(b, nil)}, nil
		}
		now, mine, err := breakers.WriteBreaker(ctx, decide.Resume(b, a.By, time.Now()))
		switch {
		case err != nil:
			return nil, fmt.Errorf("resume highstates: %w", err)
		case mine:
			a.Record("circuit breaker closed", cmp.Or(a.Config.InstanceID, "-"))
			return &Resumed{WasOpen: true, Breaker: breakerOf(now, nil)}, nil
		}
	}
	return nil, errors.New("resume highstates: the record of the circuit breaker was changed by others each time")
}
