package agent

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"phoenix/bridge/fleet"
)

func entries(ids ...string) []Master {
	var masters []Master
	for i, id := range ids {
		masters = append(masters, master(id, fmt.Sprintf("10.0.0.%d", i+1)))
	}
	return masters
}

// G5: the list that is not made by NewList is not written, and NewList needs one.
func TestG5_ZeroListIsNotWritten(t *testing.T) {
	if text, err := render(List{}, Ports{}); !errors.Is(err, errNoMaster) {
		t.Errorf("rendered %q, %v", text, err)
	}
	l := NewList(master("a", "10.0.0.1"), master("b", "10.0.0.2"), master("c", "10.0.0.1"))
	if want := []string{"10.0.0.1", "10.0.0.2"}; !slices.Equal(l.Addresses(), want) {
		t.Errorf("got %v, want %v: each address once", l.Addresses(), want)
	}
}

func TestAddressesThatMinionsCanUse(t *testing.T) {
	for _, good := range []string{"10.0.0.1", "::1", "fd00::5", "master", "m-1.example.org",
		"ip-10-0-0-1.ec2.internal"} {
		if m, err := NewMaster(fleet.Master{InstanceID: "i", IPAddr: good}); err != nil || m.Address != good {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "no-ip-yet", "0.0.0.0", "::", "fe80::1%eth0", "a:4506", "a b", "a\n", "-a", "a/b",
		"*", "{x}", "ä"} {
		if m, err := NewMaster(fleet.Master{InstanceID: "i", IPAddr: bad}); err == nil {
			t.Errorf("%q was taken as %v", bad, m)
		}
	}
}

// What holds of the order of many minions: each master gets its share, one that
// leaves sets only its own minions moving, one that joins takes only its share,
// and the rest of the order stays.
func TestSpread(t *testing.T) {
	const minions = 6000
	four := entries("i-0a", "i-0b", "i-0c", "i-0d")
	three := four[:3]
	first := map[string]int{}
	moved := 0
	for i := range minions {
		id := fmt.Sprintf("i-%017x", i)
		with, without := slices.Clone(four), slices.Clone(three)
		Spread.sort(id, with)
		Spread.sort(id, without)
		first[with[0].InstanceID]++
		rest := slices.DeleteFunc(slices.Clone(with), func(m Master) bool { return m.InstanceID == "i-0d" })
		if !slices.Equal(rest, without) {
			t.Fatalf("%s: %v without i-0d is %v", id, with, without)
		}
		if with[0] != without[0] {
			moved++
			if with[0].InstanceID != "i-0d" {
				t.Fatalf("%s moves from %v to %v, though neither left", id, with[0], without[0])
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(first)) {
		if n := first[id]; n < minions/4*9/10 || n > minions/4*11/10 {
			t.Errorf("%s has %d of %d minions", id, n, minions)
		}
	}
	t.Logf("shares %v; one that leaves sets %d of %d moving", first, moved, minions)
}

func TestSorted(t *testing.T) {
	masters := []Master{master("a", "name"), master("b", "10.0.0.10"), master("c", "::1"), master("d", "10.0.0.9")}
	Sorted.sort("any", masters)
	if got := NewList(masters[0], masters[1:]...).String(); got != "10.0.0.9, 10.0.0.10, ::1, name" {
		t.Error(got)
	}
}
