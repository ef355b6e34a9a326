package cli

import (
	"fmt"
	"io"
	"slices"

	"phoenix/bridge/service"
)

// shownProblems is as many of a kind as fit a screen.
const shownProblems = 10

// printProblems names minions that are not served, or odd, while all others are served.
func printProblems(w io.Writer, e service.Status) {
	all := 0
	for kind, n := range e.Problem {
		if kind != service.OtherKey { // they are listed as other keys
			all += n
		}
	}
	problems := slices.DeleteFunc(slices.Clone(e.Problems),
		func(p service.Problem) bool { return p.Kind == service.OtherKey })
	for _, p := range problems[:min(len(problems), shownProblems)] {
		fmt.Fprintf(w, "%s: %s: %s\n", problemIs(p.Kind), plain(p.Minion), plain(p.What))
	}
	if more := all - shownProblems; more > 0 {
		fmt.Fprintf(w, "not served, or odd: %d more%s\n", more, allByJSON)
	}
}

// problemIs says in words what a problem is for its minion.
func problemIs(kind service.ProblemKind) string {
	switch kind {
	case service.KeyRemoved, service.BadRow, service.BadKey:
		return "NOT SERVED"
	case service.Undeletable:
		return "KEY NOT DELETED"
	}
	return "odd"
}
