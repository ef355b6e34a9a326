package identity

import (
	"slices"

	"phoenix/bridge/fleet"
)

// Rotation is a change of the shared key pair that is under way. It lies in the
// object beside the pair, so that each master finds out what is next, and a command
// that was killed goes on where it was.
//
// A minion trusts one master key, the one in minion_master.pub, and masters change
// theirs one after the other. So minions get both keys before the first master
// changes, in a file beside minion_master.pub that Salt does not read. An agent takes
// for its minion's masters those of either key, and puts the key of the masters that
// it chose into minion_master.pub before it restarts the minion. So each minion is
// served by a master that it trusts at each moment, whichever master dies.
type Rotation struct {
	// Next is the pair that is to be shared, nil once it is: from then on masters that
	// are launched have it.
	Next *Pair
	// Old is the public half of the pair that is replaced.
	Old []byte
	// Turn is the master that changes its key now; empty: none.
	Turn string
	// Distributed are the masters that gave both keys to the minions that are connected to
	// them, and Cleared those that had them forget the old one.
	Distributed, Cleared []string
	// Reached are the minions that have both keys from one of those masters, and Unreached
	// those that such a master knows and none has reached. A minion that one master
	// missed and another does not know was reached by nobody, so both are kept.
	Reached, Unreached []string
}

// NewKey is the pair that masters are to have. shared is the one in the object.
func (r Rotation) NewKey(shared Pair) Pair {
	if r.Next != nil {
		return *r.Next
	}
	return shared
}

// OldDigest names the key that is replaced.
func (r Rotation) OldDigest() string {
	digest, _ := fleet.KeyDigest(r.Old) // decode has checked it
	return digest
}

// Stage is what a master has to do next.
type Stage string

const (
	StageDistribute Stage = "tell"   // give its minions both keys
	StageWait       Stage = "wait"   // for other masters
	StageChange     Stage = "change" // its own key, as it is its turn
	StageClear      Stage = "clear"  // have its minions forget the old key
	StageDone       Stage = "done"   // nothing: the rotation is over, for this master or for all
)

// NextStage decides what a master has to do next, and which masters it waits for. own is the
// digest of the key that it has, masters are the rows of all.
func (r *Rotation) NextStage(id, own string, shared Pair, masters []fleet.Master) (Stage, []string) {
	if r == nil {
		return StageDone, nil
	}
	fresh := r.NewKey(shared).Digest
	var unreached, unchanged, uncleared []string
	for _, m := range masters {
		if m.Status != fleet.Launch {
			continue
		}
		// A master that was launched meanwhile has the new key already.
		if m.MasterKeySHA256 != fresh && !slices.Contains(r.Distributed, m.InstanceID) {
			unreached = append(unreached, m.InstanceID)
		}
		if m.MasterKeySHA256 != fresh && m.InstanceID != id {
			unchanged = append(unchanged, m.InstanceID)
		}
		if !slices.Contains(r.Cleared, m.InstanceID) {
			uncleared = append(uncleared, m.InstanceID)
		}
	}
	busy := r.Turn != "" && r.Turn != id && slices.ContainsFunc(masters, func(m fleet.Master) bool {
		return m.InstanceID == r.Turn && m.Status == fleet.Launch
	})
	switch {
	case own != fresh && !slices.Contains(r.Distributed, id):
		return StageDistribute, nil
	case r.Turn == id:
		return StageChange, nil
	case own != fresh && len(unreached) > 0:
		return StageWait, unreached
	case own != fresh && busy:
		return StageWait, []string{r.Turn}
	case own != fresh:
		return StageChange, nil
	case len(unchanged) > 0:
		return StageWait, unchanged
	case !slices.Contains(r.Cleared, id):
		return StageClear, nil
	}
	return StageDone, uncleared
}
