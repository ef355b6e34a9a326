package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"phoenix/bridge/relay"
	"phoenix/lab"
	"phoenix/lab/swarm"
)

const (
	// within bounds each wait.
	within = 5 * time.Minute
	// relayPort is free on every address of a lab.
	relayPort = 4507
	// inFlight is how many returns are under way in the burst.
	inFlight = 1000
)

// way is one way to have minions on masters.
type way struct {
	name    string
	masters int
	hot     bool // each minion is connected to each master; else they are spread
	relay   bool
}

const (
	oneMaster  = "one"
	relayed    = "relay"
	hotMasters = "hot"
)

var ways = []way{{name: oneMaster, masters: 1}, {name: relayed, masters: 2, relay: true},
	{name: hotMasters, masters: 2, hot: true}}

// result is what one way took and cost.
type result struct {
	all, own, other time.Duration // medians: a ping of all, of one minion here, of one there
	quickest        time.Duration // of the pings of all
	publish         time.Duration // of the publish alone
	fewest          int           // answers
	bytes           float64       // between the masters, for each return
	bridge, burst   float64       // MB of the larger bridge: before, and the most in a burst
	master          float64       // MB of the larger master, with all its processes
	connections     int
}

// fleet is some masters with their minions.
type fleet struct {
	tb      lab.TB
	lab     *lab.Lab
	way     way
	masters []*lab.Master
	bridges []*lab.Bridge
	ids     []string
	swarms  []*swarm.Swarm
}

//go:embed ping.py
var pingScript string

func measure(tb lab.TB, version string, minions, rounds int, w way) result {
	tb.Helper()
	f := &fleet{tb: tb, lab: lab.New(tb), way: w}
	for i := range minions {
		f.ids = append(f.ids, fmt.Sprintf("i-%08x", i))
	}
	f.start(version)
	f.release()
	if w.relay {
		f.join()
	}
	before := f.traffic()
	pings := f.ping(rounds)
	var r result
	for i, p := range pings {
		switch median := p.median(); i {
		case 0:
			r.all, r.publish, r.fewest = median, middle(p.Published), slices.Min(p.Answers)
			r.quickest = time.Duration(slices.Min(p.Took) * float64(time.Second))
		case 1:
			r.own, r.publish = median, middle(p.Published)
		case 2:
			r.other = median
		}
	}
	if w.relay {
		received := f.relay(0).Returns - before.Returns
		r.bytes = float64(f.relay(0).BytesReceived-before.BytesReceived) / float64(received)
		r.bridge = max(f.bridges[0].Usage().Peak, f.bridges[1].Usage().Peak)
		f.burst()
		r.burst = max(f.bridges[0].Usage().Peak, f.bridges[1].Usage().Peak)
	}
	for i, m := range f.masters {
		r.master = max(r.master, m.Usage().Peak)
		r.connections += f.swarms[i].Connected()[0]
	}
	tb.Logf("%s: %+v", w.name, r)
	return r
}

// start starts masters, and bridges beside them where there is a relay.
func (f *fleet) start(version string) {
	for i := range f.way.masters {
		o := lab.MasterOptions{Version: version, Extra: map[string]any{"auto_accept": !f.way.relay}}
		if i > 0 {
			o.KeyFrom = f.masters[0]
		}
		m := f.lab.StartMaster(o)
		m.Ready()
		f.masters = append(f.masters, m)
	}
	if !f.way.relay {
		return
	}
	for _, m := range f.masters {
		f.bridges = append(f.bridges, f.lab.NewBridge(lab.BridgeOptions{Master: m, Config: map[string]any{
			"highstate": map[string]any{"enabled": false},
			"relay":     map[string]any{"listen": net.JoinHostPort(m.Addr, strconv.Itoa(relayPort))},
		}}))
	}
	f.bridges[0].Phoenix(append([]string{"minions", "add"}, f.ids...)...)
	for _, b := range f.bridges {
		b.Start()
	}
	for _, b := range f.bridges {
		b.Ready()
	}
}

