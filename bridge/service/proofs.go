package service

import (
	"context"
	"fmt"
	"time"

	"phoenix/bridge/fleet"
)

// proofs remembers which minions' instances have not written their proof, so that
// a minion whose agent never does costs less and less reads.
type proofs map[string]*unproven

type unproven struct {
	until time.Time     // not asked again before
	wait  time.Duration // after the last time
}

// firstProof is shorter than what a minion sleeps between two knocks (10 s): most
// often the agent writes a moment after the minion's first.
const firstProof = 5 * time.Second

// prove asks for the proofs of those whose first key waits.
func (e *Engine) prove(ctx context.Context, ids []string, views map[string]*keyView) error {
	if e.cfg.Proofs == nil {
		return nil
	}
	now := e.now()
	var ask []string
	for _, id := range ids {
		v, u := views[id], e.proofs[id]
		if v.wantsProof() && (u == nil || !now.Before(u.until)) {
			ask = append(ask, id)
		}
	}
	if len(ask) == 0 {
		return nil
	}
	instances := make([]string, len(ask))
	for i, id := range ask {
		instances[i] = views[id].Row.InstanceID
	}
	found, err := e.cfg.Proofs.Proofs(ctx, instances)
	if err != nil {
		return fmt.Errorf("read %d proofs: %w", len(ask), err)
	}
	for _, id := range ask {
		v := views[id]
		if v.Proof = found[v.Row.InstanceID]; v.Proof != "" {
			delete(e.proofs, id)
			continue
		}
		u := e.proofs[id]
		if u == nil {
			if len(e.proofs) >= maxLookups {
				clear(e.proofs)
			}
			u = &unproven{wait: firstProof}
			e.proofs[id] = u
		}
		u.until, u.wait = now.Add(u.wait), min(2*u.wait, e.cfg.UnknownFor)
	}
	return nil
}

// wantsProof: its row has no key yet, and one waits.
func (v *keyView) wantsProof() bool {
	return v.Known && v.Row.Status == fleet.Launch && v.Row.KeySHA256 == "" &&
		v.Pending.Digest != "" && !v.Accepted.Present && !v.Rejected.Present
}
