package e2e_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"phoenix/lab"
)

// TestStrModeWithUnreachableMaster: what a minion does with master_type: str and a
// list of two masters, of which one cannot be reached: with Salt's defaults, and
// with what the agent's drop-in sets. docs/salt.md tells of it.
func TestStrModeWithUnreachableMaster(t *testing.T) {
	t.Parallel()
	versions, all := salts()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			child, err := lab.Isolate("-test.run=^TestStrModeWithUnreachableMaster$/^"+regexp.QuoteMeta(version)+"$",
				"-test.v", "-test.timeout=20m")
			if err != nil {
				t.Fatal(err)
			}
			if !child {
				return
			}
			s := newStrMode(t, version)
			ours := map[string]any{"auth_tries": 2, "auth_timeout": 5, "retry_dns": 0}
			s.host.Vanish()
			took := s.call("vanished, as in the drop-in", ours)
			s.minion("vanished, as in the drop-in", "a", ours)
			if !all {
				return
			}
			if defaults := s.call("vanished, defaults", nil); defaults < took {
				t.Errorf("salt-call takes %v with Salt's defaults, and %v as the drop-in sets it", defaults, took)
			}
			s.minion("vanished, defaults", "b", nil)
			s.host.Return()
			s.dead.Kill()
			s.call("refuses, defaults", nil)
			s.call("refuses, as in the drop-in", ours)
			s.minion("refuses, as in the drop-in", "c", ours)
		})
	}
}

// strMode is two masters, of which the first is to be out of reach.
// silentMost is how long a minion may be silent while it tries a master that cannot be
// reached, on a machine that is busy with other tests.
const silentMost = 16 * time.Second

type strMode struct {
	t            *testing.T
	lab          *lab.Lab
	host         *lab.Host
	dead, living *lab.Master
	calls        int
}

func newStrMode(t *testing.T, version string) *strMode {
	s := &strMode{t: t, lab: lab.New(t)}
	s.host = s.lab.NewHost()
	s.dead = s.lab.StartMaster(lab.MasterOptions{Version: version, Host: s.host})
	s.dead.Ready()
	s.living = s.lab.StartMaster(lab.MasterOptions{Version: version, Host: s.lab.NewHost(), KeyFrom: s.dead,
		Extra: map[string]any{"auto_accept": true}})
	s.living.Ready()
	return s
}

// extra returns options over Salt's defaults, where the lab's minions have others.
func (s *strMode) extra(over map[string]any) map[string]any {
	all := map[string]any{"acceptance_wait_time": 10, "random_reauth_delay": 10}
	maps.Copy(all, over)
	return all
}

// call runs salt-call as a minion of its own, and gives how long it took.
func (s *strMode) call(how string, over map[string]any) time.Duration {
	s.t.Helper()
	dir := s.t.TempDir()
	s.calls++
	port := func(m *lab.Master) string { return fmt.Sprintf("%s:%d", m.Addr, s.lab.RetPort) }
	text := fmt.Sprintf("id: caller-%d\nroot_dir: %s\nmaster: [%q, %q]\npublish_port: %d\n", s.calls, dir, port(s.dead),
		port(s.living), s.lab.PublishPort)
	for name, value := range s.extra(over) {
		text += fmt.Sprintf("%s: %v\n", name, value)
	}
	folder := filepath.Join(dir, "etc", "salt")
	if err := errors.Join(os.MkdirAll(folder, 0o755),
		os.WriteFile(filepath.Join(folder, "minion"), []byte(text), 0o644)); err != nil {
		s.t.Fatal(err)
	}
	begun := time.Now()
	if out, err := s.living.Salt.Call(folder, "test.ping"); err != nil {
		s.t.Errorf("the first %s: salt-call: %v %s", how, err, out)
	}
	took := time.Since(begun)
	s.t.Logf("Salt %s, the first %s: salt-call test.ping takes %.1f s", s.living.Salt.Version, how, took.Seconds())
	return took
}

// minion starts one, and looks how long it is silent while it tries the dead master.
func (s *strMode) minion(how, id string, over map[string]any) {
	s.t.Helper()
	served := lab.NewReachability(id)
	served.From(s.living)
	begun := time.Now()
	m := s.lab.StartMinion(lab.MinionOptions{ID: id, Masters: []*lab.Master{s.dead, s.living}, Extra: s.extra(over)})
	s.lab.Eventually(within, id+" is served by the living master",
		func() (bool, string) { return !served.Last(id).At.IsZero(), m.Tail() })
	start := served.Last(id).At.Sub(begun)
	served.Gaps()
	watched := time.NewTimer(30 * time.Second)
	<-watched.C
	gap := served.Gaps()[id]
	s.t.Logf("Salt %s, the first %s: a minion is served %.1f s after its start, then silent for %.1f s at most",
		s.living.Salt.Version, how, start.Seconds(), gap.Seconds())
	most := silentMost
	if _, alone := salts(); !alone {
		most = time.Minute // the machine is busy; a master that blocks the minion does so for minutes
	}
	if gap > most {
		s.t.Errorf("the first %s: silent for %v", how, gap)
	}
	m.Kill()
}
