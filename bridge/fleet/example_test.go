package fleet_test

import (
	"errors"
	"fmt"

	"phoenix/bridge/fleet"
)

// A change is a pure function of the row. Made twice, it gives the same row; one that
// does not apply says why.
func ExampleChange() {
	row, _ := fleet.Add{InstanceID: "i-0123456789abcdef0", Group: "web"}.Apply(fleet.Minion{}, false)
	bind := fleet.Bind{InstanceID: row.InstanceID, KeySHA256: "6aa4f8"}
	row, _ = bind.Apply(row, true)
	row, err := bind.Apply(row, true) // the answer to the first was lost
	fmt.Println(row.Status, row.KeySHA256, err)

	row, _ = fleet.Retire{InstanceID: row.InstanceID}.Apply(row, true)
	_, err = fleet.Add{InstanceID: row.InstanceID}.Apply(row, true) // a message that came late
	fmt.Println(row.Status, errors.Is(err, fleet.ErrTerminated))
	// Output:
	// LAUNCH 6aa4f8 <nil>
	// TERMINATE true
}

// Of two masters that claim the first highstate of one minion, one gets it.
func ExampleClaim() {
	row := fleet.Minion{InstanceID: "web-1", Status: fleet.Launch, KeySHA256: "6aa4f8"}
	first := fleet.Claim{InstanceID: "web-1", From: row.ClaimVersion, Owner: "salt-1",
		JID: "20260102030405000000", Attempt: 1}
	second := fleet.Claim{InstanceID: "web-1", From: row.ClaimVersion, Owner: "salt-2",
		JID: "20260102030405000001", Attempt: 1}

	row, err := first.Apply(row, true)
	fmt.Println(row.ClaimOwner, err)
	_, err = second.Apply(row, true)
	fmt.Println(errors.Is(err, fleet.ErrConflict))
	// Output:
	// salt-1 <nil>
	// true
}

// A damaged row does not hide the others.
func ExampleWithoutBadRows() {
	err := fleet.BadRows(map[string]error{"web-2": fleet.ErrCorrupt})
	bad, rest := fleet.WithoutBadRows(err)
	fmt.Println(len(bad), rest)
	// Output: 1 <nil>
}
