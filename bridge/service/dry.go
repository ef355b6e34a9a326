package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"time"

	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
)

// Plan counts what a bridge would do about the keys that the master has now.
type Plan struct {
	Acts       map[decide.KeyAct]int
	Foreign    int      // ids that are accepted, and have no row
	Highstates int      // first highstates, of minions that are connected or will be
	OtherKeys  []string // ids whose accepted key is not the bound one
	// Problems are ids that would be passed over; see Status.Problems.
	Problems []Problem
	Unlisted int // ids that wait for acceptance, and have no row
}

// MakePlan makes the plan, and does nothing. report is called with each id for which a
// bridge would act; nil: it is not needed.
func MakePlan(ctx context.Context, cfg Config, store fleet.Store, keys KeyStore,
	report func(id string, d decide.KeyDecision, highstate bool)) (Plan, error) {
	discard := slog.New(slog.DiscardHandler)
	e := NewEngine(cfg, store, nil, keys, nil, NewInbox(), NewAudit(discard), time.Now, discard)
	plan := Plan{Acts: map[decide.KeyAct]int{}}
	listing, err := e.listKeys()
	if err != nil {
		return plan, err
	}
	for chunk := range slices.Chunk(slices.Sorted(maps.Keys(listing)), batch) {
		views := e.views(chunk, listing, nil)
		if err := e.addRows(ctx, views, nil); err != nil {
			return plan, err
		}
		ids := slices.Sorted(maps.Keys(views))
		e.readProofs(ctx, ids, views, nil)
		for _, name := range []stageName{stageNames, stageProofs} { // what a bridge would wait for
			if fault := e.stages[name].fault; fault != "" {
				return plan, errors.New(fault)
			}
		}
		for _, id := range ids {
			plan.add(cfg, views[id], report)
		}
	}
	plan.Problems = e.problems.list()
	return plan, nil
}

func (p *Plan) add(cfg Config, v *keyView, report func(id string, d decide.KeyDecision, highstate bool)) {
	d := decide.Keys(cfg.Admit, v.KeyView)
	p.Acts[d.Act]++
	if d.OtherAccepted() {
		p.OtherKeys = append(p.OtherKeys, v.ID)
	}
	if decide.PhaseOf(v.Row, v.Known, v.Accepted.Present) == decide.PhaseForeign {
		p.Foreign++
	}
	if decide.PhaseOf(v.Row, v.Known, v.Accepted.Present) == decide.PhaseUnlisted {
		p.Unlisted++
	}
	highstate := wants(d, v, cfg)
	if highstate {
		p.Highstates++
	}
	if report != nil && (highstate || d.Act != decide.LeaveKey) {
		report(v.ID, d, highstate)
	}
}

// DryRun writes the plan for people.
func DryRun(ctx context.Context, cfg Config, store fleet.Store, keys KeyStore, w io.Writer) error {
	plan, err := MakePlan(ctx, cfg, store, keys, func(id string, d decide.KeyDecision, highstate bool) {
		if d.Act != decide.LeaveKey {
			fmt.Fprintf(w, "%-8s %q: %s\n", d.Act, id, d.Reason)
		}
		if highstate {
			fmt.Fprintf(w, "%-8s %q: once it is connected\n", "run", id)
		}
	})
	if err != nil {
		return err
	}
	for _, p := range plan.Problems {
		fmt.Fprintf(w, "%-8s %q: %s\n", "skip", p.Minion, p.What)
	}
	counts := plan.Acts
	_, err = fmt.Fprintf(w, "keys: %d accept, %d bind, %d adopt, %d unlink, %d delete, %d replace, %d report, %d leave (%d foreign, %d unlisted); highstates: %d\n",
		counts[decide.AcceptKey], counts[decide.BindKey], counts[decide.AdoptKey], counts[decide.UnlinkPending],
		counts[decide.DeleteKeys], counts[decide.ReplaceKey], counts[decide.ReportKey], counts[decide.LeaveKey],
		plan.Foreign, plan.Unlisted, plan.Highstates)
	return err
}

// wants reports whether a highstate would follow from what is known now.
func wants(d decide.KeyDecision, v *keyView, cfg Config) bool {
	accepted := d.Act == decide.AcceptKey || d.Act == decide.BindKey ||
		v.Accepted.Present && v.Accepted.Digest == v.Row.KeySHA256
	return cfg.Highstate.Enabled && v.Known && v.Row.WantsHighstate() && accepted && d.Act != decide.AdoptKey &&
		!(v.Row.ClaimState == fleet.Failed && v.Row.Attempt >= cfg.Highstate.Attempts)
}

var _ KeyStore = (*salt.Keys)(nil)
