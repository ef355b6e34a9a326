package fleet_test

import (
	"errors"
	"testing"

	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/fleettest"
)

// every calls f for each change on each kind of row.
func every(t *testing.T, f func(t *testing.T, c fleet.Change, before fleet.Minion, found bool)) {
	for _, st := range fleettest.States() {
		for _, in := range fleettest.Inputs() {
			t.Run(in.Name+" on "+st.Name, func(t *testing.T) {
				rows := fleettest.Model{}
				for _, r := range rows.Apply(st.Changes("i")...) {
					if r.Err != nil {
						t.Fatal(r.Err)
					}
				}
				before, found := rows["i"]
				f(t, in.Change("i", before), before, found)
			})
		}
	}
}

// A change that does not apply gives back the row as it was: stores report it.
func TestRefusalLeavesRow(t *testing.T) {
	every(t, func(t *testing.T, c fleet.Change, before fleet.Minion, found bool) {
		if after, err := c.Apply(before, found); err != nil && after != before {
			t.Errorf("%v, and the row is %+v", err, after)
		}
	})
}

// An answer that was lost on the way is asked for by doing the same again.
func TestRepeatIsHarmless(t *testing.T) {
	every(t, func(t *testing.T, c fleet.Change, before fleet.Minion, found bool) {
		after, err := c.Apply(before, found)
		if err != nil {
			return
		}
		if twice, err := c.Apply(after, true); err != nil || twice != after {
			t.Errorf("the second time: %v, %+v; after the first %+v", err, twice, after)
		}
	})
}

// TestG4TerminationIsFinal: only an operator who says that the name has come again
// undoes it.
func TestG4TerminationIsFinal(t *testing.T) {
	every(t, func(t *testing.T, c fleet.Change, before fleet.Minion, found bool) {
		after, _ := c.Apply(before, found)
		add, _ := c.(fleet.Add)
		if before.Status == fleet.Terminate && after.Status != fleet.Terminate && !add.Revive {
			t.Errorf("%+v", after)
		}
	})
}

// TestG2SuccessIsFinal: nothing but a request takes a success back, and no claim
// fits a row that has one.
func TestG2SuccessIsFinal(t *testing.T) {
	every(t, func(t *testing.T, c fleet.Change, before fleet.Minion, found bool) {
		after, err := c.Apply(before, found)
		if !before.HighstateRan {
			return
		}
		switch c := c.(type) {
		case fleet.Rerun, fleet.Tombstone:
		case fleet.Bind:
			if c.Replaces != before.KeySHA256 && !after.HighstateRan {
				t.Errorf("%+v", after)
			}
		case fleet.Claim:
			if err == nil {
				t.Errorf("claimed: %+v", after)
			}
		default:
			if !after.HighstateRan || after.ClaimState != fleet.Done {
				t.Errorf("%+v", after)
			}
		}
	})
}

// TestG1VersionsRise: each write of a claim has a version of its own, so that two
// claimers who saw the same row cannot both win.
func TestG1VersionsRise(t *testing.T) {
	type claim struct {
		state    fleet.ClaimState
		owner    string
		inc, jid string
		attempt  int
	}
	of := func(m fleet.Minion) claim {
		return claim{m.ClaimState, m.ClaimOwner, m.ClaimIncarnation, m.ClaimJID, m.Attempt}
	}
	every(t, func(t *testing.T, c fleet.Change, before fleet.Minion, found bool) {
		after, _ := c.Apply(before, found)
		rise := after.ClaimVersion - before.ClaimVersion
		if _, strips := c.(fleet.Tombstone); strips {
			if rise != 0 {
				t.Errorf("version %d after %d", after.ClaimVersion, before.ClaimVersion)
			}
			return // a tombstone keeps the version and forgets the claim
		}
		if rise < 0 || rise > 1 || rise == 0 && of(before) != of(after) {
			t.Errorf("%+v after %+v", after, before)
		}
	})
}

