package e2e_test

import (
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"phoenix/lab"
	"phoenix/lab/imds"
	"phoenix/lab/moto"
)

var (
	drainMinions = flag.Int("drain.minions", 3, "minions of the test that drains masters")
	drainFollow  = flag.String("drain.follow", "1", "agent.follow in the test that drains masters")
)

const (
	// spotNotice is how long before the end of a spot instance its metadata says so.
	spotNotice = 2 * time.Minute
	// startedAtOnce: salt-minions that start together take the machine from each other.
	startedAtOnce = 2
	// silentAtMost bounds the silence of a minion beside other tests; "make drain"
	// measures it.
	silentAtMost = time.Minute
)

// TestMinionsLeaveDrainedMaster: an operator drains one of two masters; then the
// instance of the other one is told of its spot interruption, by the stand-in of its
// metadata service, and ends two minutes later. All its minions have left by then. The
// test tells how long each minion was silent under a ping each second.
func TestMinionsLeaveDrainedMaster(t *testing.T) {
	only(t, "drain")
	t.Parallel()
	d := newDraining(t, lab.Salt3007)
	t.Logf("longest silence before anything happens: %s", d.silences(d.ids))

	first := d.busiest()
	d.leave("phoenix masters drain", first, spotNotice,
		func() { d.bridges[first].Phoenix("masters", "drain", "--self") })
	d.bridges[first].Phoenix("masters", "drain", "--self", "--undo")
	d.listed(2)

	second := 1 - first
	d.leave("spot interruption", second, spotNotice, func() {
		d.metadata[second].Say("spot/instance-action", `{"action":"terminate","time":"2030-01-01T00:00:00Z"}`)
	})
	d.served.Gaps()
	d.bridges[second].Master.Kill()
	d.bridges[second].Kill()
	d.lab.Never(15*time.Second, "a minion is silent as the instance ends", func() (bool, string) {
		for id, gap := range d.served.Gaps() {
			if gap > silentAtMost/2 {
				return true, fmt.Sprintf("%s for %v", id, gap)
			}
		}
		return false, ""
	})
	for _, id := range d.ids {
		if n := d.agents[id].Minion.Runs(); n != 1 {
			t.Errorf("the highstate of %s ran %d times", id, n)
		}
	}
}

// draining is two masters on instances of their own, as the metadata service says, and
// minions with an agent each.
type draining struct {
	t        *testing.T
	lab      *lab.Lab
	bridges  []*lab.Bridge
	metadata []*imds.Service
	agents   map[string]*lab.Agent
	ids      []string
	served   *lab.Reachability
}

func newDraining(t *testing.T, version string) *draining {
	d := &draining{t: t, lab: lab.New(t), agents: map[string]*lab.Agent{}}
	cfg := moto.Start(t) // only the queue, which makes bridges read the metadata
	if _, err := sqs.NewFromConfig(cfg).CreateQueue(t.Context(),
		&sqs.CreateQueueInput{QueueName: aws.String(queueName)}); err != nil {
		t.Fatal(err)
	}
	for i := range *drainMinions {
		d.ids = append(d.ids, fmt.Sprintf("web-%d", i+1))
	}
	d.served = lab.NewReachability(d.ids...)
	var masters []*lab.Master
	for range 2 {
		o := lab.MasterOptions{Version: version}
		if len(masters) > 0 {
			o.KeyFrom = masters[0]
		}
		m := d.lab.StartMaster(o)
		m.Ready()
		service := imds.Start(t, imds.Instance{ID: m.ID, Account: account, Region: moto.Region, PrivateIP: m.Addr})
		b := d.lab.StartBridge(lab.BridgeOptions{Master: m,
			Env: []string{"AWS_EC2_METADATA_DISABLED=false", "AWS_EC2_METADATA_SERVICE_ENDPOINT=" + service.URL},
			Config: map[string]any{"sqs": map[string]any{"queues": []string{queueName},
				"endpoint": *cfg.BaseEndpoint}}})
		b.Ready()
		d.served.From(m)
		masters, d.bridges, d.metadata = append(masters, m), append(d.bridges, b), append(d.metadata, service)
	}
	for some := range slices.Chunk(d.ids, startedAtOnce) {
		for _, id := range some {
			d.bridges[0].Phoenix("minions", "add", id)
			m := d.lab.StartMinion(lab.MinionOptions{ID: id, Masters: masters, Failover: true})
			// As by default, and nobody is restarted because a list changed.
			d.agents[id] = d.lab.StartAgent(lab.AgentOptions{Minion: m,
				Env: []string{"PHOENIX_AGENT_SPLAY=1m", "PHOENIX_AGENT_SETTLE=6h",
					"PHOENIX_AGENT_FOLLOW=" + *drainFollow}})
		}
		d.lab.Eventually(within, "minions answer", func() (bool, string) {
			rows := d.bridges[0].Minions()
			for _, id := range some {
				if d.served.Last(id).At.IsZero() || !rows[id].HighstateRan {
					return false, fmt.Sprintf("%s: %+v\n%s", id, rows[id], d.agents[id].Minion.Tail())
				}
			}
			return true, ""
		})
	}
	d.listed(2)
	d.lab.Eventually(within, "no minion is about to be restarted in a hurry", func() (bool, string) {
		for _, id := range d.ids {
			if time.Since(d.served.Last(id).At) > 10*time.Second {
				return false, id
			}
		}
		return true, ""
	})
	d.served.Gaps()
	d.lab.Never(20*time.Second, "a minion is silent though nothing happens", func() (bool, string) { return false, "" })
	return d
}

