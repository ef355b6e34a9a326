package decide

import (
	"testing"

	"phoenix/bridge/fleet"
)

// twins lets bridges beat in turn on one row, and gives for each the beat at which
// it found another; 0: never.
func twins(rounds int, script func(round, bridge int) (writes int)) [2]int {
	var row fleet.Master
	var t [2]Twin
	var found [2]int
	names := [2]string{"a", "b"}
	for round := range rounds {
		for i := range t {
			writes := script(round, i)
			if writes == 0 {
				continue
			}
			if t[i].Suspects() {
				t[i].Observe(row, names[i])
			}
			if t[i].Found() && found[i] == 0 {
				found[i] = round
			}
			row.Heartbeat += int64(writes)
			row.Incarnation = names[i]
			t[i].Beat(row)
		}
	}
	return found
}

func TestTwin(t *testing.T) {
	for _, c := range []struct {
		name   string
		script func(round, bridge int) int
		first  [2]bool // must be found within three beats of the second's begin
		begins int
	}{
		{"one bridge alone", func(_, i int) int { return 1 - i }, [2]bool{}, 0},
		{"answers that are lost", func(_, i int) int { return 2 * (1 - i) }, [2]bool{}, 0},
		{"one answer lost", func(r, i int) int {
			if i == 1 {
				return 0
			}
			return 1 + r%7/6
		}, [2]bool{}, 0},
		{"two from the start", func(int, int) int { return 1 }, [2]bool{true, true}, 0},
		{"a second one comes", func(r, i int) int {
			if i == 1 && r < 20 {
				return 0
			}
			return 1
		}, [2]bool{true, true}, 20},
		{"a restart: the old one's last beat comes late", func(r, i int) int {
			if i == 0 && r >= 3 || i == 1 && r < 3 {
				if i == 0 && r == 4 {
					return 1
				}
				return 0
			}
			return 1
		}, [2]bool{}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := twins(40, c.script)
			for i, want := range c.first {
				switch {
				case !want && got[i] != 0:
					t.Errorf("bridge %d took itself for two at beat %d", i, got[i])
				case want && (got[i] == 0 || got[i] > c.begins+3):
					t.Errorf("bridge %d found the other at beat %d, which began at %d", i, got[i], c.begins)
				}
			}
		})
	}
}

// The second one is distinguished from the one that was there.
func TestTwinWhoCameSecond(t *testing.T) {
	var row fleet.Master
	var older, younger Twin
	beat := func(tw *Twin, name string) {
		if tw.Suspects() {
			tw.Observe(row, name)
		}
		row.Heartbeat++
		row.Incarnation = name
		tw.Beat(row)
	}
	for range 20 {
		beat(&older, "a")
	}
	for range 4 {
		beat(&younger, "b")
		beat(&older, "a")
	}
	if !younger.CameSecond() || !older.Found() || older.CameSecond() {
		t.Errorf("the older found %v (younger %v), the younger found %v", older.Found(), older.CameSecond(),
			younger.CameSecond())
	}
	for range 3 { // the younger has ended
		beat(&older, "a")
	}
	if older.Found() {
		t.Error("the older still sees another, which has ended")
	}
}
