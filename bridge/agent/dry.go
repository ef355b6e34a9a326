package agent

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"phoenix/bridge/fleet"
)

// DryRun says what an agent would do now, and does nothing. It sees each
// heartbeat once, so it takes no master for dead.
func (a *Agent) DryRun(ctx context.Context, path string, w io.Writer) error {
	a.look(ctx)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("minion", "%s", a.o.MinionID)
	line("drop-in", "%s", path)
	line("listed", "%s", cmp.Or(strings.Join(a.listed, ", "), "(the agent has written no list yet)"))
	answers := "answers"
	if a.missed > 0 {
		answers = "does not answer"
	}
	if a.current == "" {
		line("current", "(connected to no master)")
	} else {
		line("current", "%s, %s", a.current, answers)
	}
	trusted, err := a.o.Minion.TrustedKey()
	if err != nil {
		return err
	}
	line("trusts", "%s", cmp.Or(trusted, "(has met no master yet)"))
	reading, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	masters, err := a.o.Masters.Masters(reading)
	bad, err := fleet.WithoutBadRows(err)
	if err != nil {
		return err
	}
	for _, why := range bad {
		line("passed over", "%s", why)
	}
	a.watch.Observe(masters, a.listed, time.Now())
	s := Sight{Masters: masters, Listed: a.listed, Trusted: trusted, Current: a.current}
	s.Answers = a.ask(ctx, a.watch.Ask(s))
	d := a.watch.Decide(s, time.Now())
	for _, m := range masters {
		line("master", "%s at %s: %s", m.InstanceID, m.IPAddr, a.standing(m, s, d))
	}
	switch {
	case d.Hold != "":
		line("would do", "nothing: %s", d.Hold)
	case d.Changed():
		line("would write", "%s", d.List)
		line("would run", "the restart of the minion, once its jobs have ended")
	default:
		line("would do", "nothing: the list is as it should be")
	}
	return nil
}

// standing says of a master why it is on the list, or not.
func (a *Agent) standing(m fleet.Master, s Sight, d Decision) string {
	_, err := NewMaster(m)
	listed := slices.Contains(s.Listed, m.IPAddr)
	switch {
	case err != nil:
		return err.Error()
	case d.Joined[m.IPAddr] != "":
		return "would join"
	case d.Left[m.IPAddr] != "":
		return "would leave: " + d.Left[m.IPAddr]
	case listed:
		return "is on the list"
	case m.Status == fleet.Terminate:
		return "terminated"
	case !m.Ready:
		return "is not ready"
	case s.Trusted != "" && m.MasterKeySHA256 != s.Trusted:
		return "has another key than the one that the minion trusts"
	case !s.Answers[m.IPAddr]:
		return "does not answer"
	}
	return "is not on the list"
}
