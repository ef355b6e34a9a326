package e2e_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"

	"phoenix/bridge/agent"
	"phoenix/bridge/fleet"
	"phoenix/lab"
	"phoenix/lab/moto"
)

// rotateWithin bounds a rotation of which each step is killed, on a busy machine.
const rotateWithin = 20 * time.Minute

// TestRotateIdentity: the shared key of two masters is replaced. "phoenix identity
// rotate" runs on both at the same time. In "make health" it is killed (-9) at each step
// on each master, and run again, which takes some 6 minutes. Two minions have an agent, one has none. None is lost:
// each answers a
// master in the end, and trusts the new key alone.
func TestRotateIdentity(t *testing.T) {
	t.Parallel()
	for _, version := range versions(lab.Salt3007) {
		t.Run(version, func(t *testing.T) {
			r := newRotation(t, version)
			began := time.Now()
			r.begin()
			var running sync.WaitGroup
			for i := range r.bridges {
				running.Go(func() { r.rotate(i) })
			}
			running.Wait()
			if t.Failed() {
				return
			}
			t.Logf("%s: over after %.0f s; killed %v", version, time.Since(began).Seconds(), r.killed)
			r.check()
		})
	}
}

// rotation is two masters that share a key by a bucket, and minions.
type rotation struct {
	t       *testing.T
	lab     *lab.Lab
	binary  string
	masters []*lab.Master
	bridges []*lab.Bridge
	minions map[string]*lab.Minion
	old     string

	mu     sync.Mutex
	killed []int             // by master: how often the command was killed
	seen   []map[string]bool // by master: the steps at which it was
}

func newRotation(t *testing.T, version string) *rotation {
	r := &rotation{t: t, lab: lab.New(t), minions: map[string]*lab.Minion{}, killed: make([]int, 2),
		seen: []map[string]bool{{}, {}}}
	var err error
	if r.binary, err = lab.Binary(); err != nil {
		t.Fatal(err)
	}
	cfg := moto.Start(t)
	_, err = s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }).CreateBucket(t.Context(),
		&s3.CreateBucketInput{Bucket: aws.String("masters"),
			CreateBucketConfiguration: &s3types.CreateBucketConfiguration{LocationConstraint: moto.Region}})
	if err != nil {
		t.Fatal(err)
	}
	ids := []string{"web-1", "web-2", "bare-1"}
	for range 2 {
		o := lab.MasterOptions{Version: version}
		if len(r.masters) > 0 {
			o.KeyFrom = r.masters[0]
		}
		m := r.lab.StartMaster(o)
		m.Ready()
		b := r.lab.StartBridge(lab.BridgeOptions{Master: m,
			Config: map[string]any{"identity": map[string]any{"bucket": "masters", "endpoint": *cfg.BaseEndpoint}}})
		b.Ready()
		r.masters, r.bridges = append(r.masters, m), append(r.bridges, b)
	}
	r.bridges[0].Phoenix("identity", "import")
	r.old = r.shared().Shared.KeySHA256
	for _, id := range ids {
		r.bridges[0].Phoenix("minions", "add", id)
		r.minions[id] = r.lab.StartMinion(lab.MinionOptions{ID: id, Masters: r.masters, Failover: true})
		if strings.HasPrefix(id, "web") {
			r.lab.StartAgent(lab.AgentOptions{Minion: r.minions[id], Interval: agent.MinInterval,
				Env: []string{"PHOENIX_AGENT_SETTLE=6h"}})
		}
	}
	r.lab.Eventually(within, "all highstates are on record", func() (bool, string) {
		rows := r.bridges[0].Minions()
		for _, id := range ids {
			if !rows[id].HighstateRan {
				return false, fmt.Sprintf("%s: %+v\n%s", id, rows[id], r.minions[id].Tail())
			}
		}
		return true, ""
	})
	return r
}

type shownShared struct {
	Shared, Master struct {
		KeySHA256 string `json:"key_sha256"`
	}
	Same bool
}

func (r *rotation) shared() (shown shownShared) {
	r.bridges[0].JSON(&shown, "identity", "show")
	return shown
}