// TestG3BoundKeyStays: no change but an admin's rebinding, or the name's next life,
// puts another key in the place of one.
func TestG3BoundKeyStays(t *testing.T) {
	every(t, func(t *testing.T, c fleet.Change, before fleet.Minion, found bool) {
		after, err := c.Apply(before, found)
		if before.KeySHA256 == "" || after.KeySHA256 == before.KeySHA256 {
			return
		}
		bind, _ := c.(fleet.Bind)
		add, _ := c.(fleet.Add)
		_, strips := c.(fleet.Tombstone)
		if err != nil || bind.Replaces != before.KeySHA256 && !add.Revive && !strips ||
			bind.Replaces != "" && after.KeySHA256 == "" {
			t.Errorf("%v: key %.4s in the place of %.4s", err, after.KeySHA256, before.KeySHA256)
		}
	})
}

// TestReplacedKeyIsAnother: a row names a replaced key only by an administrator's
// rebinding, as long as that rebinding stands, and never its own key.
func TestReplacedKeyIsAnother(t *testing.T) {
	every(t, func(t *testing.T, c fleet.Change, before fleet.Minion, found bool) {
		after, _ := c.Apply(before, found)
		bind, _ := c.(fleet.Bind)
		if after.ReplacedSHA256 != "" && (after.ReplacedSHA256 == after.KeySHA256 || after.KeySHA256 == "") {
			t.Errorf("%.4s replaced %.4s", after.KeySHA256, after.ReplacedSHA256)
		}
		switch {
		case after.ReplacedSHA256 == before.ReplacedSHA256 && after.KeySHA256 == before.KeySHA256:
		case after.KeySHA256 == before.KeySHA256 && after.ReplacedSHA256 != "" && after.ReplacedSHA256 != bind.Rebound:
			t.Errorf("%.4s replaced %.4s, and before %.4s", after.KeySHA256, after.ReplacedSHA256,
				before.ReplacedSHA256)
		case after.ReplacedSHA256 != "" && after.ReplacedSHA256 != bind.Rebound:
			t.Errorf("%.4s replaced %.4s, which nobody asked for", after.KeySHA256, after.ReplacedSHA256)
		}
	})
}

// TestG6AnyOrder: launch and termination, repeated and in any order, end alike.
func TestG6AnyOrder(t *testing.T) {
	add, retire := fleet.Add{InstanceID: "i", Group: "web"}, fleet.Retire{InstanceID: "i"}
	for bits := range 1 << 6 {
		rows := fleettest.Model{}
		terminated := false
		for i := range 6 {
			if bits>>i&1 == 1 {
				rows.Apply(retire)
				terminated = true
			} else {
				rows.Apply(add)
			}
		}
		if got := rows["i"].Status == fleet.Terminate; got != terminated {
			t.Errorf("messages %06b: %s", bits, rows["i"].Status)
		}
	}
}

// TestFormerLife: what the bridge still believes of a terminated machine does not
// fit the machine that has its name.
func TestFormerLife(t *testing.T) {
	rows := fleettest.Model{}
	former := rows.Apply(
		fleet.Add{InstanceID: "i"},
		fleet.Claim{InstanceID: "i", Owner: "m", JID: "j1", Attempt: 1},
		fleet.Retire{InstanceID: "i"},
		fleet.Tombstone{InstanceID: "i", Expires: 1},
		fleet.Add{InstanceID: "i", Revive: true},
	)[1].Row
	for _, c := range []fleet.Change{
		fleet.Claim{InstanceID: "i", From: former.ClaimVersion, Owner: "m", JID: "j1", Attempt: 1},
		fleet.Claim{InstanceID: "i", From: former.ClaimVersion - 1, Owner: "m", JID: "j1", Attempt: 1},
		fleet.Finish{InstanceID: "i", JID: "j1", Outcome: fleet.Succeeded},
	} {
		if _, err := c.Apply(rows["i"], true); !errors.Is(err, fleet.ErrConflict) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
