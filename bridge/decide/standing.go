package decide

import "phoenix/bridge/fleet"

// Standing is where a minion stands, in one word.
type Standing string

const (
	Foreign    Standing = "foreign"    // accepted here, not in the fleet: never touched
	Unlisted   Standing = "unlisted"   // knocks here, not in the fleet
	Adopted    Standing = "adopted"    // in the fleet since before Phoenix came
	Terminated Standing = "terminated" // its instance is gone
	Expected   Standing = "listed"     // in the fleet, has not knocked yet
	Accepted   Standing = "accepted"   // has a key bound; its highstate has not begun
	Running    Standing = "running"    // its highstate was claimed
	Ran        Standing = "done"       // its highstate succeeded
	Broken     Standing = "failed"     // its last attempt failed
	Unreadable Standing = "unreadable" // its row cannot be decoded: passed over
)

// Stand says where a minion stands by its row and, if there is none, by whether
// this master has accepted its key.
func Stand(row fleet.Minion, known, accepted bool) Standing {
	switch {
	case !known && accepted:
		return Foreign
	case !known:
		return Unlisted
	case row.Status == fleet.Terminate:
		return Terminated
	case row.HighstateRan || row.ClaimState == fleet.Done:
		return Ran
	case row.Adopted():
		return Adopted
	case row.ClaimState == fleet.Claimed:
		return Running
	case row.ClaimState == fleet.Failed:
		return Broken
	case row.KeySHA256 != "":
		return Accepted
	}
	return Expected
}
