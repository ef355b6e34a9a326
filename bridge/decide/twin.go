package decide

import "phoenix/bridge/fleet"

// Twin finds out whether another bridge beats under the same instance id: two
// hosts of one image, or a configuration that was copied.
//
// A counter that went up by more than this bridge's own beat is no more than a
// suspicion: a beat whose answer was lost counts twice. While there is one, the
// row is read before each beat. One that another incarnation wrote after ours is
// another's beat; a process that ended can have sent the last of its own late, but
// not several.
type Twin struct {
	counter  int64 // after our last beat
	beats    int
	suspects int // looks that are still to be taken
	foreign  int // looks in a row that found another's incarnation
	found    bool
	young    bool
}

const (
	// twinLooks: how many looks one suspicion is worth.
	twinLooks = 3
	// twinFound: how many in a row must find another's beat.
	twinFound = 2
	// twinYoung: a bridge that finds another within so many of its own first beats
	// came second.
	twinYoung = 6
)

// Beat takes in the row after a beat of ours.
func (t *Twin) Beat(row fleet.Master) {
	t.beats++
	if t.beats > 1 && row.Heartbeat > t.counter+1 {
		t.suspects = twinLooks
	}
	t.counter = row.Heartbeat
}

// Suspects says whether the row is to be read before the next beat.
func (t *Twin) Suspects() bool { return t.suspects > 0 || t.found }

// Look takes in the row as it is before our next beat.
func (t *Twin) Look(row fleet.Master, incarnation string) {
	t.suspects = max(t.suspects-1, 0)
	if row.Incarnation == incarnation {
		t.foreign, t.found = 0, false
		return
	}
	t.foreign++
	t.suspects = twinLooks
	if t.foreign >= twinFound && !t.found {
		t.found, t.young = true, t.beats <= twinYoung
	}
}

// Found says whether there is another.
func (t *Twin) Found() bool { return t.found }

// Younger says whether the other was there first.
func (t *Twin) Younger() bool { return t.found && t.young }
