package doctor

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"phoenix/bridge/salt"
)

func examineDropIn(r *report, m Minion) {
	c := m.Config
	path := filepath.Join(c.DropIns, dropInName)
	switch {
	case unread(m.DropInErr):
		r.add(Note, "drop-in", say("run phoenix doctor as root"), "%s is not read: %s", quote(path),
			oneLine(m.DropInErr))
	case m.DropInErr != nil:
		r.add(Error, "drop-in", remove("rm", []string{path}).then("the agent writes it anew"), "%s: %s", quote(path),
			oneLine(m.DropInErr))
	case m.DropIn == nil:
		r.add(Note, "drop-in", say("phoenix agent --dry-run"), "there is none: no agent has run here")
	default:
		if changed := overridden(m.DropIn, c.Options); len(changed) > 0 {
			other := "the other file: grep -rnE " + quote(strings.Join(changed, "|")) + " " + quote(c.Path) + " " +
				quote(c.DropIns)
			if paths := m.overriders(changed); len(paths) > 0 {
				other = some(paths) + ", then: " + restartMinion
			}
			r.add(Warning, "drop-in", say("take it out of "+other), "another file changes what it says of %s",
				some(changed))
		} else {
			r.ok("drop-in", "the minion sees it as it is")
		}
	}
	switch {
	case m.AgentRuns:
		r.ok("agent", "the minion's agent runs")
	case m.DropIn != nil && m.DropInErr == nil && m.AgentKnown:
		r.add(Warning, "agent", run("systemctl start phoenix-agent").then("or, if the minion is to have no agent any more: remove "+quote(path)+" and restart it"), "the agent has written a list of masters, and does not run")
	default:
		r.ok("agent", "no agent is missing")
	}
	hosts := make([]string, len(c.Masters)) // without ports, as Salt names the jobs
	for i, master := range c.Masters {
		hosts[i], _ = salt.SplitMaster(master, c.MasterPort)
	}
	stale := slices.DeleteFunc(slices.Clone(m.Alive), func(address string) bool {
		return slices.Contains(hosts, address) || slices.Contains(c.Masters, address)
	})
	switch {
	case m.AliveErr != nil:
		r.add(Warning, "alive-schedule", say("correct "+quote(filepath.Join(c.DropIns, scheduleName))),
			"the schedule cannot be read: %s", oneLine(m.AliveErr))
	case len(stale) > 0:
		r.add(Warning, "alive-schedule",
			say("systemctl restart phoenix-agent takes them out; or edit "+
				quote(filepath.Join(c.DropIns, scheduleName))),
			"the schedule checks masters that are not on the list: %s", some(stale))
	default:
		r.ok("alive-schedule", "the schedule checks no other masters")
	}
}

// overridden are the options that the drop-in says and the minion sees otherwise.
func overridden(dropIn, seen map[string]any) (changed []string) {
	for name, want := range dropIn {
		if fmt.Sprint(want) != fmt.Sprint(seen[name]) {
			changed = append(changed, name)
		}
	}
	slices.Sort(changed)
	return changed
}
