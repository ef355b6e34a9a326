package service

import (
	"fmt"
	"testing"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
	"phoenix/lab"
)

// TestG12_RefusedDeletionIsOfOneMinion: the master refuses each call that would delete the
// key of one of two minions. The keys of all others go, at one call a minute, and the two
// cost fewer and fewer calls.
func TestG12_RefusedDeletionIsOfOneMinion(t *testing.T) {
	const good = 60
	r, h := brokenRig(t)
	h.fault = "refused delete"
	key := []byte(lab.UnknownKey())
	digest, _ := fleet.KeyDigest(key)
	ids := []string{"bad-1", "bad-2"}
	for i := range good {
		ids = append(ids, fmt.Sprintf("good-%02d", i))
	}
	for _, id := range ids {
		if _, err := h.Store.Apply(t.Context(),
			[]fleet.Change{fleet.Add{InstanceID: id, MinionID: id}, fleet.Bind{InstanceID: id, KeySHA256: digest},
				fleet.Retire{InstanceID: id}}); err != nil {
			t.Fatal(err)
		}
		h.keys[salt.Accepted][id] = key
		r.inbox.Invalidate([]string{id})
	}
	begun := r.clock
	left := func() (n int) {
		for _, id := range ids[2:] {
			if r.accepted(id) {
				n++
			}
		}
		return n
	}
	for left() > 0 && r.clock.Sub(begun) < 2*time.Hour {
		r.works(time.Minute)
	}
	t.Logf("%d left after %v and %d calls", left(), r.clock.Sub(begun), h.deletes)
	if took := r.clock.Sub(begun); left() > 0 || took > 20*time.Minute {
		t.Errorf("%d of %d keys are left after %v", left(), good, took)
	}
	before := h.deletes
	r.works(3 * time.Hour)
	if n := h.deletes - before; n > 30 {
		t.Errorf("%d calls in three hours for two keys", n)
	}
	// One more is terminated, and does not wait for them.
	id := "a-late-one"
	if _, err := h.Store.Apply(t.Context(),
		[]fleet.Change{fleet.Add{InstanceID: id, MinionID: id}, fleet.Bind{InstanceID: id, KeySHA256: digest},
			fleet.Retire{InstanceID: id}}); err != nil {
		t.Fatal(err)
	}
	h.keys[salt.Accepted][id] = key
	r.inbox.Invalidate([]string{id})
	if r.works(3 * time.Minute); r.accepted(id) {
		t.Error("a key that is terminated later waits")
	}
}
