package decide

import "phoenix/bridge/fleet"

// Phase is the state of a minion, in one word.
type Phase string

const (
	PhaseForeign    Phase = "foreign"    // accepted here and not in the fleet: never touched
	PhaseUnlisted   Phase = "unlisted"   // asks to be accepted here, not in the fleet
	PhaseAdopted    Phase = "adopted"    // its key was accepted before Phoenix managed it: no highstate is run
	PhaseTerminated Phase = "terminated" // its instance was terminated
	PhaseListed     Phase = "listed"     // in the fleet, has not asked to be accepted yet
	PhaseAccepted   Phase = "accepted"   // a key is bound; its highstate has not begun
	PhaseRunning    Phase = "running"    // its highstate is claimed
	PhaseDone       Phase = "done"       // its highstate succeeded
	PhaseFailed     Phase = "failed"     // its last attempt failed
	PhaseUnreadable Phase = "unreadable" // its row cannot be decoded: it is skipped
)

// PhaseOf returns the phase of a minion by its row and, if there is none, by whether
// this master has accepted its key.
func PhaseOf(row fleet.Minion, known, accepted bool) Phase {
	switch {
	case !known && accepted:
		return PhaseForeign
	case !known:
		return PhaseUnlisted
	case row.Status == fleet.Terminate:
		return PhaseTerminated
	case row.HighstateRan || row.ClaimState == fleet.Done:
		return PhaseDone
	case row.Adopted():
		return PhaseAdopted
	case row.ClaimState == fleet.Claimed:
		return PhaseRunning
	case row.ClaimState == fleet.Failed:
		return PhaseFailed
	case row.KeySHA256 != "":
		return PhaseAccepted
	}
	return PhaseListed
}
