package main

import (
	"testing"
	"time"

	"phoenix/lab"
)

// TestSmallFleet: 200 minions at once on a real master, each admitted, each with one
// highstate on record; and the same with the doors open, which is what "make scale"
// holds it against.
func TestSmallFleet(t *testing.T) {
	const n = 200
	for _, w := range ways {
		if w.name == phoenix || w.name == floor {
			continue // 10 s of waiting, and a command
		}
		t.Run(w.name, func(t *testing.T) {
			r := measure(t, lab.Salt3007, n, w)
			if r.double != 0 || r.lost != 0 || len(r.faults) != 0 {
				t.Errorf("%d minions with several highstates, %d without, %v", r.double, r.lost, r.faults)
			}
			if w.phoenix && r.bridge.Peak > 100 {
				t.Errorf("the bridge had %.0f MB", r.bridge.Peak)
			}
		})
	}
}

// TestMasterVanishes: one of two masters falls silent under a hundred minions. The other
// serves all, and no highstate is run again.
func TestMasterVanishes(t *testing.T) {
	said, again := vanish(t, lab.Salt3007, 100)
	t.Log(said)
	if again > 0 {
		t.Errorf("%d highstates were run again", again)
	}
}

func TestTable(t *testing.T) {
	var table table
	table.add("3007.17", 1000, map[string]result{floor: {took: 8 * time.Second}, open: {took: 10 * time.Second},
		phoenix: {took: 11 * time.Second}, phoenixSoon: {took: 10 * time.Second, lost: 1},
		phoenixAhead: {took: 10 * time.Second, double: 1}})
	want := map[string]string{phoenix: "yes", phoenixSoon: "NO", phoenixAhead: "NO"}
	for i, w := range ways {
		if line := table.lines[i]; w.phoenix && line[len(line)-len(want[w.name]):] != want[w.name] {
			t.Errorf("%s: %q", w.name, line)
		}
	}
}
