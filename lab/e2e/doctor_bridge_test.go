package e2e_test

import (
	"fmt"
	"strings"
	"testing"

	"phoenix/bridge/doctor"
	"phoenix/lab"
)

// TestDoctorBesideABridge does what doctor advises from an existing master to a bridge
// that serves it, and after an accepted key is deleted by hand.
func TestDoctorBesideABridge(t *testing.T) {
	t.Parallel()
	for _, version := range versions(lab.Salt3007) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			master := l.StartMaster(lab.MasterOptions{Version: version})
			bridge := l.NewBridge(lab.BridgeOptions{Master: master})
			master.Ready()
			acceptUnknown(t, master, 1)
			d := newDoctorOn(t, l, bridge.ConfigPath(), nil)
			d.does["systemctl start phoenix-bridge"] = func() { bridge.Start(); bridge.Ready() }

			if f := d.examine(t)["bridge"]; f.Severity != doctor.Note || len(f.Commands) > 0 ||
				!strings.HasPrefix(f.Mend, "first adopt 1 accepted key: phoenix --config ") ||
				!strings.Contains(f.Mend, " adopt --dry-run, then ") {
				t.Errorf("before adoption: %+v", f)
			}
			bridge.Phoenix("adopt", "--dry-run")
			bridge.Phoenix("adopt")
			d.run(t, d.examine(t)["bridge"])
			if asked := d.asked(); asked != "systemctl start phoenix-bridge\n" {
				t.Fatalf("asked for %q", asked)
			}
			if f := d.examine(t)["bridge"]; f.Severity != doctor.OK {
				t.Errorf("after the start: %+v", f)
			}

			bridge.Phoenix("minions", "add", "web-1")
			minion := l.StartMinion(lab.MinionOptions{ID: "web-1", Masters: []*lab.Master{master}})
			fixture{l, master, bridge}.ran(t, minion, 1)
			if f := d.examine(t)["removed-keys"]; f.Severity != doctor.OK {
				t.Errorf("before a key is deleted: %+v", f)
			}
			master.Run("salt-key", "-y", "-d", "web-1")
			d.run(t, d.found(t, "removed-keys", doctor.Warning))
			var found doctor.Finding
			l.Eventually(within, "the key is there again, says doctor", func() (bool, string) {
				found = d.examine(t)["removed-keys"]
				return found.Severity == doctor.OK && master.HasAccepted("web-1"),
					fmt.Sprintf("%+v\n%s", found, bridge.Tail())
			})
			minion.Answers(master)
			if minion.Runs() != 1 {
				t.Errorf("its highstate ran %d times", minion.Runs())
			}
		})
	}
}
