package e2e_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"phoenix/bridge/bus"
	"phoenix/bridge/event"
	"phoenix/lab"
)

// TestG11_FollowSeveral: three masters relay their jobs, and a minion is connected to
// two of them at once. A job that is published on any of the three reaches it once, runs
// once, and its return arrives once where the job was published.
func TestG11_FollowSeveral(t *testing.T) {
	t.Parallel()
	for _, version := range relaySalts() {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			f := newRelayedHot(t, version)
			for i, m := range f.masters {
				t.Run("published on "+m.Name, func(t *testing.T) {
					f.t = t
					f.lab.In(t)
					f.oncePublishedOn(i)
				})
			}
		})
	}
}

// newRelayedHot makes three masters that relay, a minion that follows the first two of
// them, and one that is on the third alone.
func newRelayedHot(t *testing.T, version string) *relayed {
	t.Helper()
	f := &relayed{t: t, lab: lab.New(t)}
	for i := range 3 {
		o := lab.MasterOptions{Version: version}
		if i > 0 {
			o.KeyFrom = f.masters[0]
		}
		f.masters = append(f.masters, f.lab.StartMaster(o))
		if i == 0 {
			f.masters[0].Ready()
		}
	}
	for _, m := range f.masters {
		m.Ready()
		f.bridges = append(f.bridges, f.lab.NewBridge(lab.BridgeOptions{Master: m, Config: map[string]any{
			"highstate": map[string]any{"enabled": false},
			"relay":     map[string]any{"listen": net.JoinHostPort(m.Addr, strconv.Itoa(relayPort))},
		}}))
	}
	on := map[string][]*lab.Master{"both": f.masters[:2], "last": f.masters[2:]}
	f.bridges[0].Phoenix("minions", "add", "both", "last")
	for _, b := range f.bridges {
		b.Start()
	}
	for id, masters := range on {
		f.minions = append(f.minions, f.lab.StartMinion(lab.MinionOptions{ID: id, Masters: masters,
			State: lab.State{Seconds: 1}}))
	}
	for _, b := range f.bridges {
		b.Ready()
	}
	for id, masters := range on {
		for _, m := range masters {
			f.lab.Eventually(within, id+" is accepted by "+m.Name,
				func() (bool, string) { return m.HasAccepted(id), m.Tail() })
		}
	}
	f.warm()
	for _, minion := range f.minions {
		for _, m := range on[minion.ID] {
			minion.Answers(m)
		}
	}
	return f
}

// oncePublishedOn publishes a state run on master i, and counts.
func (f *relayed) oncePublishedOn(i int) {
	f.t.Helper()
	heard := f.listenForReturns(f.masters[i])
	before := map[string]int{}
	for _, m := range f.minions {
		before[m.ID] = m.Runs()
	}
	answers, _ := f.salt(i, "*", "state.apply", "--metadata", `{"test": "follow"}`)
	f.answered(answers, nil, f.all()...)
	for id, a := range answers {
		if strings.Contains(fmt.Sprint(a), "is running") {
			f.t.Errorf("%s was told to run it twice: %v", id, a)
		}
	}
	check := func() error {
		for _, m := range f.minions {
			if n := m.Runs() - before[m.ID]; n != 1 {
				return fmt.Errorf("%s ran it %d times: %+v", m.ID, n, m.RunLog())
			}
		}
		if got, want := heard.of("state.apply"), map[string]int{"both": 1, "last": 1}; !maps.Equal(got, want) {
			return fmt.Errorf("returns on %s: %v, want %v", f.masters[i].Name, got, want)
		}
		return nil
	}
	f.lab.Eventually(within, "each minion ran it, and each return arrived", func() (bool, string) {
		err := check()
		return err == nil, fmt.Sprint(err)
	})
	f.lab.Never(settle, "it runs, or returns, once more", func() (bool, string) {
		err := check()
		return err != nil, fmt.Sprint(err)
	})
	jid := heard.jid("state.apply")
	f.lab.Eventually(within, "the master's own job cache has each return", func() (bool, string) {
		out, err := f.masters[i].TryRun("salt-run", "--out=json", "jobs.lookup_jid", jid)
		return err == nil && strings.Contains(out, `"both"`) && strings.Contains(out, `"last"`), fmt.Sprint(out, err)
	})
}

// returns counts the returns that come by on a master's event bus.
type returns struct {
	mu  sync.Mutex
	all []event.Return
}

// listenForReturns listens until the test ends.
func (f *relayed) listenForReturns(m *lab.Master) *returns {
	t := f.t
	t.Helper()
	b, err := bus.New(bus.Config{Path: m.EventSocket(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	r := &returns{}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = b.Run(ctx, r) }) // it ends with ctx alone
	t.Cleanup(func() { cancel(); running.Wait() })
	f.lab.Eventually(within, "the test hears the bus of "+m.Name,
		func() (bool, string) { return !b.State().Since.IsZero(), "" })
	return r
}

func (r *returns) Event(e event.Event) {
	if e.Kind != event.KindReturn {
		return
	}
	ret, err := e.Return()
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, ret)
}

func (r *returns) Gap(string) {}

// of counts the returns of one function, by minion.
func (r *returns) of(fun string) map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := map[string]int{}
	for _, e := range r.all {
		if e.Fun == fun {
			n[e.ID]++
		}
	}
	return n
}

// jid is that of the last return of one function.
func (r *returns) jid(fun string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	jid := ""
	for _, e := range r.all {
		if e.Fun == fun {
			jid = e.JID
		}
	}
	return jid
}
