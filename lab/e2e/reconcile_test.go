package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"phoenix/bridge/autoscaling"
	"phoenix/bridge/fleet"
	"phoenix/lab"
	"phoenix/lab/awsproxy"
)

// reconciled is a fleet whose bridge is told of nothing, and asks AutoScaling.
type reconciled struct {
	*cloud
	lab    *lab.Lab
	master *lab.Master
	salt   string // the master's instance
	ids    []string
	bridge *lab.Bridge
}

// mass is more than the brake lets go at a time: 10.
const mass = 12

// TestG9_Reconciling: AutoScaling or EC2 answer errors, or nothing, or from
// another region: nobody is deleted, and the operator is told. What EC2 itself
// calls terminated is, if it is too much at once, held until an operator says so.
func TestG9_Reconciling(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	r := &reconciled{lab: l, master: l.StartMaster(lab.MasterOptions{Version: lab.Salt3007}), cloud: newCloud(t)}
	r.salt = r.group("salt", 1)[0]
	r.ids = r.group("web", mass)
	r.master.Ready()
	b := r.start(t)
	for _, id := range r.ids {
		r.master.RequestAuth(id, lab.UnknownKey())
	}
	l.Eventually(within, "all that nobody told of are found, and let in", func() (bool, string) {
		return len(r.master.Accepted()) == mass, fmt.Sprintf("%v\n%s", r.master.Accepted(), b.Tail())
	})
	denied := func(c awsproxy.Call) *awsproxy.Answer {
		if c.Action == "DescribeAutoScalingGroups" {
			return &awsproxy.Answer{Status: 403, Code: "AccessDenied"}
		}
		return nil
	}
	noGroups := func(c awsproxy.Call) *awsproxy.Answer {
		if c.Action == "DescribeAutoScalingGroups" {
			return &awsproxy.Answer{Status: 200}
		}
		return nil
	}
	nothing := func(c awsproxy.Call) *awsproxy.Answer {
		if strings.HasPrefix(c.Action, "Describe") {
			return &awsproxy.Answer{Status: 200}
		}
		return nil
	}
	both := []string{"salt", "web"}
	for _, c := range []struct {
		name   string
		answer func(awsproxy.Call) *awsproxy.Answer
		env    string
		told   func(autoscaling.Report) bool // by status
		logged string
	}{
		{"AutoScaling denies", denied, "", func(r autoscaling.Report) bool {
			return strings.Contains(r.Error, "the instance's role lacks the permission")
		},
			"fleet and AutoScaling are not compared"},
		{"AutoScaling has no groups", noGroups, "",
			func(r autoscaling.Report) bool { return slices.Equal(r.Missing, both) && len(r.Unknown) == 0 },
			"AutoScaling does not know groups"},
		{"AutoScaling and EC2 know nothing", nothing, "",
			func(r autoscaling.Report) bool { return slices.Equal(r.Missing, both) && len(r.Unknown) == mass+1 },
			"AutoScaling does not know groups"},
		{"another region", nil, "AWS_REGION=eu-central-1",
			func(r autoscaling.Report) bool { return slices.Equal(r.Missing, both) && len(r.Unknown) == mass+1 },
			"AutoScaling does not know groups"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l.In(t)
			r.bridge.Stop()
			r.api.Answer(c.answer)
			b := r.start(t, c.env)
			l.Eventually(within, "status tells the operator", func() (bool, string) {
				q := queueOf(b)
				return q.Reconcile != nil && c.told(*q.Reconcile), fmt.Sprintf("%+v", q.Reconcile)
			})
			t.Log(b.Phoenix("status"))
			if len(b.Grep(c.logged)) == 0 {
				t.Errorf("log:\n%s", b.Tail())
			}
			r.untouched(t, b)
		})
	}
	r.bridge.Stop()
	r.api.Answer(nil)
	r.held(t, r.start(t))
}

// start starts a bridge that no queue tells anything.
func (r *reconciled) start(t *testing.T, env ...string) *lab.Bridge {
	t.Helper()
	on := append(r.instance(r.salt), "PHOENIX_SQS_QUEUES=[]", "PHOENIX_ADMIT=bound")
	r.bridge = r.cloud.bridge(r.lab, r.master, append(on, env...))
	r.bridge.Start()
	r.bridge.Ready()
	return r.bridge
}

// untouched: nobody is called terminated, and no key was deleted.
func (r *reconciled) untouched(t *testing.T, b *lab.Bridge) {
	t.Helper()
	rows := b.Minions()
	for _, id := range r.ids {
		if rows[id].Status != fleet.Launch || !r.master.HasAccepted(id) {
			t.Errorf("%s: %+v; accepted %v", id, rows[id], r.master.Accepted())
		}
	}
}

// held ends the whole group, and tells nobody.
func (r *reconciled) held(t *testing.T, b *lab.Bridge) {
	t.Helper()
	for _, id := range r.ids {
		r.end(id)
	}
	b.Restart()
	b.Ready()
	r.lab.Eventually(within, "the terminations are held", func() (bool, string) {
		q := queueOf(b)
		return len(q.Reconcile.Held) == mass, fmt.Sprintf("%+v", q.Reconcile)
	})
	r.untouched(t, b)
	if out := b.Phoenix("status"); !strings.Contains(out,
		"terminations HELD, too many at once (phoenix minions retire --held): 12") {
		t.Error(out)
	}
	if len(b.Grep("terminations are held: too many at once")) != 1 {
		t.Error(b.Tail())
	}
	if out := b.Phoenix("minions", "retire", "--held"); strings.Count(out, "retired") != mass {
		t.Error(out)
	}
	r.lab.Eventually(gone, "their keys are gone", func() (bool, string) {
		return len(r.master.Accepted()) == 0, fmt.Sprint(r.master.Accepted())
	})
	for id, row := range b.Minions() {
		if slices.Contains(r.ids, id) && (row.Status != fleet.Terminate || row.Inferred) {
			t.Errorf("%+v: an operator's word is no inference", row)
		}
	}
}
