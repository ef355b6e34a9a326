package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"phoenix/bridge/audit"
	"phoenix/bridge/config"
	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
)

// ReadHistory is the request of History.
type ReadHistory struct {
	Since, Until time.Time
	IDs          []string // of minions; none: all
}

// Event is one thing that happened.
type Event struct {
	Time   time.Time `json:"time"`
	Source string    `json:"source"` // the master whose audit trail has it, or "store"
	What   string    `json:"what"`
	Minion string    `json:"minion,omitempty"`
	Master string    `json:"master,omitempty"`
	More   []string  `json:"more,omitempty"` // "key=value"
}

// History is what happened in some time, in one order.
type History struct {
	Events []Event `json:"events"`
	// Notes say what the events leave out.
	Notes []string `json:"notes"`
}

// maxHistory bounds how many events are returned of each source: the newest.
const maxHistory = 10_000

// storeSource is the Source of what rows of the store say.
const storeSource = "store"

// History returns the decisions of this master's audit trail, and the last change of
// each row of the store, whichever master has made it. An audit trail is a file of its
// machine: those of the other masters are not read, and the notes say so.
func (a Admin) History(ctx context.Context, r ReadHistory) (*History, error) {
	if !r.Since.Before(r.Until) {
		return nil, config.Invalid(fmt.Errorf("--since %s is not before --until %s", r.Since.Format(time.DateTime), r.Until.Format(time.DateTime)))
	}
	h := &History{Events: []Event{}, Notes: []string{}}
	self := a.bridgeReport(ctx).InstanceID
	if self == "" {
		self = a.Config.InstanceID
	}
	if self == "" {
		self = "this machine"
	}
	wanted := func(id string) bool { return len(r.IDs) == 0 || slices.Contains(r.IDs, id) }
	lines, err := audit.Between(a.Config.Audit.File, r.Since, r.Until, maxHistory)
	switch {
	case err != nil:
		h.Notes = append(h.Notes, OneLine(err))
	case len(lines) == maxHistory:
		h.Notes = append(h.Notes, fmt.Sprintf("the audit trail has more than %d lines of that time: the oldest are left out", maxHistory))
	}
	for _, l := range lines {
		if wanted(l.Minion) {
			h.Events = append(h.Events, Event{Time: l.Time, Source: self, What: l.Text, Minion: l.Minion, More: l.More})
		}
	}
	if err := a.storeHistory(ctx, r, h, wanted); err != nil {
		return nil, err
	}
	slices.SortStableFunc(h.Events, func(x, y Event) int { return x.Time.Compare(y.Time) })
	return h, nil
}

// Merge adds the decisions of another master: its own history of the same time. What both
// have, as from the store, is there once.
func (h *History) Merge(other *History, r ReadHistory) {
	type event struct {
		at                   int64
		source, what, minion string
	}
	keyOf := func(e Event) event { return event{e.Time.UnixNano(), e.Source, e.What, e.Minion} }
	seen := map[event]bool{}
	for _, e := range h.Events {
		seen[keyOf(e)] = true
	}
	for _, e := range other.Events {
		named := len(r.IDs) == 0 || slices.Contains(r.IDs, e.Minion)
		if e.Source != storeSource && named && !seen[keyOf(e)] && !e.Time.Before(r.Since) && e.Time.Before(r.Until) {
			h.Events = append(h.Events, e)
		}
	}
	slices.SortStableFunc(h.Events, func(x, y Event) int { return x.Time.Compare(y.Time) })
	for _, note := range other.Notes {
		h.Notes = append(h.Notes, "merged: "+note)
	}
}

// errEnough ends a listing.
var errEnough = errors.New("enough")

// storeHistory adds what rows say of their last change.
func (a Admin) storeHistory(ctx context.Context, r ReadHistory, h *History, wanted func(string) bool) error {
	defer a.progress("reading the fleet")()
	seen := 0
	for _, status := range []fleet.Status{fleet.Launch, fleet.Terminate} {
		err := a.Store.ByStatus(ctx, status, fleet.FormatTime(r.Since), func(page []fleet.Minion) error {
			for _, m := range page {
				at, err := fleet.ParseTime(m.Modified)
				if err != nil || !wanted(m.SaltID()) || at.Before(r.Since) || !at.Before(r.Until) {
					continue
				}
				if seen++; seen > maxHistory {
					return errEnough
				}
				e := Event{Time: at, Source: storeSource, Minion: m.SaltID(), Master: m.ClaimOwner,
					What: "row is " + strings.ToLower(string(decide.PhaseOf(m, true, false)))}
				for _, more := range []struct{ name, value string }{{"jid", m.ClaimJID}, {"runner", m.HighstateRunner}, {"group", m.Group}} {
					if more.value != "" {
						e.More = append(e.More, more.name+"="+more.value)
					}
				}
				h.Events = append(h.Events, e)
			}
			return nil
		})
		bad, err := fleet.WithoutBadRows(err)
		if errors.Is(err, errEnough) {
			h.Notes = append(h.Notes, fmt.Sprintf("more than %d rows changed in that time: the others are left out", maxHistory))
			break
		}
		if err != nil {
			return fmt.Errorf("read history: %w", err)
		}
		if len(bad) > 0 {
			h.Notes = append(h.Notes, fmt.Sprintf("%d rows cannot be decoded, and are left out", len(bad)))
		}
	}
	masters, err := a.Masters(ctx)
	if _, err := fleet.WithoutBadRows(err); err != nil {
		return fmt.Errorf("read history: %w", err)
	}
	others := 0
	now := time.Now()
	for _, m := range masters {
		if m.InstanceID != a.Config.InstanceID && m.Status == fleet.Launch {
			others++
		}
		at, err := fleet.ParseTime(m.Modified)
		if err != nil || at.Before(r.Since) || !at.Before(r.Until) || len(r.IDs) > 0 {
			continue
		}
		switch {
		case m.Status == fleet.Terminate:
			h.Events = append(h.Events, Event{Time: at, Source: storeSource, Master: m.InstanceID, What: "master terminated"})
		case Stale(m, a.Config.Highstate.Lease, now):
			h.Events = append(h.Events, Event{Time: at, Source: storeSource, Master: m.InstanceID, What: "last heartbeat of a master that is stale"})
		}
	}
	if others > 0 {
		h.Notes = append(h.Notes, fmt.Sprintf("of the other masters there is only the last change of each row: run phoenix history on them for their decisions (%d)", others))
	}
	return nil
}
