package e2e_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"phoenix/bridge/bus"
	"phoenix/bridge/event"
	"phoenix/lab"
)

// known minions that a replacement is warm with besides those that come.
const known = 500

// TestReplacementServesFirstAuthRequest: a master takes the place of another,
// with an empty key store, and has all known keys before it is ready. Minions
// that fail over to it are let in at their first auth request: no key is ever pending.
func TestReplacementServesFirstAuthRequest(t *testing.T) {
	t.Parallel()
	for _, version := range versions(lab.Salt3007, lab.Salt3008) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			firstAuthRequest(t, version)
		})
	}
}

func firstAuthRequest(t *testing.T, version string) {
	l := lab.New(t)
	first := l.StartMaster(lab.MasterOptions{Version: version})
	first.Ready()
	acceptUnknown(t, first, known)
	bridge := l.StartBridge(lab.BridgeOptions{Master: first})
	bridge.Ready()
	ids := []string{"web-1", "web-2"}
	bridge.Phoenix(append([]string{"minions", "add"}, ids...)...)
	bridge.Phoenix("adopt", "--json")
	var minions []*lab.Minion
	for _, id := range ids {
		minions = append(minions, l.StartMinion(lab.MinionOptions{ID: id, Masters: []*lab.Master{first},
			Failover: true}))
	}
	l.Eventually(within, "their first highstates are on record", func() (bool, string) {
		rows := bridge.Minions()
		return rows[ids[0]].HighstateRan && rows[ids[1]].HighstateRan,
			fmt.Sprintf("%+v %+v", rows[ids[0]], rows[ids[1]])
	})

	second := l.StartMaster(lab.MasterOptions{Version: version, KeyFrom: first})
	second.Ready()
	if accepted := second.Accepted(); len(accepted) > 0 {
		t.Fatalf("the replacement is to know nobody, and knows %d", len(accepted))
	}
	authentications := listen(t, second)
	warm := l.NewBridge(lab.BridgeOptions{Master: second})
	begun := time.Now()
	warm.Start()
	warm.Ready()
	t.Logf("Salt %s: ready with %d known keys %.1f s after the start of its bridge", version, known+len(ids),
		time.Since(begun).Seconds())
	if n := len(second.Accepted()); n != known+len(ids) {
		t.Errorf("%d keys are accepted, not %d", n, known+len(ids))
	}
	batch := warm.Grep("known keys written")
	if want := fmt.Sprintf("written=%d", known+len(ids)); len(batch) != 1 || !strings.Contains(batch[0], want) {
		t.Errorf("the keys were not laid down at once: %q", batch)
	}

	var agents []*lab.Agent
	for _, m := range minions {
		agents = append(agents, l.StartAgent(lab.AgentOptions{Minion: m}))
	}
	l.Eventually(within, "both minions run with a list of both masters", func() (bool, string) {
		for _, a := range agents {
			if len(a.Listed()) != 2 || a.Owed() {
				return false, fmt.Sprintf("%v\n%s", a.Listed(), a.Tail())
			}
		}
		return true, ""
	})
	listener := second.Listen()
	listener.Wait(ids...)
	died := time.Now()
	first.Kill()
	bridge.Kill()
	l.Eventually(within, "the replacement serves both", func() (bool, string) {
		return len(listener.Heard()) == len(ids), fmt.Sprint(listener.Heard(), listener.Err())
	})
	for id, at := range listener.Heard() {
		t.Logf("%s answers the replacement %.1f s after the death of the other master", id, at.Sub(died).Seconds())
	}
	for _, id := range ids {
		acts := authentications.of(id)
		if len(acts) == 0 || slices.ContainsFunc(acts, func(act string) bool { return act != "accept" }) {
			t.Errorf("%s authenticated, and got %q", id, acts)
		}
	}
	for _, m := range minions {
		if m.Runs() != 1 {
			t.Errorf("the highstate of %s ran %d times", m.ID, m.Runs())
		}
	}
}

// authentications is what a master answered those who authenticated, by its event bus.
type authentications struct {
	mu   sync.Mutex
	acts map[string][]string
}

func listen(t *testing.T, m *lab.Master) *authentications {
	t.Helper()
	k := &authentications{acts: map[string][]string{}}
	b, err := bus.New(bus.Config{Path: m.EventSocket()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = b.Run(ctx, k) }) // it ends with ctx alone
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	lab.Eventually(t, within, "the event bus is open", func() (bool, string) {
		return !b.State().Since.IsZero(), fmt.Sprint(b.State().LastErr)
	})
	return k
}

// Event implements bus.Handler.
func (k *authentications) Event(e event.Event) {
	if e.Kind != event.KindAuth {
		return
	}
	if auth, err := e.Auth(); err == nil {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.acts[auth.ID] = append(k.acts[auth.ID], auth.Act)
	}
}

// Gap implements bus.Handler.
func (k *authentications) Gap(string) {}

func (k *authentications) of(id string) []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.acts[id])
}
