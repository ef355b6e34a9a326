package decide

import "phoenix/bridge/fleet"

// Twin detects another bridge that beats under the same instance id: two hosts of
// one image, or a copied configuration.
//
// A counter that rises by more than this bridge's own beat is only a suspicion: a
// beat whose answer was lost counts twice. While a suspicion lasts, the row is read
// before each beat. A row that another incarnation wrote after ours holds another
// bridge's beat. A process that has ended can have sent its last beat late, but not
// several.
type Twin struct {
	counter int64 // after our last beat
	beats   int
	reads   int // that are still to be made before a beat
	foreign int // reads in a row that found another incarnation
	found   bool
	second  bool
}

const (
	// twinReads: so many reads follow a suspicion.
	twinReads = 3
	// twinFound: so many reads in a row must find another's beat.
	twinFound = 2
	// twinYoung: a bridge that finds another within its first beats, so many, was
	// started second.
	twinYoung = 6
)

// Beat records the row after this bridge's beat.
func (t *Twin) Beat(row fleet.Master) {
	t.beats++
	if t.beats > 1 && row.Heartbeat > t.counter+1 {
		t.reads = twinReads
	}
	t.counter = row.Heartbeat
}

// Suspects reports whether the row is to be read before the next beat.
func (t *Twin) Suspects() bool { return t.reads > 0 || t.found }

// Observe records the row before this bridge's next beat.
func (t *Twin) Observe(row fleet.Master, incarnation string) {
	t.reads = max(t.reads-1, 0)
	if row.Incarnation == incarnation {
		t.foreign, t.found = 0, false
		return
	}
	t.foreign++
	t.reads = twinReads
	if t.foreign >= twinFound && !t.found {
		t.found, t.second = true, t.beats <= twinYoung
	}
}

// Found reports whether there is another bridge.
func (t *Twin) Found() bool { return t.found }

// CameSecond reports whether the other bridge was there first.
func (t *Twin) CameSecond() bool { return t.found && t.second }
