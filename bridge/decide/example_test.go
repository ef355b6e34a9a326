package decide_test

import (
	"fmt"

	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
)

// The first key of a listed minion is accepted and bound; a different one that is pending
// later is removed, so that the right minion can authenticate.
func ExampleKeys() {
	view := decide.KeyView{ID: "web-1", Valid: true, Known: true,
		Row:     fleet.Minion{InstanceID: "web-1", Status: fleet.Launch},
		Pending: decide.Key{Present: true, Digest: "6aa4f8"}}
	d := decide.Keys(decide.Bound, view)
	fmt.Println(d.Act, d.Rule)

	view.Row.KeySHA256 = "6aa4f8" // as it was bound
	view.Pending.Digest = "0b11c2"
	d = decide.Keys(decide.Bound, view)
	fmt.Println(d.Act, d.Rule)

	view.Known, view.Row = false, fleet.Minion{}
	d = decide.Keys(decide.Bound, view)
	fmt.Println(d.Act, d.Rule)
	// Output:
	// accept first-knock
	// unlink other-key
	// leave not-listed
}

// A minion whose key was accepted by hand is foreign until an operator adopts it.
func ExamplePhaseOf() {
	fmt.Println(decide.PhaseOf(fleet.Minion{}, false, true))
	fmt.Println(decide.PhaseOf(fleet.Minion{Status: fleet.Launch, KeySHA256: "6aa4f8"}, true, true))
	// Output:
	// foreign
	// accepted
}
