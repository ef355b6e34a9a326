package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"phoenix/bridge/api"
	"phoenix/bridge/audit"
	"phoenix/bridge/config"
	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/lastrun"
	"phoenix/bridge/open"
	"phoenix/bridge/salt"
	"phoenix/bridge/service"
)

// ExplainMinion is the request of Explain.
type ExplainMinion struct {
	ID    string `json:"id"`
	Lines *int   `json:"lines"` // of the audit trail; nil: DefaultLines
}

// DefaultLines is how many decisions are returned where the request does not say.
const DefaultLines = 10

// Explanation is what is known of one minion, and what follows.
type Explanation struct {
	ID        string            `json:"id"`
	Phase     decide.Phase      `json:"standing"`
	Row       *fleet.Minion     `json:"row"`
	Keys      map[string]string `json:"keys"` // state -> digest
	Decision  decide.KeyAct     `json:"decision"`
	Rule      string            `json:"rule"`
	Reason    string            `json:"reason"`
	Rules     []decide.Verdict  `json:"rules"`
	Highstate string            `json:"highstate"`
	Audit     []audit.Line      `json:"audit"` // of this machine, the newest at the end
	NoAudit   string            `json:"audit_error,omitempty"`
	NoBridge  string            `json:"bridge_error,omitempty"` // nothing is decided here; empty: a bridge answers
	// LastRun is its last state run; nil: none is known here.
	LastRun *lastrun.Run `json:"last_run,omitempty"`
	// Other is a key that is not the known one of this id; nil: there is none.
	Other *OtherKey `json:"other_key,omitempty"`
}

// Explain returns what is known of a minion, each rule, which one decides, and the
// last decisions.
func (a Admin) Explain(ctx context.Context, r ExplainMinion) (*Explanation, error) {
	lines := DefaultLines
	if r.Lines != nil {
		lines = *r.Lines
	}
	switch {
	case r.ID == "":
		return nil, config.Invalid(errors.New("explain takes one minion id"))
	case lines < 0:
		return nil, config.Invalid(fmt.Errorf("--lines %d is negative", lines))
	}
	_, keys, _, err := open.Master(a.Config)
	if err != nil {
		return nil, err
	}
	view, err := a.keyView(ctx, keys, r.ID)
	if err != nil {
		return nil, err
	}
	report, noBridge := a.bridge(ctx)
	breaker, err := a.breaker(ctx)
	if err != nil {
		return nil, err
	}
	view.Removed = removedByHand(report)[r.ID]
	d := decide.Keys(decide.Admit(a.Config.Admit), view)
	x := &Explanation{ID: r.ID, Phase: decide.PhaseOf(view.Row, view.Known, view.Accepted.Present),
		Keys: map[string]string{}, Decision: d.Act, Rule: d.Rule, Reason: d.Reason,
		Rules:     decide.ExplainKeys(decide.Admit(a.Config.Admit), view),
		Highstate: explainHighstate(wordsOf(report), breaker, view)}
	if view.Known {
		x.Row = &view.Row
	}
	if noBridge != nil {
		x.NoBridge = a.describeNoBridge(noBridge)
	}
	var suspect []string
	if d.OtherAccepted() {
		suspect = []string{r.ID}
	}
	x.LastRun = a.lastRun(ctx, r.ID, view.Row)
	if others, _, err := a.otherKeys(ctx, keys, listingOf(view), suspect); err == nil && len(others) > 0 {
		x.Other = &others[0]
	}
	x.Audit, err = audit.Last(a.Config.Audit.File, r.ID, lines)
	if x.Audit = append([]audit.Line{}, x.Audit...); err != nil { // [] in JSON, not null
		x.NoAudit = err.Error()
	}
	for name, key := range map[string]decide.Key{"pending": view.Pending, "accepted": view.Accepted,
		"rejected": view.Rejected, "denied": view.Denied} {
		if key.Present && view.Valid {
			x.Keys[name] = key.Digest
		}
	}
	return x, nil
}

// bridgeReport returns the report of the bridge on this machine, with all problems; an
// empty one if none runs here.
func (a Admin) bridgeReport(ctx context.Context) service.Report {
	report, _ := a.bridge(ctx)
	return report
}

