package admin

import (
	"context"
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
	// Since is when the bridge of this machine began to remember runs: of those before it,
	// first highstates alone are known. Nil: no bridge answers, or one that does not say.
	Since *time.Time `json:"last_run_known_since"`
}

// maxRunPages bounds how many pages of runs are read: more than a bridge remembers.
const maxRunPages = 250

// LastRuns adds to rows the last state run of each minion: the one that the bridge of
// this machine has seen, or the first highstate in the row, by whichever master it was
// run.
func (a Admin) LastRuns(ctx context.Context, rows []fleet.Minion) []LastRun {
	seen, since := a.seenRuns(ctx)
	out := make([]LastRun, len(rows))
	for i, row := range rows {
		out[i] = LastRun{Minion: row, Run: newest(seen[row.SaltID()], a.runOf(row)), Since: since}
	}
	if since != nil {
		a.note("the bridge of this machine has read returns since %s: of state runs before, first highstates alone are known", Clock(*since))
	}
	return out
}

// seenRuns are the runs that the bridge of this machine has seen, by minion, and since
// when it reads returns.
func (a Admin) seenRuns(ctx context.Context) (runs map[string]*lastrun.Run, since *time.Time) {
	bridge, seen, after := api.NewClient(a.Config.Socket), map[string]*lastrun.Run{}, ""
	for range maxRunPages {
		var p lastrun.Page
		if err := bridge.Runs(ctx, "", after, &p); err != nil {
			a.note("only first highstates are known here: %v", err)
			return seen, since
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
	return seen, since
}

// lastRun is the last state run of one minion.
func (a Admin) lastRun(ctx context.Context, id string, row fleet.Minion) *lastrun.Run {
	var p lastrun.Page
	if err := api.NewClient(a.Config.Socket).Runs(ctx, id, "", &p); err != nil || len(p.Runs) == 0 {
		return a.runOf(row)
	}
	return newest(&p.Runs[0], a.runOf(row))
}

// runOf is the first highstate that a row records, if it has ended. Its time is that of
// its job id, when it began.
func (a Admin) runOf(row fleet.Minion) *lastrun.Run {
	run := &lastrun.Run{Minion: row.SaltID(), Function: a.Config.Highstate.Function, JID: row.ClaimJID, Outcome: lastrun.Succeeded}
	switch phase := decide.PhaseOf(row, true, false); {
	case row.ClaimJID == "":
		return nil
	case phase == decide.PhaseFailed:
		run.Outcome = lastrun.Failed
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
