package fleet_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/fleettest"
)

// TestTransitions compares what every change does to every kind of row with
// testdata/transitions.txt. For each change the file lists its outcomes, and
// behind each the rows that have it: "-" for nothing to do, an error, or the
// attributes that change. A pair that the file lacks is a fault.
func TestTransitions(t *testing.T) {
	want, err := os.ReadFile("testdata/transitions.txt")
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, in := range fleettest.Inputs() {
		outcomes := map[string][]string{}
		var order []string
		for _, st := range fleettest.States() {
			rows := fleettest.Model{}
			rows.Apply(st.Changes("i")...)
			before, found := rows["i"]
			after, err := in.Change("i", before).Apply(before, found)
			outcome := delta(t, before, after)
			if err != nil {
				outcome = "! " + err.Error()
			}
			if outcomes[outcome] == nil {
				order = append(order, outcome)
			}
			outcomes[outcome] = append(outcomes[outcome], st.Name)
		}
		fmt.Fprintf(&got, "%s\n", in.Name)
		for _, o := range order {
			fmt.Fprintf(&got, "  %s\n    %s\n", o, strings.Join(outcomes[o], " "))
		}
	}
	gotLines, wantLines := strings.Split(got.String(), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(gotLines), len(wantLines)) {
		if i >= len(gotLines) || i >= len(wantLines) || gotLines[i] != wantLines[i] {
			t.Fatalf("testdata/transitions.txt differs from line %d on; the changes say\n%s", i+1,
				strings.Join(gotLines[min(i, len(gotLines)):], "\n"))
		}
	}
}

// delta names the attributes that differ, with their new values.
func delta(t *testing.T, before, after fleet.Minion) string {
	t.Helper()
	b, a := attributes(t, before), attributes(t, after)
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(a)) {
		if a[name] == b[name] || name == "public_key" {
			continue
		}
		value := fmt.Sprint(a[name])
		if name == "key_sha256" && value != "" {
			value = value[:1] // keys are one letter, many times
		}
		parts = append(parts, name+"="+value)
	}
	if len(parts) == 0 {
		return "-"
	}
	return strings.Join(parts, " ")
}

func attributes(t *testing.T, row fleet.Minion) map[string]any {
	t.Helper()
	text, err := json.Marshal(row)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]any{"expires": json.Number("0")} // omitted where it is zero
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&m); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestReplacedKeyIsKept: an administrator who rebinds on a second master names the key
// that is accepted there, of a row that has the new one already; and a tombstone keeps it.
func TestReplacedKeyIsKept(t *testing.T) {
	row := fleet.Minion{InstanceID: "i", Status: fleet.Launch, KeySHA256: "new", ReplacedSHA256: "first",
		HighstateRan: true}
	row, err := fleet.Bind{InstanceID: "i", KeySHA256: "new", Replaces: "new", Rebound: "second"}.Apply(row, true)
	if err != nil || row.ReplacedSHA256 != "second" || !row.HighstateRan {
		t.Errorf("%+v, %v", row, err)
	}
	for _, c := range []fleet.Change{fleet.Bind{InstanceID: "i", KeySHA256: "new"},
		fleet.Bind{InstanceID: "i", KeySHA256: "new", Rebound: "new"},
		fleet.Retire{InstanceID: "i"}, fleet.Tombstone{InstanceID: "i", Expires: 1}} {
		if row, err = c.Apply(row, true); err != nil || row.ReplacedSHA256 != "second" {
			t.Errorf("%T: %+v, %v", c, row, err)
		}
	}
}