// rotate runs the command on one master until it ends by itself. It is killed at each
// step that was not seen before.
func (r *rotation) rotate(i int) {
	master, bridge := r.masters[i], r.bridges[i]
	asked := func(what string) string { return filepath.Join(bridge.Dir, what) }
	wait := func(what string) string {
		return fmt.Sprintf("touch %[1]s; while [ -e %[1]s ]; do sleep 0.05; done", asked(what))
	}
	// The lab alone stops and starts its processes.
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for tick := time.NewTicker(50 * time.Millisecond); ; {
			select {
			case <-stop:
				tick.Stop()
				return
			case <-tick.C:
			}
			for what, do := range map[string]func(){"stop": master.Kill, "start": func() {
				if !master.Alive() {
					master.Start()
				}
			}} {
				if _, err := os.Stat(asked(what)); err == nil {
					do()
					_ = os.Remove(asked(what))
				}
			}
		}
	}()
	defer func() { close(stop); <-stopped }()

	args := []string{"--config", bridge.ConfigPath(), "identity", "rotate", "--drain", "20s", "--wait", "10m",
		"--stop-command", wait("stop"), "--start-command", wait("start")}
	for until := time.Now().Add(rotateWithin); time.Now().Before(until); {
		err := r.once(i, args, r.seen[i])
		if err == nil {
			return
		}
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) {
			r.t.Errorf("master %d: %v", i+1, err)
			return
		}
	}
	r.t.Errorf("master %d: the rotation is not over after %v", i+1, rotateWithin)
}

// begin begins a rotation on the first master. It may be killed before it made the pair.
func (r *rotation) begin() {
	bridge := r.bridges[0]
	r.lab.Eventually(within, "a rotation is under way", func() (bool, string) {
		err := r.once(0, []string{"--config", bridge.ConfigPath(), "identity", "rotate", "--start", "--wait", "0s"},
			r.seen[0])
		text, errs, _ := bridge.Try("identity", "rotate", "--dry-run", "--json")
		var out struct{ Over bool }
		return json.Unmarshal([]byte(text), &out) == nil && !out.Over, fmt.Sprint(err, text, errs)
	})
}

// once runs the command, and kills it as it says that it begins a step which is new.
func (r *rotation) once(i int, args []string, seen map[string]bool) error {
	cmd := exec.Command(r.binary, args...)
	cmd.Env = os.Environ()
	var out bytes.Buffer
	cmd.Stdout = &out
	errs, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(errs)
	for lines.Scan() {
		r.t.Logf("master %d: %s", i+1, lines.Text())
		_, text, _ := strings.Cut(lines.Text(), "  ")
		step, _, _ := strings.Cut(text, " ")
		if *allVersions && !seen[step] {
			seen[step] = true
			r.mu.Lock()
			r.killed[i]++
			r.mu.Unlock()
			_ = cmd.Process.Kill()
		}
	}
	err = cmd.Wait()
	if out.Len() > 0 {
		r.t.Logf("master %d: %s", i+1, &out)
	}
	return err
}

// check looks at all that a rotation should have left behind.
func (r *rotation) check() {
	t := r.t
	t.Helper()
	shown := r.shared()
	if !shown.Same || shown.Shared.KeySHA256 == r.old {
		t.Errorf("master 1 has %s, shared is %s, before it was %s", shown.Master.KeySHA256,
			shown.Shared.KeySHA256, r.old)
	}
	r.lab.Eventually(within, "both rows say the new key, ready, not draining", func() (bool, string) {
		var rows []fleet.Master
		r.bridges[1].JSON(&rows, "masters", "list")
		for _, m := range rows {
			if !m.Ready || m.Draining || m.MasterKeySHA256 != shown.Shared.KeySHA256 {
				return false, fmt.Sprintf("%+v", rows)
			}
		}
		return len(rows) == 2, fmt.Sprintf("%+v", rows)
	})
	var listeners []*lab.Listener
	for _, m := range r.masters {
		l := m.Listen()
		l.Wait(slices.Collect(maps.Keys(r.minions))...)
		listeners = append(listeners, l)
	}
	r.lab.Eventually(within, "each minion answers a master", func() (bool, string) {
		for id, m := range r.minions {
			if listeners[0].Heard()[id].IsZero() && listeners[1].Heard()[id].IsZero() {
				return false, fmt.Sprintf("%s\n%s", id, m.Tail())
			}
		}
		return true, ""
	})
	for id, m := range r.minions {
		text, err := os.ReadFile(filepath.Join(m.PKIDir(), "minion_master.pub"))
		if err != nil {
			t.Fatal(err)
		}
		if digest, err := fleet.KeyDigest(text); err != nil || digest != shown.Shared.KeySHA256 {
			t.Errorf("%s trusts %s, %v, want %s", id, digest, err, shown.Shared.KeySHA256)
		}
		if _, err := os.Stat(filepath.Join(m.PKIDir(), agent.KeysFile)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s has not forgotten the old key: %v", id, err)
		}
		if n := m.Runs(); n != 1 {
			t.Errorf("%s ran its highstate %d times", id, n)
		}
	}
}
