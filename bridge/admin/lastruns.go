package admin

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"phoenix/bridge/api"
	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/lastrun"
	"phoenix/bridge/salt"
)

// LastRun is a minion's row with its last state run.
type LastRun struct {
	fleet.Minion
	Run *lastrun.Run `json:"last_run"` // nil: none is known
	// Since is when the bridge of this machine began to remember runs. Of those before it,
	// those in the job cache of this master are known, if few minions are asked for, and
	// first highstates. Nil: no bridge answers, or one that does not say.
	Since *time.Time `json:"last_run_known_since"`
}

// maxRunPages bounds how many pages of runs are read: more than a bridge remembers.
const maxRunPages = 250

// LastRuns adds to rows the last state run of each minion: the one that the bridge of
// this machine has seen, or, of few minions, that the job cache of this master has; or the
// first highstate in the row, by whichever master it was run.
func (a Admin) LastRuns(ctx context.Context, rows []fleet.Minion) []LastRun {
	seen, since, err := a.seenRuns(ctx)
	var unseen []string
	for _, row := range rows {
		if seen[row.SaltID()] == nil && row.Status == fleet.Launch {
			unseen = append(unseen, row.SaltID())
		}
	}
	searched := len(unseen) <= maxSearched && a.searchJobCache(ctx, unseen, seen)
	out := make([]LastRun, len(rows))
	for i, row := range rows {
		out[i] = LastRun{Minion: row, Run: newest(seen[row.SaltID()], a.runOf(row)), Since: since}
	}
	a.noteKnown(since, err, searched)
	return out
}

// noteKnown notes which runs are known.
func (a Admin) noteKnown(since *time.Time, err error, searched bool) {
	var known []string
	switch {
	case err != nil:
		a.note("no bridge answers on %s, so no return that it has read is shown", a.Config.Socket)
	case since != nil:
		known = append(known, "the bridge of this machine has read since "+Clock(*since))
	default:
		known = append(known, "the bridge of this machine has read since its start")
	}
	if searched {
		known = append(known, "are in the job cache of this master")
	}
	last := "were first highstates, of any master"
	if !searched {
		last += fmt.Sprintf(" (the job cache of this master is searched for up to %d minions)", maxSearched)
	}
	a.note("shown are runs that %s", strings.Join(append(known, last), ", or "))
}

const (
	// maxSearched is for how many minions the job cache of this master is searched: each
	// costs a stat in each job's folder.
	maxSearched = 20
	// searchWithin bounds the search: 20,000 jobs take 0.4 s on two busy cores.
	searchWithin = 2 * time.Second
)

// searchJobCache adds the runs of ids that the job cache of this master has, and reports
// whether it was searched. Without one, on another machine than a master, nothing is said.
func (a Admin) searchJobCache(ctx context.Context, ids []string, seen map[string]*lastrun.Run) bool {
	valid := a.Config.ValidID()
	ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !valid(id) }) // they become paths
	master, err := salt.ReadConfig(a.Config.SaltConfig)
	if err != nil || len(ids) == 0 {
		return false
	}
	defer a.progress("searching the job cache")()
	ctx, cancel := context.WithTimeout(ctx, searchWithin)
	defer cancel()
	runs, err := lastrun.FromJobCache(ctx, master.CacheDir, ids)
	if err != nil {
		if !lastrun.IsNoJobCache(err) {
			a.note("the job cache of this master was not searched: %v", err)
		}
		return false
	}
	for id, run := range runs {
		seen[id] = &run
	}
	return true
}

// seenRuns are the runs that the bridge of this machine has seen, by minion, and since
// when it reads returns.
func (a Admin) seenRuns(ctx context.Context) (runs map[string]*lastrun.Run, since *time.Time, err error) {
	bridge, seen, after := api.NewClient(a.Config.Socket), map[string]*lastrun.Run{}, ""
	for range maxRunPages {
		var p lastrun.Page
		if err := bridge.Runs(ctx, "", after, &p); err != nil {
			return seen, since, err
		}
		if !p.Since.IsZero() {
			since = &p.Since
		}
		for _, run := range p.Runs {
			seen[run.Minion], after = &run, run.Minion
		}
		if !p.More || len(p.Runs) == 0 {
			break
		}
	}
	return seen, since, nil
}

// lastRun is the last state run of one minion.
func (a Admin) lastRun(ctx context.Context, id string, row fleet.Minion) *lastrun.Run {
	var p lastrun.Page
	if err := api.NewClient(a.Config.Socket).Runs(ctx, id, "", &p); err == nil && len(p.Runs) > 0 {
		return newest(&p.Runs[0], a.runOf(row))
	}
	seen := map[string]*lastrun.Run{}
	a.searchJobCache(ctx, []string{id}, seen)
	return newest(seen[id], a.runOf(row))
}

// runOf is the first highstate that a row records, if it has ended. Its time is that of
// its job id, when it began.
func (a Admin) runOf(row fleet.Minion) *lastrun.Run {
	run := &lastrun.Run{Minion: row.SaltID(), Function: a.Config.Highstate.Function, JID: row.ClaimJID,
		Outcome: lastrun.Succeeded}
	switch phase := decide.PhaseOf(row, true, false); {
	case row.ClaimJID == "":
		return nil
	case phase == decide.PhaseFailed:
		run.Outcome, run.Text = lastrun.Failed, "ran on "+row.ClaimOwner // which has the states
	case phase != decide.PhaseDone:
		return nil
	}
	if row.Retcode != nil {
		run.Retcode = *row.Retcode
	}
	at, err := time.Parse(time.DateTime, salt.JIDTime(row.ClaimJID))
	if err != nil {
		return nil
	}
	run.At = at
	return run
}

// newest returns the later of two runs. The return of a job has more than its row.
func newest(seen, recorded *lastrun.Run) *lastrun.Run {
	if seen == nil || recorded != nil && recorded.JID != seen.JID && recorded.At.After(seen.At) {
		return recorded
	}
	return seen
}
