package service

import (
	"context"
	"testing"
	"time"

	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
	"phoenix/lab"
)

// written are the proofs that instances wrote, and how often they were read.
type written struct {
	proofs map[string]fleet.Proof
	reads  int
}

func (w *written) Proofs(_ context.Context, ids []string) (map[string]fleet.Proof, error) {
	out := map[string]fleet.Proof{}
	for _, id := range ids {
		w.reads++
		if p, found := w.proofs[id]; found {
			out[id] = p
		}
	}
	return out, nil
}

func (w *written) proven(c *Config) { c.Admit, c.Proofs = decide.Proven, w }

func proofOfKey(key []byte) fleet.Proof {
	digest, _ := fleet.KeyDigest(key)
	return fleet.Proof{KeySHA256: digest, PublicKey: string(key)}
}

// runFor lets a bridge work for some time, as often as it wants to.
func (r *rig) runFor(d time.Duration) {
	r.t.Helper()
	for end := r.clock.Add(d); r.clock.Before(end); {
		r.step()
		r.pass(500 * time.Millisecond)
	}
}

// TestAcceptAhead: each master has the key of a minion accepted before its first auth
// request, whichever master AutoScaling's message reached, and some seconds after the
// instance wrote its proof.
func TestAcceptAhead(t *testing.T) {
	store, proofs, key := openSQLite(t), &written{proofs: map[string]fleet.Proof{}}, []byte(lab.UnknownKey())
	told, other := newRig(t, store, proofs.proven), newRig(t, store, proofs.proven)
	told.apply(fleet.Add{InstanceID: "i-1", Group: "web"}) // the other one gets no message
	both := func(d time.Duration) { told.runFor(d); other.runFor(d) }
	both(15 * time.Second)
	if told.row("i-1").KeySHA256 != "" || told.accepted("i-1") || other.accepted("i-1") {
		t.Fatal("a key was accepted without a proof")
	}
	proofs.proofs["i-1"] = proofOfKey(key)
	both(3 * time.Second)
	for name, r := range map[string]*rig{"the master that was told": told, "the other": other} {
		if got := r.salt.keys[salt.Accepted]["i-1"]; string(got) != string(key) {
			t.Errorf("%s has accepted %q", name, got)
		}
		if !r.engine.accepted.Has("i-1", proofOfKey(key).KeySHA256) {
			t.Errorf("%s has not recorded it", name)
		}
		r.inbox.Enqueue("i-1", true) // the minion's start event
	}
	if row := told.row("i-1"); row.KeySHA256 != proofOfKey(key).KeySHA256 || row.PublicKey != string(key) ||
		row.Adopted() {
		t.Errorf("the row: %+v", row)
	}
	told.step()
	if len(told.salt.published) != 1 {
		t.Errorf("%d highstates were published", len(told.salt.published))
	}
	// A third master, where the key is bound before it hears of the launch.
	third := newRig(t, store, proofs.proven)
	if !third.accepted("i-1") {
		t.Error("a new master has not accepted it")
	}
}

// TestAcceptAheadOfBoundKeys: what another master bound is accepted here within some
// seconds, not only at the next comparison.
func TestAcceptAheadOfBoundKeys(t *testing.T) {
	store, proofs, key := openSQLite(t), &written{}, []byte(lab.UnknownKey())
	r := newRig(t, store, proofs.proven)
	proof := proofOfKey(key)
	r.elsewhere(fleet.Add{InstanceID: "i-1"},
		fleet.Bind{InstanceID: "i-1", KeySHA256: proof.KeySHA256, PublicKey: proof.PublicKey},
		fleet.Add{InstanceID: "i-2"}, fleet.Bind{InstanceID: "i-2", KeySHA256: proof.KeySHA256,
			PublicKey: proof.PublicKey})
	r.salt.keys[salt.Rejected]["i-2"] = key
	r.runFor(11 * time.Second)
	if !r.accepted("i-1") || r.accepted("i-2") {
		t.Errorf("accepted: bound elsewhere %v, rejected here %v", r.accepted("i-1"), r.accepted("i-2"))
	}
}

