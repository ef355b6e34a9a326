package service

import (
	"context"
	"fmt"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/plural"
)

// missingProofs remembers which minions' instances have not written their proof, so that
// a minion whose agent never does costs less and less reads.
type missingProofs map[string]*pause

// proofRetryFirst is shorter than what a minion sleeps between two auth requests (10 s): most
// often the agent writes a moment after the minion's first.
const proofRetryFirst = 5 * time.Second

// readProofs asks for the proofs of those whose first key waits. Where they cannot be
// read, those minions wait, and nobody else.
func (e *Engine) readProofs(ctx context.Context, ids []string, views map[string]*keyView, connected map[string]bool) {
	if e.cfg.Proofs == nil {
		return
	}
	now := e.now()
	var ask []string
	for _, id := range ids {
		v, u, expected := views[id], e.missingProofs[id], e.launches.expected[id] != nil
		if expected && v.AwaitsKey() || v.wantsProof() && (expected || u == nil || !now.Before(u.until)) {
			ask = append(ask, id)
		}
	}
	if len(ask) == 0 {
		return
	}
	instances := make([]string, len(ask))
	for i, id := range ask {
		instances[i] = views[id].Row.InstanceID
	}
	var found map[string]fleet.Proof
	if !e.runStage(ctx, stageProofs, func(ctx context.Context) (err error) {
		if found, err = e.cfg.Proofs.Proofs(ctx, instances); err != nil {
			err = fmt.Errorf("read %s: %w", plural.Of(len(ask), "proof"), err)
		}
		return err
	}) {
		for _, id := range ask {
			e.queue.postpone(id, connected[id], e.stageDueAt(stageProofs, now))
		}
		return
	}
	for _, id := range ask {
		v := views[id]
		proof := found[v.Row.InstanceID]
		v.Proof = proof.KeySHA256
		v.proofText, v.ProofKey = proof.Key()
		if v.Proof != "" || v.AwaitsKey() {
			delete(e.missingProofs, id)
			continue
		}
		u := e.missingProofs[id]
		if u == nil {
			if len(e.missingProofs) >= maxCached {
				clear(e.missingProofs)
			}
			u = &pause{wait: proofRetryFirst}
			e.missingProofs[id] = u
		}
		u.until, u.wait = now.Add(u.wait), min(2*u.wait, e.cfg.UnknownFor)
	}
}

// wantsProof: its row has no key yet, and one waits, or was accepted by something
// else.
func (v *keyView) wantsProof() bool {
	if !v.Known || v.Row.Status != fleet.Launch || v.Row.KeySHA256 != "" || v.Row.Adopted() {
		return false
	}
	return v.Accepted.Digest != "" || v.Pending.Digest != "" && !v.Accepted.Present && !v.Rejected.Present
}