// listed waits until each agent lists so many masters.
func (d *draining) listed(n int) {
	d.t.Helper()
	d.lab.Eventually(within, fmt.Sprintf("each agent lists %d masters", n), func() (bool, string) {
		for _, id := range d.ids {
			if len(d.agents[id].Listed()) != n {
				return false, fmt.Sprintf("%s: %v\n%s", id, d.agents[id].Listed(), d.agents[id].Tail())
			}
		}
		return true, ""
	})
}

// on returns the minions that answered a master last.
func (d *draining) on(i int) (ids []string) {
	for _, id := range d.ids {
		if d.served.Last(id).Master == d.bridges[i].Master.Name {
			ids = append(ids, id)
		}
	}
	return ids
}

func (d *draining) busiest() int {
	if len(d.on(1)) > len(d.on(0)) {
		return 1
	}
	return 0
}

// leave has a master drained, waits until no minion is on it, and tells how long each
// of its minions was silent.
func (d *draining) leave(why string, i int, limit time.Duration, drain func()) {
	d.t.Helper()
	leaving := d.on(i)
	d.served.Gaps()
	began := time.Now()
	drain()
	var left time.Duration
	lists := func(id string) bool { return slices.Contains(d.agents[id].Listed(), d.bridges[i].Master.Addr) }
	d.lab.Eventually(2*limit, "all minions have left", func() (bool, string) {
		on := d.on(i)
		if *drainFollow != "1" { // they answer both
			on = slices.DeleteFunc(slices.Clone(d.ids),
				func(id string) bool { return !lists(id) && !d.agents[id].Owed() })
		}
		left = time.Since(began)
		return len(on) == 0, fmt.Sprint(on)
	})
	if left > limit {
		d.t.Errorf("%s: the last minion left after %v", why, left)
	}
	d.lab.Eventually(within, "all of them answer the other master", func() (bool, string) {
		for _, id := range leaving {
			if last := d.served.Last(id); last.Master != d.bridges[1-i].Master.Name ||
				time.Since(last.At) > 10*time.Second {
				return false, fmt.Sprintf("%s: %+v", id, last)
			}
		}
		return true, ""
	})
	d.t.Logf("%s: %d minions left within %.0f s; longest silence: %s", why, len(leaving), left.Seconds(),
		d.silences(leaving))
}

// silences tells the longest time without an answer of each minion, the longest first.
func (d *draining) silences(of []string) string {
	gaps := d.served.Gaps()
	of = slices.Clone(of)
	slices.SortFunc(of, func(a, b string) int { return int(gaps[b] - gaps[a]) })
	text := ""
	for _, id := range of {
		text += fmt.Sprintf(" %s %.1f s,", id, gaps[id].Seconds())
		if gaps[id] > silentAtMost {
			d.t.Errorf("%s was silent for %v", id, gaps[id])
		}
	}
	return text
}
