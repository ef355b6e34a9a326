package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"phoenix/lab"
)

// hostileIDs are what anybody who reaches the master may send, and nobody
// may add to the fleet. Salt holds many of them for valid ids: "*", "i-*" and
// "a,b" become pending keys.
func hostileIDs() []string {
	return []string{
		"*", "i-*", "web-?", "[a-z]eb-1", "a,b", "web-1,*", "E@.*", "web-1 or *",
		"../x", "../../minions/x", "/etc/passwd", `..\x`, "..", ".", ".hidden", "",
		"web-1\n", "\nweb-1", "a\nb", " web-1", "a b", "\x1b[2Jweb-1", "a\tb",
		"$(id)", "`id`", "a;b", "a'b", `a"b`, "{{ 7*7 }}", "\u202eweb-1", "wéb-1", "\xff\xfe",
		strings.Repeat("a", 300), strings.Repeat("é", 128),
	}
}

// oddIDs are names all the same, if id_pattern allows them: nothing reads more
// into them. The last but one can be no argument, the last is as long as a file's
// name may be.
func oddIDs() []string {
	return []string{"-d", "--all", "%s%n", "a\x00b", strings.Repeat("b", 255)}
}

// TestG3_HostileIDs: an id is nothing but a name, and most of what Salt takes for
// one is not let in, not even by an operator who was talked into it. The bridge is
// configured as carelessly as can be. A minion that means well is served meanwhile.
//
// On 3008, since an id that is too long for a file's name is the end of one of
// the master's workers in 3006 and 3007, whatever else runs there (docs/salt.md).
func TestG3_HostileIDs(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	master := l.StartMaster(lab.MasterOptions{Version: lab.Salt3008, Workers: 3})
	bridge := l.NewBridge(lab.BridgeOptions{Master: master,
		Config: map[string]any{"id_pattern": ".*", "admit": "listed"}})
	master.Ready()
	ask := func() {
		var wg sync.WaitGroup
		for _, id := range slices.Concat(hostileIDs(), oddIDs()) {
			wg.Go(func() { _ = master.TryRequestAuth(id, lab.UnknownKey()) })
		}
		wg.Wait()
	}
	ask() // before the bridge starts,
	bridge.Start()
	ask() // while it does,
	bridge.Ready()
	ask() // and after
	pending := master.Pending()
	if len(pending) < 10 {
		t.Fatalf("Salt took only %q for ids: nothing is tried here", pending)
	}

	for _, id := range hostileIDs() {
		for _, command := range []string{"minions add --", "keys accept --"} {
			out, stderr, code := bridge.Try(append(strings.Fields(command), id)...)
			if code != 2 || out != "" || strings.Count(stderr, "\n") != 1 {
				t.Errorf("phoenix %s %q: exit %d\n%s%s", command, id, code, out, stderr)
			}
		}
	}
	bridge.Phoenix("minions", "add", "web-1")
	minion := l.StartMinion(lab.MinionOptions{ID: "web-1", Masters: []*lab.Master{master}})
	l.Eventually(within, "web-1's highstate is on record", func() (bool, string) {
		rows := bridge.Minions()
		return rows["web-1"].HighstateRan, fmt.Sprintf("%+v", rows)
	})

	// An accepted minion may put any event on the bus, for any id.
	for id, tag := range map[string]string{
		"*": "salt/auth", "i-*": "salt/key", "a\nb": "salt/minion/a\nb/start",
		"../x": "salt/job/" + bridge.Minions()["web-1"].ClaimJID + "/ret/../x",
	} {
		data := fmt.Sprintf(`{"id": %q, "act": "pend", "result": true, "jid": "1", "fun": "state.highstate", "retcode": 0, "return": {}}`, id)
		if answer, _ := master.Call("web-1", "event.fire_master", data, tag); answer != true {
			t.Errorf("fire %q: %v", tag, answer)
		}
	}
	l.Never(settle, "something hostile was let in", func() (bool, string) {
		accepted := master.Accepted()
		return !slices.Equal(accepted, []string{"web-1"}), fmt.Sprintf("%q", accepted)
	})
	if rows := bridge.Minions(); len(rows) != 1 || minion.Runs() != 1 || !bridge.Alive() {
		t.Errorf("rows %+v, highstates %d, the bridge lives: %v", rows, minion.Runs(), bridge.Alive())
	}
	if left := master.Pending(); !slices.Equal(left, pending) {
		t.Errorf("what was pending was touched: %q, before %q", left, pending)
	}
	for _, command := range []string{"keys list", "status", "minions list"} {
		out := bridge.Phoenix(strings.Fields(command)...)
		if strings.ContainsAny(out, "\x00\x1b\r\u202e") || strings.Contains(out, "\nweb-1\n") {
			t.Errorf("phoenix %s prints what moves a terminal's cursor:\n%q", command, out)
		}
	}
}
