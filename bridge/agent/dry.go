package agent

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"phoenix/bridge/fleet"
)

// DryRun says what an agent would do now, and does nothing. It sees each
// heartbeat once, so it takes no master for dead.
func (a *Agent) DryRun(ctx context.Context, path string, w io.Writer) error {
	a.check(ctx)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("minion", "%s", a.o.MinionID)
	line("follows", "%s", a.o.Follow)
	line("drop-in", "%s", path)
	line("listed", "%s", cmp.Or(strings.Join(addressesOf(a.listed.Masters), ", "),
		"(the agent has written no list yet)"))
	s, err := a.observe(ctx) // before it says who is connected: rows have the ports
	for _, address := range a.connected {
		answers := "answers"
		if !a.probe(ctx, []string{address})[address] {
			answers = "does not answer"
		}
		line("connected", "%s, %s", address, answers)
	}
	if len(a.connected) == 0 {
		line("connected", "(to no master)")
	}
	if err != nil {
		return err
	}
	line("trusts", "%s", cmp.Or(s.Trusted, "(has met no master yet)"))
	for _, id := range slices.Sorted(maps.Keys(s.Bad)) {
		line("skipped", "%s", s.Bad[id])
	}
	s.Answers = a.probe(ctx, a.watch.Probes(s))
	d := a.watch.Decide(s, time.Now())
	if a.o.LeaveAlone != "" {
		d = hold(a.o.LeaveAlone)
	}
	for _, m := range s.Masters {
		line("master", "%s at %s: %s", m.InstanceID, m.IPAddr, a.standing(m, s, d))
	}
	switch {
	case d.Hold != "":
		line("would do", "nothing: %s", d.Hold)
	case d.Changed() || len(s.Listed) > 0 && d.List.hot != a.listed.Hot:
		line("would write", "%s (master_type: %s)", d.List, masterType(d.List.hot))
		n := UrgencyInput{List: d.List.Addresses(), Fit: d.Fit,
			Running: Running{Masters: a.connected, Hot: len(a.connected) > 1},
			Current: a.current, Disconnected: len(a.connected) == 0}
		if len(s.Listed) > 0 {
			n.Running = Running{Masters: s.Listed, Hot: a.listed.Hot}
		}
		urgency, why := n.urgency()
		a.last = d
		_, most := a.fleetLoad().splay(urgency, a.o.Splay, a.o.Settle)
		line("would run", "the restart of the minion within %v, once its jobs have ended: %s",
			most.Round(time.Second), why)
	default:
		line("would do", "nothing: the list is as it should be")
	}
	return nil
}

// standing says of a master why it is on the list, or not.
func (a *Agent) standing(m fleet.Master, s Observation, d Decision) string {
	_, err := NewMaster(m)
	listed := slices.Contains(s.Listed, m.IPAddr)
	switch {
	case err != nil:
		return err.Error()
	case d.Joined[m.IPAddr] != "":
		return "would be added"
	case d.Left[m.IPAddr] != "":
		return "would be removed: " + d.Left[m.IPAddr]
	case listed:
		return "is on the list"
	case m.Status == fleet.Terminate:
		return "terminated"
	case !m.Ready:
		return "is not ready"
	case m.Draining:
		return "drains"
	case s.Trusted != "" && m.MasterKeySHA256 != s.Trusted:
		return "has another key than the one that the minion trusts"
	case !s.Answers[m.IPAddr]:
		return "does not answer"
	}
	return "is not on the list"
}