// bridge returns the report of the bridge on this machine, or why none answers.
func (a Admin) bridge(ctx context.Context) (report service.Report, err error) {
	if err := api.NewClient(a.Config.Socket).FullStatus(ctx, &report); err != nil {
		return service.Report{}, err
	}
	return report, nil
}

// describeNoBridge says what follows if no bridge answers on this machine.
func (a Admin) describeNoBridge(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Sprintf("no permission to ask the bridge on %s what it does (run as root or as the master's user)",
			a.Config.Socket)
	}
	return fmt.Sprintf("no bridge answers on %s: until one runs, no key is accepted and no highstate is started on this master (systemctl start phoenix-bridge)", a.Config.Socket)
}

// bridgeWords are what a bridge says of minions, by id: a report has up to 10,000 problems of
// each kind, and a list asks for each of its rows.
type bridgeWords struct {
	progress map[string]service.Progress
	problems map[string]string // the first of each
}

func wordsOf(report service.Report) bridgeWords {
	words := bridgeWords{map[string]service.Progress{}, map[string]string{}}
	for _, p := range report.Engine.Highstate {
		words.progress[p.Minion] = p
	}
	for _, p := range report.Engine.Problems {
		if _, there := words.problems[p.Minion]; !there {
			words.problems[p.Minion] = p.What
		}
	}
	return words
}

// explainHighstate says how far the first highstate is: in the bridge's own words if
// one runs here, since only it knows what it waits for.
func explainHighstate(words bridgeWords, breaker *Breaker, v decide.KeyView) string {
	standing, asked := decide.PhaseOf(v.Row, v.Known, v.Accepted.Present), "wanted"
	if v.Row.Requested() {
		asked = "requested"
	}
	// Of a row that was changed since, the bridge's words are out of date.
	if p, is := words.progress[v.ID]; is && v.Row.WantsHighstate() && p.State == v.Row.ClaimState &&
		p.JID == v.Row.ClaimJID {
		return nextStep(p) + p.Why
	}
	if problem, is := words.problems[v.ID]; is && (standing == decide.PhaseListed || standing == decide.PhaseAccepted) {
		return asked + "; " + problem
	}
	if begins := standing == decide.PhaseListed || standing == decide.PhaseAccepted ||
		standing == decide.PhaseFailed; begins &&
		breaker != nil && breaker.Open && !v.Row.Requested() {
		return fmt.Sprintf("%s: the circuit breaker is open: %s (phoenix highstate resume)", wanted(v), breaker.Reason)
	}
	switch standing {
	case decide.PhaseForeign, decide.PhaseUnlisted:
		return "none: it is not in the fleet"
	case decide.PhaseTerminated:
		return "none: its instance was terminated"
	case decide.PhaseAdopted:
		return "none: it was adopted (phoenix highstate run " + v.ID + ")"
	case decide.PhaseDone:
		return "ran, as job " + v.Row.ClaimJID + " by " + v.Row.HighstateRunner
	case decide.PhaseFailed:
		return wanted(v)
	case decide.PhaseRunning:
		return "runs as job " + v.Row.ClaimJID + " by " + v.Row.ClaimOwner
	case decide.PhaseAccepted:
		return asked + ": starts when the minion connects"
	}
	return asked + ": starts when its key is accepted and it connects"
}

// nextStep says what happens next, and when, if that is known.
func nextStep(p service.Progress) string {
	switch {
	case p.Until == nil:
		return ""
	case p.State == fleet.Failed:
		return "next attempt at " + TimeOfDay(*p.Until) + ": "
	}
	return "next check at " + TimeOfDay(*p.Until) + ": "
}

// wanted says that a highstate has not begun, or how the last attempt failed.
func wanted(v decide.KeyView) string {
	if v.Row.ClaimState != fleet.Failed {
		return "wanted"
	}
	retcode := ""
	if v.Row.Retcode != nil {
		retcode = fmt.Sprint(*v.Row.Retcode)
	}
	return fmt.Sprintf("attempt %d failed (retcode %s)", v.Row.Attempt, retcode)
}

// listingOf returns the keys of one id as a listing.
func listingOf(v decide.KeyView) (l salt.Listing) {
	for _, of := range []struct {
		key decide.Key
		ids *[]string
	}{{v.Accepted, &l.Accepted}, {v.Pending, &l.Pending}, {v.Denied, &l.Denied}} {
		if of.key.Present && v.Valid {
			*of.ids = []string{v.ID}
		}
	}
	return l
}
