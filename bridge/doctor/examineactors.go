package doctor

import (
	"path/filepath"
	"slices"
	"strings"
)

// examineActors makes findings of what works beside Phoenix.
func examineActors(r *report, m Master) {
	old := []string{}
	for _, runner := range m.Runners {
		if !runner.Ours {
			old = append(old, runner.Path)
		}
	}
	dir := quote(filepath.Dir(m.Config.Path))
	others := map[string]int{}
	for _, a := range m.Actors {
		if a.Ours {
			continue
		}
		severity, does := weigh(a, len(old) > 0, m.Queues)
		if severity == OK {
			continue
		}
		others[a.Check]++
		switch a.Check {
		case "reactor":
			fix := say("read it: less " + quote(a.File))
			if severity != Note {
				fix = say("take " + quote(a.File) + " out of reactor in " + dir + ", then: " + restartMaster)
			}
			r.add(severity, a.Check, fix, "on %s, %s %s", quote(a.On), quote(a.File), does)
		case "engines":
			what := "the engine " + quote(a.On)
			if a.File != "" {
				what += ", " + quote(a.File) + ","
			}
			r.add(severity, a.Check, say("take "+quote(a.On)+" out of engines in "+dir+", then: "+restartMaster),
				"%s %s", what, does)
		case "master-schedule":
			r.add(severity, a.Check, say("take "+quote(a.On)+" out of schedule in "+dir+", then: "+restartMaster),
				"the scheduled job %s %s", quote(a.On), does)
		case "orchestration":
			r.add(severity, a.Check, say("read it: less "+quote(a.File)), "%s %s when it is run", quote(a.File), does)
		}
	}
	for _, none := range []struct {
		check,
		text string
	}{{"reactor", "no other reactor accepts or deletes keys or runs states"},
		{"engines", "no engine works with keys, states or queues"},
		{"master-schedule", "the master's schedule works with no keys or states"},
		{"orchestration", "no state file on the file server accepts or deletes keys"}} {
		if others[none.check] == 0 {
			r.ok(none.check, "%s", none.text)
		}
	}
	if len(old) > 0 {
		r.add(Error, "old-runners", remove("rm", old), "other runners under the names of Phoenix's: %s", some(old))
	} else {
		r.ok("old-runners", "no other runners under the names of Phoenix's")
	}
}

// weigh says how much an actor matters, and what it does.
func weigh(a Actor, oldRunners bool, queues []string) (Severity, string) {
	does := strings.Join(a.Calls, ", ")
	switch {
	case a.Err != nil && (a.Ear || a.Check != "reactor"):
		return Warning, "is not known: " + oneLine(a.Err)
	case a.Err != nil:
		return Note, "is not known: " + oneLine(a.Err)
	case slices.Contains(a.Calls, callsAccept) && a.Check == "orchestration":
		return Warning, does
	case slices.Contains(a.Calls, callsAccept):
		return Error, does
	case slices.Contains(a.Calls, takesQueue):
		if slices.ContainsFunc(queues, func(q string) bool { return q == a.File || strings.HasSuffix(q, "/"+a.File) }) {
			return Error, does + ": the one of sqs.queues"
		}
		return Warning, does
	case slices.Contains(a.Calls, callsOld) && !oldRunners:
		return Note, "calls key_runner or highstate_runner, which pass it on to the bridge"
	case slices.Contains(a.Calls, callsKeys):
		return Warning, does
	case len(a.Calls) > 0 && (a.Ear || a.Check != "reactor"):
		return Warning, does
	case len(a.Calls) > 0:
		return Note, does
	case a.Ear:
		return Note, "does something else"
	}
	return OK, ""
}