// TestG3_AcceptAhead: what is no proof of a key that is awaited leads to no acceptance.
func TestG3_AcceptAhead(t *testing.T) {
	key, proof := []byte(lab.UnknownKey()), proofOfKey([]byte(lab.UnknownKey()))
	digest := proof.KeySHA256
	add := fleet.Add{InstanceID: "i-1", Group: "web"}
	for name, c := range map[string]struct {
		changes []fleet.Change
		proof   fleet.Proof
		edit    func(*Config)
		before  func(r *rig)
	}{
		"no public key": {changes: []fleet.Change{add}, proof: fleet.Proof{KeySHA256: digest}},
		"another key's digest": {changes: []fleet.Change{add},
			proof: fleet.Proof{KeySHA256: digest[1:] + "0", PublicKey: string(key)}},
		"no key": {changes: []fleet.Change{add},
			proof: fleet.Proof{KeySHA256: digest, PublicKey: "key"}},
		"not listed": {proof: proof},
		"terminated": {changes: []fleet.Change{add, fleet.Retire{InstanceID: "i-1"}}, proof: proof},
		"bound to another key": {changes: []fleet.Change{add,
			fleet.Bind{InstanceID: "i-1", KeySHA256: "other", PublicKey: "other"}}, proof: proof},
		"admit: bound": {changes: []fleet.Change{add}, proof: proof,
			edit: func(c *Config) { c.Admit = decide.Bound }},
		"rejected here": {changes: []fleet.Change{add}, proof: proof,
			before: func(r *rig) { r.salt.keys[salt.Rejected]["i-1"] = key }},
		"another key is pending": {changes: []fleet.Change{add}, proof: fleet.Proof{KeySHA256: digest[1:] + "0"},
			before: func(r *rig) { r.salt.keys[salt.Pending]["i-1"] = key }},
	} {
		t.Run(name, func(t *testing.T) {
			proofs := &written{proofs: map[string]fleet.Proof{"i-1": c.proof}}
			r := newRig(t, openSQLite(t), func(cfg *Config) {
				if proofs.proven(cfg); c.edit != nil {
					c.edit(cfg)
				}
			})
			r.elsewhere(c.changes...)
			if c.before != nil {
				c.before(r)
			}
			r.engine.Step(t.Context()) // it may say that a row has another key than its digest
			r.pass(time.Minute)
			r.engine.Step(t.Context())
			r.pass(time.Minute)
			r.engine.Step(t.Context())
			if r.accepted("i-1") {
				t.Error("its key was accepted")
			}
		})
	}
}

// TestAcceptAheadPendingAlready: the minion asked before its instance's proof was
// read. Its key is accepted some seconds after the proof, not at its next request.
func TestAcceptAheadPendingAlready(t *testing.T) {
	proofs, key := &written{proofs: map[string]fleet.Proof{}}, []byte(lab.UnknownKey())
	r := newRig(t, openSQLite(t), proofs.proven)
	r.apply(fleet.Add{InstanceID: "i-1"})
	r.knocks("i-1", key)
	r.runFor(10 * time.Second)
	proofs.proofs["i-1"] = proofOfKey(key)
	r.runFor(3 * time.Second)
	if !r.accepted("i-1") || len(r.salt.keys[salt.Pending]) > 0 {
		t.Errorf("accepted %v, pending %v", r.accepted("i-1"), r.salt.keys[salt.Pending])
	}
}

// TestAcceptAheadCosts: an instance without an agent costs few reads, and none in the
// end.
func TestAcceptAheadCosts(t *testing.T) {
	proofs := &written{}
	r := newRig(t, openSQLite(t), proofs.proven)
	r.apply(fleet.Add{InstanceID: "i-1"})
	r.runFor(time.Hour)
	if proofs.reads < 30 || proofs.reads > 150 {
		t.Errorf("its proof was read %d times in an hour", proofs.reads)
	}
	r.runFor(time.Minute)
	before := proofs.reads
	r.runFor(time.Hour)
	if proofs.reads != before || len(r.engine.launches.expected) > 0 {
		t.Errorf("and %d times afterwards", proofs.reads-before)
	}
}
