package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/admin"
	"phoenix/bridge/decide"
	"phoenix/bridge/event"
	"phoenix/bridge/fleet"
)

// phaseList are the phases of minions of the fleet.
const phaseList = "listed, accepted, running, done, failed, adopted, terminated"

// listFilter are the flags of a list of minions.
var listFilter = []cli.Flag{
	&cli.StringSliceFlag{Name: "phase", Usage: "only minions in `PHASE` (may be given several times): " + phaseList},
	wideFlag,
}

var wideFlag = &cli.BoolFlag{Name: "wide",
	Usage: "show all columns; by default the table is at most 80 characters wide"}

// filterMinions keeps the rows that the operands (ids or globs) and --phase name. Unknown
// are the ids that are named and not there: an error for the end, after all others are
// shown.
func filterMinions(c *cli.Context, rows []fleet.Minion) (kept []fleet.Minion, unknown, err error) {
	phases := c.StringSlice("phase")
	for _, p := range phases {
		if _, known := meaning[decide.Phase(p)]; !known {
			return nil, nil, usageError(fmt.Errorf("--phase %s is no phase: %s", p, phaseList))
		}
	}
	kept, unknown = named(c, rows, func(r fleet.Minion) []string { return []string{r.SaltID(), r.InstanceID} })
	kept = slices.DeleteFunc(kept, func(r fleet.Minion) bool {
		return len(phases) > 0 && !slices.Contains(phases, string(decide.PhaseOf(r, true, false)))
	})
	return kept, unknown, nil
}

// named keeps the rows that the operands name: by ids, or by globs that match the first of
// a row's names. Without operands it keeps all. Unknown names the ids that no row has.
func named[R any](c *cli.Context, rows []R, names func(R) []string) (kept []R, unknown error) {
	patterns := c.Args().Slice()
	match, found := make([]func([]byte) bool, len(patterns)), map[string]bool{}
	for i, p := range patterns {
		match[i] = event.Glob(p)
	}
	kept = []R{}
	for _, row := range rows {
		keep, of := len(patterns) == 0, names(row)
		for i, p := range patterns {
			if slices.Contains(of, p) || match[i]([]byte(of[0])) {
				keep, found[p] = true, true
			}
		}
		if keep {
			kept = append(kept, row)
		}
	}
	var missing []string
	for _, p := range patterns {
		if found[p] || strings.ContainsAny(p, "*?[") {
			continue
		}
		if len(missing) < maxNear {
			ids := make([]string, len(rows))
			for i, row := range rows {
				ids[i] = names(row)[0]
			}
			p += isThere(nearID(p, ids))
		}
		missing = append(missing, p)
	}
	verb := "list"
	if c.Command.Name == "where" {
		verb = "find"
	}
	return kept, admin.Unknown(verb, missing)
}

// maxNear is for how many unknown ids one that is near is looked for.
const maxNear = 20

// isThere names the id that was perhaps meant; empty: none was.
func isThere(near string) string {
	if near == "" {
		return ""
	}
	return " (" + near + " is)"
}

// glossary defines the words of minions explain: phases, decisions, and rules with their
// reasons.
func glossary() []terms {
	phases := terms{title: "Phases"}
	for _, p := range []decide.Phase{decide.PhaseListed, decide.PhaseAccepted, decide.PhaseRunning, decide.PhaseDone,
		decide.PhaseFailed,
		decide.PhaseAdopted, decide.PhaseForeign, decide.PhaseUnlisted, decide.PhaseTerminated,
		decide.PhaseUnreadable} {
		phases.list = append(phases.list, [2]string{string(p), meaning[p]})
	}
	rules := terms{title: "Rules, in order of evaluation: the first that applies decides"}
	for _, r := range decide.KeyRules() {
		rules.list = append(rules.list, [2]string{r.Rule, r.Reason})
	}
	return []terms{phases, decisions(), rules}
}

// decisions defines what the bridge does about keys, as explain and --dry-run name it.
func decisions() terms {
	t := terms{title: "Decisions about the keys of one id"}
	for _, d := range decide.KeyActs() {
		t.list = append(t.list, [2]string{string(d.Act), d.Meaning})
	}
	return t
}
