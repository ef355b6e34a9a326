package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"phoenix/bridge/audit"
	"phoenix/bridge/config"
	"phoenix/bridge/decide"
	"phoenix/bridge/event"
	"phoenix/bridge/fleet"
	"phoenix/bridge/plural"
)

// ReadHistory is the request of History.
type ReadHistory struct {
	Since, Until time.Time
	IDs          []string // of minions, or globs; none: all
}

// matcher reports whether an id is asked for.
func (r ReadHistory) matcher() func(id string) bool {
	globs := make([]func([]byte) bool, len(r.IDs))
	for i, glob := range r.IDs {
		globs[i] = event.Glob(glob)
	}
	return func(id string) bool {
		return len(r.IDs) == 0 || slices.Contains(r.IDs, id) ||
			id != "" && slices.ContainsFunc(globs, func(match func([]byte) bool) bool { return match([]byte(id)) })
	}
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
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until"`
	Master string    `json:"master"` // whose audit trail was read
	// Oldest is the first entry of that audit trail; nil: it has none.
	Oldest *time.Time `json:"oldest,omitempty"`
	// Others are masters whose decisions are not among the events.
	Others []string `json:"other_masters"`
	Events []Event  `json:"events"`
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
		return nil, config.Invalid(fmt.Errorf("--since %s is not before --until %s", Clock(r.Since), Clock(r.Until)))
	}
	self := cmp.Or(a.bridgeReport(ctx).InstanceID, a.Config.InstanceID, thisMachine)
	h := &History{Since: r.Since, Until: r.Until, Master: self, Others: []string{}, Events: []Event{},
		Notes: []string{}}
	wanted := r.matcher()
	if oldest, err := audit.Oldest(a.Config.Audit.File); err == nil { // else it cannot be read below, either
		h.Oldest = oldest
	}
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
	switch {
	case h.Oldest == nil && err == nil:
		h.Notes = append(h.Notes, fmt.Sprintf("the audit trail of %s is empty (audit.file is %s)", self,
			a.Config.Audit.File))
	case h.Oldest != nil && h.Oldest.After(r.Since):
		h.Notes = append(h.Notes, fmt.Sprintf("the audit trail of %s begins at %s", self, Clock(*h.Oldest)))
	}
	h.noteOthers()
	return h, nil
}

// thisMachine is the source of decisions where no master's id is known.
const thisMachine = "this machine"

// othersNote is how the note begins that says whose decisions are left out.
const othersNote = "the decisions of other masters are not here, only the last change of each row"

// noteOthers notes whose decisions are left out.
func (h *History) noteOthers() {
	h.Notes = slices.DeleteFunc(h.Notes, func(note string) bool { return strings.HasPrefix(note, othersNote) })
	if n := len(h.Others); n > 0 {
		shown := strings.Join(h.Others[:min(n, maxNamed)], ", ")
		if n > maxNamed {
			shown += ", …"
		}
		h.Notes = append(h.Notes, fmt.Sprintf("%s: run phoenix history on them (%s)", othersNote, shown))
	}
}

// maxNamed is how many masters a note names.
const maxNamed = 5

// UTC puts all times in UTC.
func (h *History) UTC() {
	h.Since, h.Until = h.Since.UTC(), h.Until.UTC()
	if h.Oldest != nil {
		*h.Oldest = h.Oldest.UTC()
	}
	for i := range h.Events {
		h.Events[i].Time = h.Events[i].Time.UTC()
	}
}

// Merge adds the decisions of another master: its own history of the same time. What both
// have, as from the store, is there once.
func (h *History) Merge(other *History, r ReadHistory) {
	type occurrence struct {
		at                   int64
		source, what, minion string
	}
	keyOf := func(e Event) occurrence { return occurrence{e.Time.UnixNano(), e.Source, e.What, e.Minion} }
	seen, wanted := map[occurrence]bool{}, r.matcher()
	for _, e := range h.Events {
		seen[keyOf(e)] = true
	}
	for _, e := range other.Events {
		if e.Source != storeSource && wanted(e.Minion) && !seen[keyOf(e)] && !e.Time.Before(r.Since) &&
			e.Time.Before(r.Until) {
			h.Events = append(h.Events, e)
		}
	}
	slices.SortStableFunc(h.Events, func(x, y Event) int { return x.Time.Compare(y.Time) })
	for _, note := range other.Notes {
		if !strings.HasPrefix(note, othersNote) {
			h.Notes = append(h.Notes, "merged: "+note)
		}
	}
	h.Others = slices.DeleteFunc(h.Others, func(id string) bool { return id == other.Master })
	h.noteOthers()
}

// sameChange is how far the times of a decision and of the row that it changed may lie apart.
const sameChange = 2 * time.Second

// WithoutRepeats returns the events without those of the store that only repeat a decision of
// the master that made the change.
func (h *History) WithoutRepeats() []Event {
	decisions := map[string][]Event{} // by minion
	for _, e := range h.Events {
		if e.Source != storeSource {
			decisions[e.Minion] = append(decisions[e.Minion], e)
		}
	}
	return slices.DeleteFunc(slices.Clone(h.Events), func(e Event) bool {
		return e.Source == storeSource && e.Minion != "" && slices.ContainsFunc(decisions[e.Minion],
			func(d Event) bool {
				return (e.Master == "" || e.Master == d.Source) && d.Time.Sub(e.Time).Abs() <= sameChange
			})
	})
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
					What: "last change: " + strings.ToLower(string(decide.PhaseOf(m, true, false)))}
				if m.Requested() {
					e.What += ", highstate requested"
				}
				for _, more := range []struct{ name, value string }{{"jid", m.ClaimJID}, {"group", m.Group}} {
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
			h.Notes = append(h.Notes, fmt.Sprintf("more than %d rows changed in that time: the others are left out",
				maxHistory))
			break
		}
		if err != nil {
			return fmt.Errorf("read history: %w", err)
		}
		if len(bad) > 0 {
			h.Notes = append(h.Notes, fmt.Sprintf("left out: %s that cannot be decoded", plural.Of(len(bad), "row")))
		}
	}
	masters, err := a.Masters(ctx)
	if _, err := fleet.WithoutBadRows(err); err != nil {
		return fmt.Errorf("read history: %w", err)
	}
	now := time.Now()
	for _, m := range masters {
		if m.InstanceID != h.Master && m.Status == fleet.Launch {
			h.Others = append(h.Others, m.InstanceID)
		}
		at, err := fleet.ParseTime(m.Modified)
		if err != nil || at.Before(r.Since) || !at.Before(r.Until) || len(r.IDs) > 0 {
			continue
		}
		switch {
		case m.Status == fleet.Terminate:
			h.Events = append(h.Events, Event{Time: at, Source: storeSource, Master: m.InstanceID,
				What: "master terminated"})
		case Stale(m, a.Config.Highstate.Lease, now):
			h.Events = append(h.Events, Event{Time: at, Source: storeSource, Master: m.InstanceID,
				What: "last heartbeat of a master that is stale"})
		}
	}
	if h.Master == thisMachine && len(h.Others) == 1 {
		h.Others = []string{} // the one master there is runs here, whatever its id
	}
	return nil
}
