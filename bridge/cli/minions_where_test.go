package cli

import (
	"strings"
	"testing"
	"time"

	"phoenix/bridge/admin"
	"phoenix/bridge/fleet"
)

// A runner of highstates is no master: what a row says of it is not where a minion was seen.
func TestPlaceOfAnAdoptedMinion(t *testing.T) {
	valid := func(string) bool { return true }
	for _, runner := range []string{fleet.RunnerAdopted, fleet.RunnerRequested, "salt-9"} {
		row := fleet.Minion{InstanceID: "web-3", Status: fleet.Launch, KeySHA256: "x", HighstateRunner: runner}
		if p, answers := placeOf(row, valid); p.Last != "" || p.Why != noAnswer || !answers {
			t.Errorf("%s: %+v, %v", runner, p, answers)
		}
	}
}

// A key that was deleted by hand is the reason why its minion does not answer.
func TestKeyDeletedByHandIsTheReason(t *testing.T) {
	w := &whereabouts{places: map[string]place{
		"web-3": {ID: "web-3", Why: noAnswer}, "web-4": {ID: "web-4", Last: "salt-1", Why: noAnswer},
		"web-5": {ID: "web-5", Master: "salt-2"}}}
	w.blameKeys([]admin.OtherKey{{ID: "web-3", State: "denied"}, {ID: "web-5"}},
		map[string]bool{"web-4": true, "web-5": true, "web-6": true})
	if why := w.places["web-4"].Why; why != "its key was deleted here by hand (phoenix keys restore web-4)" {
		t.Error(why)
	}
	if why := w.places["web-3"].Why; !strings.HasPrefix(why, noAnswer+"; another key is denied") {
		t.Error(why)
	}
	if w.places["web-5"].Why != "" || len(w.places) != 3 {
		t.Errorf("%+v", w.places)
	}
}

// A master that does not serve is why no minion answers through it.
func TestNobodyOn(t *testing.T) {
	now := time.Now()
	m := fleet.Master{InstanceID: "salt-2", Status: fleet.Launch, Ready: true,
		Modified: fleet.FormatTime(now.Add(-2 * time.Second))}
	if got := nobodyOn(m, 30*time.Second, now); got != "" {
		t.Errorf("it serves: %s", got)
	}
	m.Modified = fleet.FormatTime(now.Add(-5 * time.Minute))
	if got := nobodyOn(m, 30*time.Second, now); !strings.HasPrefix(got, "salt-2 is STALE") ||
		!strings.Contains(got, "seen 5m0s ago: no minion answers through it") {
		t.Error(got)
	}
}

// The columns of minions that do not answer are there if there are any.
func TestPrintPlaces(t *testing.T) {
	for _, test := range []struct {
		places []place
		want   string
	}{
		{[]place{{ID: "web-1", Master: "salt-1"}}, "MINION  MASTER\nweb-1   salt-1\n"},
		{[]place{{ID: "web-1", Master: "salt-1"}, {ID: "web-2", Why: noAnswer}},
			"MINION  MASTER  LAST SEEN ON  WHY NOT\nweb-1   salt-1  -             -\nweb-2   -       -             it has not answered\n"},
	} {
		var out strings.Builder
		if err := printPlaces(&out, test.places); err != nil || out.String() != test.want {
			t.Errorf("%s\nnot\n%s (%v)", out.String(), test.want, err)
		}
	}
}

func TestNearID(t *testing.T) {
	ids := []string{"web-1", "web-2", "db-master.example.org", "i-0123456789abcdef0"}
	for id, want := range map[string]string{
		"Web-2": "web-2", "web2": "web-2", "wbe-2": "", "web-3": "", "web-22": "", "we-2": "web-2",
		"db-mastr.exmple.org": "db-master.example.org", "x": "", "": "", "i-0123456789abcdef": "",
		"i-0123456789abcdeff": "i-0123456789abcdef0",
	} {
		if got := nearID(id, ids); got != want {
			t.Errorf("%s: %q, not %q", id, got, want)
		}
	}
}
