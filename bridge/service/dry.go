package service

import (
	"context"
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

// Plan counts what a bridge would do about the keys that the master holds now.
type Plan struct {
	Acts       map[decide.KeyAct]int
	Foreign    int // ids that are accepted, and have no row
	Highstates int // first highstates, of minions that are connected or will be
}

// MakePlan makes the plan, and does nothing. tell, which may be nil, is told of
// each id about which something would be done.
func MakePlan(ctx context.Context, cfg Config, store fleet.Store, keys KeyStore,
	tell func(id string, d decide.KeyDecision, highstate bool)) (Plan, error) {
	e := NewEngine(cfg, store, nil, keys, nil, NewInbox(), nil, time.Now, slog.New(slog.DiscardHandler))
	plan := Plan{Acts: map[decide.KeyAct]int{}}
	held, err := e.held()
	if err != nil {
		return plan, err
	}
	for chunk := range slices.Chunk(slices.Sorted(maps.Keys(held)), batch) {
		rows, err := e.look(ctx, chunk)
		if err != nil {
			return plan, err
		}
		views := map[string]*keyView{}
		for _, id := range chunk {
			v, err := e.view(id, held)
			if err != nil { // one key that cannot be read hides no other
				v = &keyView{KeyView: decide.KeyView{ID: id}}
			}
			v.Row, v.Known = rows[id].row, rows[id].found
			views[id] = v
		}
		if err := e.prove(ctx, chunk, views); err != nil {
			return plan, err
		}
		for _, id := range chunk {
			v := views[id]
			d, highstate := decide.Keys(cfg.Admit, v.KeyView), false
			plan.Acts[d.Act]++
			if decide.Stand(v.Row, v.Known, v.Accepted.Present) == decide.Foreign {
				plan.Foreign++
			}
			if highstate = wants(d, v, cfg); highstate {
				plan.Highstates++
			}
			if tell != nil && (highstate || d.Act != decide.LeaveKey) {
				tell(id, d, highstate)
			}
		}
	}
	return plan, nil
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
	counts := plan.Acts
	_, err = fmt.Fprintf(w, "keys: %d accept, %d adopt, %d unlink, %d delete, %d report, %d leave; highstates: %d\n",
		counts[decide.AcceptKey], counts[decide.AdoptKey], counts[decide.UnlinkPending],
		counts[decide.DeleteKeys], counts[decide.ReportKey], counts[decide.LeaveKey], plan.Highstates)
	return err
}

// wants says whether a highstate would follow from what is known now.
func wants(d decide.KeyDecision, v *keyView, cfg Config) bool {
	accepted := d.Act == decide.AcceptKey || v.Accepted.Present && v.Accepted.Digest == v.Row.KeySHA256
	return cfg.Highstate.Enabled && v.Known && v.Row.WantsHighstate() && accepted && d.Act != decide.AdoptKey &&
		!(v.Row.ClaimState == fleet.Failed && v.Row.Attempt >= cfg.Highstate.Attempts)
}

var _ KeyStore = (*salt.Keys)(nil)
