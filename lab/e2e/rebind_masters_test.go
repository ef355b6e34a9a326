package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"phoenix/bridge/fleet"
	"phoenix/lab"
)

// A machine of two masters is rebuilt. One command on one of them takes it in on both:
// the bridge of the other replaces the key that was replaced. Where no bridge runs, the
// same command on that master does it.
func TestRebindOnTwoMasters(t *testing.T) {
	t.Parallel()
	for _, version := range versions(lab.Salt3007) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			first := l.StartMaster(lab.MasterOptions{Version: version})
			first.Ready()
			second := l.StartMaster(lab.MasterOptions{Version: version, KeyFrom: first})
			second.Ready()
			one, two := l.StartBridge(lab.BridgeOptions{Master: first}),
				l.StartBridge(lab.BridgeOptions{Master: second})
			one.Ready()
			two.Ready()
			// ran waits for the first highstate of a machine with another key, by any master.
			ran := func(minion *lab.Minion, before string) (row fleet.Minion) {
				l.Eventually(within, "its first highstate is on record", func() (bool, string) {
					row = one.Minions()["web-1"]
					return row.HighstateRan && row.KeySHA256 != before, fmt.Sprintf("%+v", row)
				})
				if n := minion.Runs(); n != 1 {
					t.Errorf("it ran %d times", n)
				}
				return row
			}
			options := lab.MinionOptions{ID: "web-1", Masters: []*lab.Master{first, second},
				Extra: map[string]any{"rejected_retry": true}}
			one.Phoenix("minions", "add", "web-1")
			old := l.StartMinion(options)
			before := ran(old, "")
			old.Answers(second)
			old.Stop()
			rebuild := func() *lab.Minion {
				minion := l.StartMinion(options)
				l.Eventually(within, "its key is denied on both masters", func() (bool, string) {
					return len(first.Denied()) == 1 && len(second.Denied()) == 1, minion.Tail()
				})
				one.Phoenix("keys", "accept", "--rebind", "--yes", "--wait", within.String(), "web-1")
				return minion
			}

			rebuilt := rebuild()
			rebuilt.Answers(second)
			row := ran(rebuilt, before.KeySHA256)
			if row.KeySHA256 == before.KeySHA256 || row.ReplacedSHA256 != before.KeySHA256 {
				t.Errorf("bound is %.12s in the place of %.12s", row.KeySHA256, row.ReplacedSHA256)
			}
			for _, master := range []*lab.Master{first, second} {
				if got := acceptedDigest(t, master, "web-1"); got != row.KeySHA256 {
					t.Errorf("%s has accepted %.12s, not %.12s", master.ID, got, row.KeySHA256)
				}
			}
			l.Eventually(within, "nothing is left behind", func() (bool, string) {
				return len(first.Denied())+len(second.Denied())+len(first.Pending())+len(second.Pending()) == 0,
					strings.Join(append(first.Denied(), second.Denied()...), " ")
			})
			if out := two.Phoenix("minions", "explain", "web-1", "-n", "100"); strings.Count(out,
				"replaced key deleted") != 1 ||
				!strings.Contains(out, "master="+second.ID+" rule=rebound key="+before.KeySHA256) {
				t.Errorf("the trail does not say who replaced it: %s", out)
			}

			two.Stop()
			rebuilt.Stop()
			again := rebuild()
			if got := acceptedDigest(t, second, "web-1"); got != row.KeySHA256 {
				t.Fatalf("no bridge runs beside %s, and it has accepted %.12s", second.ID, got)
			}
			out := two.Phoenix("keys", "accept", "--rebind", "--yes", "--wait", within.String(), "web-1")
			latest := ran(again, row.KeySHA256)
			if !strings.Contains(out, row.KeySHA256) || !strings.Contains(out, latest.KeySHA256) ||
				latest.ReplacedSHA256 != row.KeySHA256 {
				t.Errorf("%.12s in the place of %.12s: %s", latest.KeySHA256, latest.ReplacedSHA256, out)
			}
			again.Answers(second)
		})
	}
}

// acceptedDigest is the digest of the key that a master has accepted for an id.
func acceptedDigest(t *testing.T, master *lab.Master, id string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(master.PKIDir(), "minions", id))
	if err != nil {
		t.Fatal(err)
	}
	digest, err := fleet.KeyDigest(text)
	if err != nil {
		t.Fatal(err)
	}
	return digest
}
