package service

import (
	"strings"
	"testing"
	"time"

	"phoenix/bridge/event"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
	"phoenix/lab"
)

// reboundRig is a bridge whose minion's first highstate has failed, and the change that
// binds another key to it.
func reboundRig(t *testing.T) (r *rig, log *strings.Builder, rebind fleet.Bind) {
	t.Helper()
	r = newRig(t, openSQLite(t), func(*Config) {})
	log = &strings.Builder{}
	r.engine.audit = NewAudit(logTo(log))
	old, fresh := r.bearer("web-1"), []byte(lab.UnknownKey())
	digest, err := fleet.KeyDigest(fresh)
	if err != nil {
		t.Fatal(err)
	}
	was, err := fleet.KeyDigest(old)
	if err != nil {
		t.Fatal(err)
	}
	r.inbox.Enqueue("web-1", true)
	r.step()
	if len(r.salt.published) != 1 {
		t.Fatalf("published: %v", r.salt.published)
	}
	r.inbox.Return(event.Return{ID: "web-1", JID: r.salt.published[0].JID, Fun: "state.highstate", Retcode: 2})
	r.step()
	if row := r.row("web-1"); row.ClaimState != fleet.Failed {
		t.Fatalf("row: %+v", row)
	}
	return r, log, fleet.Bind{InstanceID: "web-1", KeySHA256: digest, PublicKey: string(fresh),
		Replaces: was, Rebound: was}
}

// TestReboundMinionIsNotConnected: what was heard of a minion before another key was bound
// to it was the machine with the former key. Nothing is published to the new one before it
// is heard itself.
func TestReboundMinionIsNotConnected(t *testing.T) {
	for what, late := range map[string]func(r *rig){
		"nothing is heard": func(*rig) {},
		"a start event of the former machine is read late": func(r *rig) { r.inbox.Enqueue("web-1", true) },
		"an answer of the former machine is read late": func(r *rig) {
			for jid := range r.engine.jobs {
				r.inbox.Return(event.Return{ID: "web-1", JID: jid, Fun: "test.ping"})
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			r, _, rebind := reboundRig(t)
			c := r.engine.highstates["web-1"]
			c.ConnectedAt, c.Pinged = time.Time{}, time.Time{}
			r.pass(time.Minute) // longer than the back-off after a failed attempt
			r.step()            // asks
			if len(r.engine.jobs) != 1 {
				t.Fatalf("asked: %v", r.engine.jobs)
			}
			c.ConnectedAt = r.clock
			r.engine.cfg.Highstate.Attempts = 1 // no second attempt at the former machine
			r.pass(time.Second)
			r.salt.keys[salt.Accepted]["web-1"] = []byte(rebind.PublicKey)
			r.apply(rebind)
			late(r)
			for range 100 {
				r.step()
				r.pass(time.Second)
			}
			if len(r.salt.published) != 1 || r.row("web-1").ClaimState != fleet.Unclaimed {
				t.Fatalf("published: %v, row: %+v", r.salt.published, r.row("web-1"))
			}
			r.inbox.Enqueue("web-1", true)
			r.step()
			if len(r.salt.published) != 2 {
				t.Errorf("the new machine is connected, and nothing is published: %+v", r.engine.highstates["web-1"])
			}
		})
	}
}

// TestReboundElsewhere: the same where the key was replaced on another master, and this
// bridge replaces it here.
func TestReboundElsewhere(t *testing.T) {
	r, _, rebind := reboundRig(t)
	r.elsewhere(rebind)
	r.engine.resyncs.at = r.clock
	for range 100 {
		r.step()
		r.pass(time.Second)
	}
	if string(r.salt.keys[salt.Accepted]["web-1"]) != rebind.PublicKey {
		t.Fatalf("accepted: %s", r.salt.keys[salt.Accepted]["web-1"])
	}
	if len(r.salt.published) != 1 {
		t.Errorf("published: %v", r.salt.published)
	}
	r.inbox.Enqueue("web-1", true)
	r.step()
	if len(r.salt.published) != 2 {
		t.Error("the new machine is connected, and nothing is published")
	}
}

// TestReboundElsewhereUnnoticed: the same where the former machine still runs and answers
// here, and the bridge learns of the new key because its claim is refused. Nothing is
// published to the former machine; its key is replaced at once.
func TestReboundElsewhereUnnoticed(t *testing.T) {
	r, _, rebind := reboundRig(t)
	r.elsewhere(rebind)
	for range 100 {
		r.step()
		if string(r.salt.keys[salt.Accepted]["web-1"]) == rebind.PublicKey {
			break
		}
		for jid := range r.engine.jobs {
			r.inbox.Return(event.Return{ID: "web-1", JID: jid, Fun: "test.ping"})
		}
		r.pass(time.Second)
	}
	if string(r.salt.keys[salt.Accepted]["web-1"]) != rebind.PublicKey {
		t.Error("the former machine's key is still accepted")
	}
	if len(r.salt.published) != 1 {
		t.Errorf("published: %v", r.salt.published)
	}
}

