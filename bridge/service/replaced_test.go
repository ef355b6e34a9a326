package service

import (
	"context"
	"errors"
	"testing"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
	"phoenix/lab"
)

// TestG9_ReplacedKeyGoesEverywhere: an administrator has replaced the key of a minion on
// another master. This one replaces the key that was replaced, and no other.
func TestG9_ReplacedKeyGoesEverywhere(t *testing.T) {
	old, fresh, third := []byte(lab.UnknownKey()), []byte(lab.UnknownKey()), []byte(lab.UnknownKey())
	digest := func(key []byte) string {
		d, err := fleet.KeyDigest(key)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	rebound := fleet.Bind{InstanceID: "web-1", KeySHA256: digest(fresh), PublicKey: string(fresh),
		Replaces: digest(old), Rebound: digest(old)}
	unlinked := rebound
	unlinked.PublicKey = "" // the bridge of the other master has unlinked it: only its digest is known
	for what, c := range map[string]struct {
		change   fleet.Bind
		prepare  func(r *rig) // after the rebinding, before this master knows of it
		accepted []byte       // in the end
		state    func(r *rig) bool
	}{
		"as it was": {change: rebound, accepted: fresh},
		"the new key is denied here": {change: rebound, accepted: fresh,
			prepare: func(r *rig) { r.salt.keys[salt.Denied]["web-1"] = fresh },
			state:   func(r *rig) bool { return r.salt.keys[salt.Denied]["web-1"] == nil }},
		"another key is denied here": {change: rebound, accepted: fresh,
			prepare: func(r *rig) { r.salt.keys[salt.Denied]["web-1"] = third },
			state:   func(r *rig) bool { return r.salt.keys[salt.Denied]["web-1"] != nil }},
		"a pending key hides the accepted one": {change: rebound, accepted: fresh,
			prepare: func(r *rig) { r.salt.keys[salt.Pending]["web-1"] = third },
			state:   func(r *rig) bool { return r.salt.keys[salt.Pending]["web-1"] == nil }},
		"the row has no text of the key": {change: unlinked, accepted: nil},
		"a third key was accepted by hand": {change: rebound, accepted: third,
			prepare: func(r *rig) { r.salt.keys[salt.Accepted]["web-1"] = third },
			state:   func(r *rig) bool { return r.engine.audit.last["web-1"] == "accepted-other-key" }},
		"a key is rejected": {change: rebound, accepted: old,
			prepare: func(r *rig) { r.salt.keys[salt.Rejected]["web-1"] = third },
			state:   func(r *rig) bool { return r.engine.audit.last["web-1"] == "accepted-other-key" }},
		"the key of the row was accepted by a command": {change: rebound, accepted: fresh,
			prepare: func(r *rig) { r.salt.keys[salt.Accepted]["web-1"] = fresh }},
		"a rule bound it, not an administrator": {accepted: old,
			change: fleet.Bind{InstanceID: "web-1", KeySHA256: digest(fresh), PublicKey: string(fresh),
				Replaces: digest(old)},
			state: func(r *rig) bool { return r.engine.audit.last["web-1"] == "accepted-other-key" }},
		"it was retired as well": {change: rebound, accepted: nil,
			prepare: func(r *rig) { r.elsewhere(fleet.Retire{InstanceID: "web-1"}) }},
		"the master does not delete it": {change: rebound, accepted: old,
			prepare: func(r *rig) { r.engine.master = &keeping{plain: r.salt} },
			state:   func(r *rig) bool { return r.engine.Status().Problem[Undeletable] == 1 }},
		"the call of the master fails and was carried out": {change: rebound, accepted: fresh,
			prepare: func(r *rig) { r.engine.master = &lostAnswer{plain: r.salt} }},
		"a command is quicker than the call": {change: rebound, accepted: fresh,
			prepare: func(r *rig) { r.engine.master = &quickCommand{plain: r.salt, key: fresh} }},
		"it was bound again before the call": {change: rebound, accepted: old,
			prepare: func(r *rig) {
				r.engine.deleteAt = r.clock.Add(ResyncEvery + 30*time.Second) // a call a minute
				r.works(ResyncEvery)
				if r.engine.deletes["web-1"].InstanceID == "" {
					t.Error("it does not wait to be deleted")
				}
				r.elsewhere(fleet.Bind{InstanceID: "web-1", KeySHA256: digest(old), PublicKey: string(old),
					Replaces: digest(fresh), Rebound: digest(fresh)})
			}},
	} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t, openSQLite(t), func(c *Config) { c.ResyncEvery, c.PollEvery = ResyncEvery, time.Minute })
			r.apply(fleet.Add{InstanceID: "web-1"})
			r.knocks("web-1", old)
			other := r.bearer("web-2")
			r.works(time.Minute)
			r.elsewhere(c.change)
			if c.prepare != nil {
				c.prepare(r)
			}
			r.works(ResyncEvery + 2*time.Minute)
			if got := r.salt.keys[salt.Accepted]["web-1"]; string(got) != string(c.accepted) {
				t.Errorf("accepted is %q", got)
			}
			if c.state != nil && !c.state(r) {
				t.Errorf("audit %v, keys %v, problems %v", r.engine.audit.last, r.salt.keys, r.engine.Status().Problems)
			}
			if string(r.salt.keys[salt.Accepted]["web-2"]) != string(other) ||
				r.engine.Status().Problem[KeyRemoved] != 0 {
				t.Errorf("another minion: %v, %v", r.salt.keys, r.engine.Status().Problems)
			}
			if what != "the row has no text of the key" {
				return
			}
			r.knocks("web-1", third)
			r.works(time.Minute)
			if r.accepted("web-1") {
				t.Error("a third key is accepted")
			}
			r.knocks("web-1", fresh)
			r.works(time.Minute)
			if got := r.salt.keys[salt.Accepted]["web-1"]; string(got) != string(fresh) {
				t.Errorf("accepted is %q", got)
			}
		})
	}
}

// lostAnswer is a master whose first answer to a deletion is lost.
type lostAnswer struct {
	*plain
	calls int
}

func (l *lostAnswer) Delete(ctx context.Context, keys map[salt.State][]string) error {
	if l.calls++; l.calls == 1 {
		return errors.Join(l.plain.Delete(ctx, keys), salt.ErrUnreachable)
	}
	return l.plain.Delete(ctx, keys)
}

// quickCommand has an administrator's command write the new key right after the master
// has deleted the old one.
type quickCommand struct {
	*plain
	key []byte
}

func (q *quickCommand) Delete(ctx context.Context, keys map[salt.State][]string) error {
	err := q.plain.Delete(ctx, keys)
	for _, id := range keys[salt.Accepted] {
		q.keys[salt.Accepted][id] = q.key
	}
	return err
}
