package autoscaling

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"phoenix/bridge/fleet"
)

// TestDecide is the table of what reconciling concludes about one instance,
// in two passes that find the same.
func TestDecide(t *testing.T) {
	const nobody = ""
	since := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	before, after := since.Add(-time.Hour), since.Add(time.Hour)
	running, stopped := types.InstanceStateNameRunning, types.InstanceStateNameStopped
	dying, dead := types.InstanceStateNameShuttingDown, types.InstanceStateNameTerminated
	type what struct {
		row, master bool
		reuses      bool // the group's warm pool takes instances back
		status      fleet.Status
		hook        string
		member      string // lifecycle state; empty: in no group
		ec2         types.InstanceStateName
		launched    time.Time
		want        string // after the first pass / after the second
	}
	for name, c := range map[string]what{
		"in service": {row: true, status: fleet.Launch, member: "InService", want: "/"},
		"launch not told": {member: "InService", ec2: running, launched: after,
			want: "add/add"},
		"launch not told, pending": {member: "Pending", ec2: types.InstanceStateNamePending,
			launched: after, want: "add/add"},
		"launched before the fleet": {member: "InService", ec2: running, launched: before,
			want: "adopt/adopt"},
		"on standby, not told": {member: "Standby", ec2: running, launched: after, want: "add/add"},
		"out of the warm pool, not told": {member: "Warmed:Running", ec2: running, launched: after,
			want: "add/add"},
		"member that EC2 does not know": {member: "InService", want: "/"},
		"member that is terminated":     {member: "InService", ec2: dead, launched: after, want: "/"},
		"leaving, not told":             {member: "Terminating", ec2: running, launched: after, want: "/"},
		"leaving": {row: true, status: fleet.Launch, member: "Terminating",
			ec2: running, want: "/"},
		"leaving, held by a hook": {row: true, status: fleet.Launch, member: "Terminating:Wait",
			ec2: running, want: "/tend endedretire"},
		"leaving for the warm pool, perhaps": {row: true, status: fleet.Launch, member: "Terminating:Wait",
			reuses: true, ec2: running, want: "/"},
		"leaving, shuts down": {row: true, status: fleet.Launch, member: "Terminating:Proceed",
			ec2: dying, want: "/retire"},
		"listed as in service, though terminated": {row: true, status: fleet.Launch, member: "InService",
			ec2: dead, want: "/"},
		"end not told":                {row: true, status: fleet.Launch, ec2: dead, want: "/retire"},
		"end not told, shutting down": {row: true, status: fleet.Launch, ec2: dying, want: "/retire"},
		"detached":                    {row: true, status: fleet.Launch, ec2: running, want: "/"},
		"stopped":                     {row: true, status: fleet.Launch, ec2: stopped, want: "/"},
		"stopping": {row: true, status: fleet.Launch,
			ec2: types.InstanceStateNameStopping, want: "/"},
		"an odd state":              {row: true, status: fleet.Launch, ec2: "odd", want: "/"},
		"not found":                 {row: true, status: fleet.Launch, want: "unknown/unknown"},
		"terminated, gone from EC2": {row: true, status: fleet.Terminate, want: "/"},
		"terminated, in service": {row: true, status: fleet.Terminate, member: "InService",
			ec2: running, want: "revived/revived"},
		"master, end not told": {master: true, ec2: dead, want: "/retire"},
		"master, not found":    {master: true, want: "unknown/unknown"},
		"master and minion, end not told": {row: true, master: true, status: fleet.Launch, ec2: dead,
			want: "/retire"},
		"launch hook waits": {row: true, status: fleet.Launch, hook: "h", member: "Pending:Wait",
			want: "tend launched/tend launched"},
		"launch hook waits in the pool": {row: true, status: fleet.Launch, hook: "h",
			member: "Warmed:Pending:Wait", want: "tend launched/tend launched"},
		"launch hook waits, not told": {row: true, status: fleet.Launch, member: "Pending:Wait",
			want: "tend launched/tend launched"},
		"held by a hook, not told at all": {member: "Pending:Wait", ec2: running, launched: after,
			want: "addtend launched/addtend launched"},
		"held by a hook, EC2 knows it not": {member: "Pending:Wait", want: "/"},
		"master that its group terminates": {row: true, master: true, status: fleet.Launch,
			member: "Terminating:Wait", ec2: running, want: "tend ended/tend ended"},
		"launch hook of a terminated one": {row: true, status: fleet.Terminate, hook: "h",
			member: "Pending:Wait", want: "/"},
		"terminate hook waits": {row: true, status: fleet.Terminate, hook: "h",
			member: "Terminating:Wait", want: "tend ended/tend ended"},
		"terminate hook, not told": {row: true, status: fleet.Launch, hook: "launching",
			member: "Terminating:Wait", ec2: running, want: "/tend endedretire"},
		"hook is over": {row: true, status: fleet.Launch, hook: "h",
			member: "InService", want: "/"},
	} {
		id := instance(1)
		f := facts{members: map[string]member{}, rows: map[string]fleet.Minion{}, masters: map[string]bool{},
			instances: map[string]Instance{}, since: since}
		if c.row {
			f.rows[id] = fleet.Minion{InstanceID: id, Status: c.status, HookName: c.hook}
		}
		if c.master {
			f.masters[id] = true
		}
		if c.member != nobody {
			f.members[id] = member{"web", c.member, c.reuses}
		}
		// EC2's word is only there for those that it was asked for.
		if c.ec2 != "" && slices.Contains(f.ask(), id) {
			f.instances[id] = Instance{id, c.ec2, c.launched}
		}
		first := decide(f, memory{})
		second := decide(f, first.next)
		if got := told(first) + "/" + told(second); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// told describes a plan for at most one instance.
func told(p plan) string {
	text := ""
	for _, c := range p.adds {
		if text += "add"; c.(fleet.Add).Adopted {
			text = "adopt"
		}
		if add := c.(fleet.Add); add.Group != "web" || add.InstanceID != instance(1) {
			text += fmt.Sprint(add)
		}
	}
	for _, m := range p.tend {
		text += fmt.Sprintf("tend %s", m.Kind)
	}
	for what, ids := range map[string][]string{"retire": p.retire, "revived": p.revived, "unknown": p.unknown} {
		if len(ids) > 0 {
			text += what
		}
	}
	for range p.next.held {
		text += "held"
	}
	return text
}

// A word that EC2 takes back is none, and one that it forgot after giving it
// still counts.
func TestTwoPasses(t *testing.T) {
	id := instance(1)
	f := facts{rows: map[string]fleet.Minion{id: {InstanceID: id, Status: fleet.Launch}}}
	with := func(states ...types.InstanceStateName) facts {
		f.instances = map[string]Instance{}
		for _, s := range states {
			f.instances[id] = Instance{ID: id, State: s}
		}
		return f
	}
	for name, c := range map[string]struct {
		passes []facts
		want   bool
	}{
		"once":                     {[]facts{with("terminated")}, false},
		"twice":                    {[]facts{with("shutting-down"), with("terminated")}, true},
		"taken back":               {[]facts{with("terminated"), with("running"), with("terminated")}, false},
		"forgotten":                {[]facts{with("terminated"), with()}, true},
		"never known":              {[]facts{with(), with(), with(), with()}, false},
		"known before, never gone": {[]facts{with("running"), with(), with(), with()}, false},
	} {
		var m memory
		var p plan
		for _, f := range c.passes {
			p = decide(f, m)
			m = p.next
		}
		if got := len(p.retire) == 1; got != c.want {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

// TestBrake: how many may end unheard within an hour, by the size of the fleet.
func TestBrake(t *testing.T) {
	for _, c := range []struct{ fleet, inferred, ready, retired int }{
		{20, 0, 10, 10},
		{20, 0, 11, 0},
		{20, 10, 1, 0},
		{20, 5, 5, 5},
		{20, 5, 6, 0},
		{1000, 0, 50, 50},
		{1000, 0, 51, 0},
		{960, 40, 10, 10}, // the hour began with 1000
		{960, 40, 11, 0},
		{5, 0, 5, 5}, // a small fleet may end whole: each by EC2's own word, twice
	} {
		f := facts{rows: map[string]fleet.Minion{}, instances: map[string]Instance{}, members: map[string]member{},
			inferred: c.inferred}
		m := memory{gone: map[string]bool{}}
		for n := range c.fleet {
			id := instance(n)
			f.rows[id] = fleet.Minion{InstanceID: id, Status: fleet.Launch}
			f.members[id] = member{"web", "InService", false}
			if n < c.ready {
				delete(f.members, id)
				f.instances[id] = Instance{ID: id, State: types.InstanceStateNameTerminated}
				m.gone[id] = true
			}
		}
		p := decide(f, m)
		if len(p.retire) != c.retired || len(p.retire)+len(p.next.held) != c.ready {
			t.Errorf("%+v: %d retired, %d held", c, len(p.retire), len(p.next.held))
		}
		// What waits still waits when the hour is over, and when there are fewer.
		if f.inferred = 0; len(p.next.held) > 0 {
			for n := range c.ready / 2 {
				delete(f.rows, instance(n))
			}
			p = decide(f, p.next)
			if len(p.retire) != 0 || len(p.next.held) != c.ready-c.ready/2 {
				t.Errorf("%+v, the next pass: %d retired, %d held", c, len(p.retire), len(p.next.held))
			}
		}
	}
}