// TestReboundIsNotRemovedByHand: keys accept --rebind binds the new key, and has the master
// delete the old one before it notifies the bridge. The master's event comes first; the
// bridge reads the row before it says that somebody deleted the key by hand.
func TestReboundIsNotRemovedByHand(t *testing.T) {
	for what, cached := range map[string]bool{"a first highstate is open": false, "the row is remembered": true} {
		t.Run(what, func(t *testing.T) {
			r, log, rebind := reboundRig(t)
			if cached {
				r.apply(fleet.Finish{InstanceID: "web-1", JID: r.salt.published[0].JID, Outcome: fleet.Succeeded,
					From: r.row("web-1").ClaimVersion})
				r.step()
			}
			if cached { // a check, after which the row is remembered
				r.inbox.Enqueue("web-1", false)
				r.step()
			}
			r.elsewhere(rebind)
			delete(r.salt.keys[salt.Accepted], "web-1")
			r.inbox.Enqueue("web-1", false)
			r.step()
			r.salt.keys[salt.Accepted]["web-1"] = []byte(rebind.PublicKey)
			r.inbox.Enqueue("web-1", false)
			r.step()
			if strings.Contains(log.String(), "key needs an operator") || len(r.engine.Status().Problems) != 0 {
				t.Errorf("%s, %v", log, r.engine.Status().Problems)
			}
		})
	}
}

// TestOtherAcceptedKeyIsReported: after the restore of an older copy of the store another
// key is bound than the one that this master has accepted. The bridge reports it until an
// administrator has said which is right.
func TestOtherAcceptedKeyIsReported(t *testing.T) {
	r := newRig(t, openSQLite(t), func(c *Config) { c.ResyncEvery = ResyncEvery })
	key := r.bearer("web-1")
	other := []byte(lab.UnknownKey())
	r.salt.keys[salt.Accepted]["web-1"] = other
	r.compares()
	if p := r.engine.Status().Problems; len(p) != 1 || p[0].Kind != OtherKey || p[0].Minion != "web-1" {
		t.Fatalf("problems: %v", p)
	}
	plan, err := MakePlan(t.Context(), r.engine.cfg, r.store, r.salt, nil)
	if err != nil || len(plan.OtherKeys) != 1 {
		t.Errorf("plan: %+v, %v", plan, err)
	}
	delete(r.salt.keys[salt.Accepted], "web-1") // and the event of it is lost
	r.compares()
	if p := r.engine.Status().Problem[OtherKey]; p != 0 {
		t.Errorf("the key is gone: %v", r.engine.Status().Problems)
	}
	r.salt.keys[salt.Accepted]["web-1"] = other
	r.compares()
	r.salt.keys[salt.Accepted]["web-1"] = key
	r.compares()
	if p := r.engine.Status().Problem[OtherKey]; p != 0 {
		t.Errorf("the right key is accepted: %v", r.engine.Status().Problems)
	}
}

// TestReboundThereAndBackIsNotRemovedByHand: the key of a minion is rebound to another one
// and back, before the bridge looks. The key that it remembers is bound and not there,
// since the master deleted it for the first rebinding. After that, a deletion by hand is
// one.
func TestReboundThereAndBackIsNotRemovedByHand(t *testing.T) {
	r, log, there := reboundRig(t)
	old := r.salt.keys[salt.Accepted]["web-1"]
	r.elsewhere(there, fleet.Bind{InstanceID: "web-1", KeySHA256: there.Replaces, PublicKey: string(old),
		Replaces: there.KeySHA256, Rebound: there.KeySHA256})
	delete(r.salt.keys[salt.Accepted], "web-1")
	r.inbox.Enqueue("web-1", false) // the master's event
	r.step()
	r.salt.keys[salt.Accepted]["web-1"] = old // the command writes it, and notifies the bridge
	r.inbox.Invalidate([]string{"web-1"})
	r.step()
	if strings.Contains(log.String(), "key needs an operator") || len(r.engine.Status().Problems) != 0 {
		t.Errorf("%s, %v", log, r.engine.Status().Problems)
	}

	delete(r.salt.keys[salt.Accepted], "web-1")
	r.inbox.Enqueue("web-1", false)
	r.step()
	if p := r.engine.Status().Problems; len(p) != 1 || p[0].Kind != KeyRemoved || r.accepted("web-1") {
		t.Errorf("deleted by hand: %v, %s", p, log)
	}
}
