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

// DryRun says what a bridge would do about the keys that the master holds now,
// and does nothing.
func DryRun(ctx context.Context, cfg Config, store fleet.Store, keys KeyStore, w io.Writer) error {
	e := NewEngine(cfg, store, nil, keys, nil, NewInbox(), nil, time.Now, slog.New(slog.DiscardHandler))
	held, err := e.held()
	if err != nil {
		return err
	}
	counts := map[decide.KeyAct]int{}
	highstates := 0
	for chunk := range slices.Chunk(slices.Sorted(maps.Keys(held)), batch) {
		rows, err := e.look(ctx, chunk)
		if err != nil {
			return err
		}
		views := map[string]*keyView{}
		for _, id := range chunk {
			v, err := e.view(id, held)
			if err != nil {
				return err
			}
			v.Row, v.Known = rows[id].row, rows[id].found
			views[id] = v
		}
		if err := e.prove(ctx, chunk, views); err != nil {
			return err
		}
		for _, id := range chunk {
			v := views[id]
			d := decide.Keys(cfg.Admit, v.KeyView)
			counts[d.Act]++
			if d.Act != decide.LeaveKey {
				fmt.Fprintf(w, "%-8s %q: %s\n", d.Act, id, d.Reason)
			}
			if wants(d, v, cfg) {
				highstates++
				fmt.Fprintf(w, "%-8s %q: once it is connected\n", "run", id)
			}
		}
	}
	_, err = fmt.Fprintf(w, "keys: %d accept, %d adopt, %d unlink, %d delete, %d report, %d leave; highstates: %d\n",
		counts[decide.AcceptKey], counts[decide.AdoptKey], counts[decide.UnlinkPending],
		counts[decide.DeleteKeys], counts[decide.ReportKey], counts[decide.LeaveKey], highstates)
	return err
}

// wants says whether a highstate would follow from what is known now.
func wants(d decide.KeyDecision, v *keyView, cfg Config) bool {
	accepted := d.Act == decide.AcceptKey || v.Accepted.Present && v.Accepted.Digest == v.Row.KeySHA256
	return cfg.Highstate.Enabled && v.Known && v.Row.WantsHighstate() && accepted && d.Act != decide.AdoptKey &&
		!(v.Row.ClaimState == fleet.Failed && v.Row.Attempt >= cfg.Highstate.Attempts)
}

var _ KeyStore = (*salt.Keys)(nil)