// release plays the minions, and waits until all are connected.
func (f *fleet) release() {
	for i, m := range f.masters {
		ids := f.ids
		if f.way.relay {
			share := len(f.ids) / len(f.masters)
			ids = f.ids[i*share : (i+1)*share]
		}
		s, err := swarm.New(swarm.Config{IDs: ids,
			Masters: []string{net.JoinHostPort(m.Addr, strconv.Itoa(f.lab.RetPort))}, Keys: 4, Retry: time.Second})
		if err != nil {
			f.tb.Fatalf("%v", err)
		}
		f.swarms = append(f.swarms, s)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			s.Run(ctx)
		}()
		f.tb.Cleanup(func() {
			cancel()
			<-ended
		})
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	for _, s := range f.swarms {
		if err := s.Wait(ctx, swarm.Started); err != nil {
			f.tb.Fatalf("%v", err)
		}
	}
}

// join waits until both masters know all keys, and the bridges are connected. A bridge
// lays down keys at its start and every two minutes.
func (f *fleet) join() {
	for _, b := range f.bridges {
		b.Restart()
	}
	for i, b := range f.bridges {
		f.lab.Eventually(within, b.Name+" reaches its peer", func() (bool, string) {
			out, _, code := b.Try("status", "--json")
			if code != 0 {
				return false, out
			}
			r := f.relay(i)
			return len(f.masters[i].Accepted()) == len(f.ids) && r.Hears && len(r.Peers) == 1 && r.Peers[0].Connected,
				out
		})
	}
}

func (f *fleet) relay(i int) relay.Status {
	f.tb.Helper()
	var status struct {
		Bridge struct {
			Relay *relay.Status `json:"relay"`
		} `json:"bridge"`
	}
	f.bridges[i].JSON(&status, "status")
	if status.Bridge.Relay == nil {
		return relay.Status{}
	}
	return *status.Bridge.Relay
}

func (f *fleet) traffic() relay.Status {
	if !f.way.relay {
		return relay.Status{}
	}
	return f.relay(0)
}

// pings is what ping.py prints of one target.
type pings struct {
	Took      []float64 `json:"took"`
	Answers   []int     `json:"answers"`
	Published []float64 `json:"published"`
}

func (p pings) median() time.Duration { return middle(p.Took) }

// ping times commands to all minions, to one of the first master, and to one of the last.
func (f *fleet) ping(rounds int) []pings {
	f.tb.Helper()
	out := f.python(pingScript, filepath.Join(filepath.Dir(f.masters[0].ConfigPath()), "master"), strconv.Itoa(rounds),
		"*", f.ids[0], f.ids[len(f.ids)-1])
	var list []pings
	for line := range strings.Lines(out) {
		var p pings
		if err := json.Unmarshal([]byte(line), &p); err != nil {
			f.tb.Fatalf("%v: %s", err, out)
		}
		list = append(list, p)
	}
	if len(list) != 3 {
		f.tb.Fatalf("ping.py: %s", out)
	}
	return list
}

func (f *fleet) python(script string, args ...string) string {
	f.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	cmd := exec.CommandContext(ctx, f.masters[0].Salt.Python(), append([]string{"-c", script}, args...)...)
	cmd.Env = append(os.Environ(), "SPT_NOENV=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		f.tb.Fatalf("%v: %s%s", err, out, stderr.String())
	}
	return string(out)
}

// burst has 1,000 returns of the other master's minions under way at once.
func (f *fleet) burst() {
	const script = `
import sys, salt.client
client = salt.client.LocalClient(sys.argv[1])
for _ in range(int(sys.argv[2])):
    client.run_job("*", "test.ping", listen=False)
`
	before := f.relay(0).Returns
	jobs := (inFlight + len(f.ids)/2 - 1) / (len(f.ids) / 2)
	f.python(script, filepath.Join(filepath.Dir(f.masters[0].ConfigPath()), "master"), strconv.Itoa(jobs))
	want := uint64(jobs * len(f.ids) / 2)
	f.lab.Eventually(within, "all returns of the burst came", func() (bool, string) {
		got := f.relay(0).Returns - before
		return got >= want, fmt.Sprintf("%d of %d", got, want)
	})
}

func middle(seconds []float64) time.Duration {
	if len(seconds) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(seconds))
	return time.Duration(s[len(s)/2] * float64(time.Second))
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

func ratio(a, b time.Duration) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}
