package service

import (
	"context"
	"testing"
	"time"

	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/lab"
)

// byARN returns a store's proofs by instance, as cmd/phoenix does on AWS.
type byARN struct {
	store interface {
		Proofs(ctx context.Context, arns []string) (map[string]fleet.Proof, error)
	}
}

func arn(id string) string { return "arn:aws:ec2:us-east-1:111122223333:instance/" + id }

func (p byARN) Proofs(ctx context.Context, ids []string) (map[string]fleet.Proof, error) {
	arns := make([]string, len(ids))
	for i, id := range ids {
		arns[i] = arn(id)
	}
	found, err := p.store.Proofs(ctx, arns)
	out := map[string]fleet.Proof{}
	for i, id := range ids {
		if proof := found[arns[i]]; proof.KeySHA256 != "" {
			out[id] = proof
		}
	}
	return out, err
}

const oneLife = "i-00000000000000001"

// step is one of a minion's life, and what it cost.
type step struct {
	name string
	bill
}

// life leads a minion's whole life on one master, through its engine: from its
// first sends an auth request, before its launch is reported, to its tombstone.
func life(t *testing.T, admit decide.Admit) (steps []step) {
	t.Helper()
	store, m := metered(t)
	r := newRig(t, store, func(c *Config) {
		c.Admit = admit
		if admit == decide.Proven {
			c.Proofs, c.LaunchPollEvery = byARN{store}, 1000*time.Hour // counted separately
		}
	})
	key := []byte(lab.UnknownKey())
	digest, err := fleet.KeyDigest(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.PutProof(t.Context(), arn(oneLife), fleet.Proof{KeySHA256: digest}); err != nil { // its agent's own
		t.Fatal(err)
	}
	m.take()
	do := func(name string, f func()) {
		t.Helper()
		f()
		steps = append(steps, step{name, m.take()})
	}
	told := func(c fleet.Change) { // by a message
		row, err := fleet.ApplyOne(t.Context(), store, c)
		if err != nil {
			t.Fatal(err)
		}
		r.inbox.Upsert([]fleet.Minion{row})
		r.step()
	}
	do("sends an auth request before its launch is reported", func() {
		for range 5 { // every 10 s
			r.knocks(oneLife, key)
			r.pass(10 * time.Second)
		}
	})
	do("launch is reported, key is accepted", func() { told(fleet.Add{InstanceID: oneLife, Group: "web"}) })
	do("connects, highstate is claimed", func() { r.inbox.Enqueue(oneLife, true); r.step() })
	do("highstate runs for an hour", func() {
		for range 360 {
			r.pass(10 * time.Second)
			r.step()
		}
	})
	do("highstate succeeds", func() { r.returns(oneLife) })
	do("lives for a day", func() { r.pass(24 * time.Hour); r.step() })
	do("termination is reported", func() { told(fleet.Retire{InstanceID: oneLife, Group: "web"}) })
	do("its keys are deleted", func() { r.pass(2 * time.Minute); r.step() })
	if r.accepted(oneLife) {
		t.Error("its key is still there")
	}
	r.pass(25 * time.Hour)
	do("becomes a tombstone", func() {
		row := r.row(oneLife)
		m.take() // that was the test's own
		// The store writes the time of day, which the rig's clock is ahead of.
		c, due := fleet.ToTombstone(row, fleet.TombstoneAfter, r.clock)
		if !due {
			t.Errorf("%+v is not due", row)
		}
		if err := r.engine.writeTombstones(t.Context(), []fleet.Change{c}); err != nil {
			t.Fatal(err)
		}
	})
	if row := r.row(oneLife); row.Expires == 0 || row.ClaimVersion != 2 {
		t.Errorf("left is %+v", row)
	}
	return steps
}

// TestCostOfALife: six writes and three reads, however long the highstate runs.
// What comparisons read is counted separately: see TestCostOfAnIdleHour.
func TestCostOfALife(t *testing.T) {
	for _, admit := range []decide.Admit{decide.Bound, decide.Proven} {
		t.Run(string(admit), func(t *testing.T) {
			reads, writes := 0, 0
			for _, s := range life(t, admit) {
				t.Logf("%-40s %v; %.1f read, %.1f written", s.name, s.bill, s.read, s.write)
				reads, writes = reads+s.reads(), writes+s.writes()
			}
			if reads > 3 || writes > 6 || writes == 0 {
				t.Errorf("%d reads and %d writes", reads, writes)
			}
		})
	}
}
