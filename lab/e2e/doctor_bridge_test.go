package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"phoenix/bridge/doctor"
	"phoenix/lab"
)

// besideBridge runs doctor and its fixes with the configuration of a bridge. systemctl
// stands for systemd, which does not run here, and writes down what it is asked for.
type besideBridge struct {
	bridge *lab.Bridge
	bin    string
}

func newBesideBridge(t *testing.T, bridge *lab.Bridge) besideBridge {
	t.Helper()
	binary, err := lab.Binary()
	if err != nil {
		t.Fatal(err)
	}
	b := besideBridge{bridge, t.TempDir()}
	for name, text := range map[string]string{
		"phoenix":   fmt.Sprintf("#!/bin/sh\nexec %s \"$@\"\n", binary),
		"systemctl": "#!/bin/sh\necho \"$@\" >>" + filepath.Join(b.bin, "asked") + "\n",
	} {
		if err := os.WriteFile(filepath.Join(b.bin, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// find returns the worst finding of a check.
func (b besideBridge) find(t *testing.T, check string) doctor.Finding {
	t.Helper()
	out, stderr, _ := b.bridge.Try("doctor", "--json")
	var list []doctor.Finding
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatalf("read findings: %v\n%s%s", err, out, stderr)
	}
	i := slices.IndexFunc(list, func(f doctor.Finding) bool { return f.Check == check })
	if i < 0 {
		return doctor.Finding{}
	}
	return list[i]
}

// run runs the commands of a fix.
func (b besideBridge) run(t *testing.T, f doctor.Finding) {
	t.Helper()
	if len(f.Commands) == 0 {
		t.Fatalf("no command: %+v", f)
	}
	for _, command := range f.Commands {
		cmd := exec.Command("sh", "-c", command)
		cmd.Env = append(os.Environ(), "PATH="+b.bin+":"+os.Getenv("PATH"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
	}
}

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
			b := newBesideBridge(t, bridge)

			if f := b.find(t, "bridge"); f.Severity != doctor.Note || len(f.Commands) > 0 || !strings.HasPrefix(f.Mend, "first adopt 1 accepted key: phoenix --config ") || !strings.Contains(f.Mend, " adopt --dry-run, then ") {
				t.Errorf("before adoption: %+v", f)
			}
			bridge.Phoenix("adopt", "--dry-run")
			bridge.Phoenix("adopt")
			b.run(t, b.find(t, "bridge"))
			if asked, err := os.ReadFile(filepath.Join(b.bin, "asked")); err != nil || string(asked) != "start phoenix-bridge\n" {
				t.Fatalf("systemctl was asked for %q, %v", asked, err)
			}
			bridge.Start()
			bridge.Ready()
			if f := b.find(t, "bridge"); f.Severity != doctor.OK {
				t.Errorf("after the start: %+v", f)
			}

			bridge.Phoenix("minions", "add", "web-1")
			minion := l.StartMinion(lab.MinionOptions{ID: "web-1", Masters: []*lab.Master{master}})
			fixture{l, master, bridge}.ran(t, minion, 1)
			if f := b.find(t, "removed-keys"); f.Severity != doctor.OK {
				t.Errorf("before a key is deleted: %+v", f)
			}
			master.Run("salt-key", "-y", "-d", "web-1")
			var found doctor.Finding
			l.Eventually(within, "a key was deleted by hand, says doctor", func() (bool, string) {
				found = b.find(t, "removed-keys")
				return found.Severity == doctor.Warning, fmt.Sprintf("%+v\n%s", found, bridge.Tail())
			})
			b.run(t, found)
			l.Eventually(within, "the key is there again, says doctor", func() (bool, string) {
				found = b.find(t, "removed-keys")
				return found.Severity == doctor.OK && master.HasAccepted("web-1"), fmt.Sprintf("%+v\n%s", found, bridge.Tail())
			})
			minion.Answers(master)
			if minion.Runs() != 1 {
				t.Errorf("its highstate ran %d times", minion.Runs())
			}
		})
	}
}
