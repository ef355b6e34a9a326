package ui

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"phoenix/bridge/admin"
	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/service"
)

const (
	// freshFor is how long what was read is shown, as long as somebody watches. A SQLite
	// file of 10,000 rows is read in 0.1 s; DynamoDB is paid for by what is read.
	freshFor         = 2 * time.Second
	freshForDynamoDB = time.Minute
	// readWithin bounds one reading.
	readWithin = 20 * time.Second
	// historyOf and historyLines are what the timeline shows.
	historyOf    = time.Hour
	historyLines = 60
	// attentionLines bounds the attention list.
	attentionLines = 100
	// foldAbove is how many minions have a line each for one thing.
	foldAbove = 8
)

// phases are those of minions in the order in which they are shown.
var phases = []decide.Phase{decide.PhaseFailed, decide.PhaseUnreadable, decide.PhaseListed, decide.PhaseAccepted,
	decide.PhaseRunning,
	decide.PhaseDone, decide.PhaseAdopted, decide.PhaseForeign, decide.PhaseUnlisted, decide.PhaseTerminated}

// snapshot is what the page shows.
type snapshot struct {
	At      time.Time
	Fault   string // why there is nothing newer
	Self    string
	Ready   bool
	Why     string // it is not ready
	Phases  []phaseCount
	Total   int // minions that are not terminated
	Masters []master
	Cells   []cell
	Todo    []todo
	Events  []admin.Event // the newest first
	Notes   []string
}

type phaseCount struct {
	Phase decide.Phase
	Count int
}

type master struct {
	ID, State, Class, Address, Zone, Seen string
	Connected                             string // how many minions are; empty: not known
	Running                               int    // first highstates that it runs
}

// cell is one minion of the grid.
type cell struct {
	ID    string
	Phase decide.Phase
}

// todo is one line of the attention list.
type todo struct{ Class, Subject, What, Command string }

// reader reads the fleet for all who watch, at most once in a time.
type reader struct {
	admin admin.Admin
	every time.Duration
	now   func() time.Time

	mu   sync.Mutex
	last *snapshot
}

// read returns what is shown now. A reading that fails shows the last one, and says so.
func (r *reader) read(ctx context.Context) *snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last != nil && r.now().Sub(r.last.At) < r.every {
		return r.last
	}
	// Others show this reading, too: it does not end with the request that asked first.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readWithin)
	defer cancel()
	s, err := r.take(ctx)
	if err != nil {
		old := snapshot{}
		if r.last != nil {
			old = *r.last
		}
		old.Fault, old.At = admin.OneLine(err), r.now()
		s = &old
	}
	r.last = s
	return s
}

func (r *reader) take(ctx context.Context) (*snapshot, error) {
	now := r.now()
	s := &snapshot{At: now}
	status, err := r.admin.Status(ctx, admin.CountAll)
	if err != nil {
		return nil, err
	}
	rows, err := r.admin.Minions(ctx, admin.ListMinions{Status: string(fleet.Launch)})
	bad, err := fleet.WithoutBadRows(err)
	if err != nil {
		return nil, err
	}
	running, failed, unreadable := map[string]int{}, []string{}, []string{}
	for _, row := range rows {
		phase := decide.PhaseOf(row, true, false)
		s.Cells = append(s.Cells, cell{row.SaltID(), phase})
		switch phase {
		case decide.PhaseRunning:
			running[row.ClaimOwner]++
		case decide.PhaseFailed:
			failed = append(failed, row.SaltID())
		}
	}
	for id := range bad {
		s.Cells = append(s.Cells, cell{id, decide.PhaseUnreadable})
		unreadable = append(unreadable, id)
	}
	slices.SortFunc(s.Cells, func(a, b cell) int { return natural(a.ID, b.ID) })
	// Of the minions that the grid shows, the counts are those of the grid: the rows may
	// have changed since the status was read.
	counts := map[decide.Phase]int{}
	for _, c := range s.Cells {
		counts[c.Phase]++
	}
	s.Total = len(s.Cells)
	for _, phase := range []decide.Phase{decide.PhaseTerminated, decide.PhaseForeign, decide.PhaseUnlisted} {
		counts[phase] = status.Minions[phase]
	}
	for _, phase := range phases {
		if n := counts[phase]; n > 0 {
			s.Phases = append(s.Phases, phaseCount{phase, n})
		}
	}
	for _, m := range status.Masters {
		s.Masters = append(s.Masters, s.master(m, r.admin.Config.Highstate.Lease, now, running[m.InstanceID]))
	}
	s.bridge(status.Bridge, status.Hint)
	if b := status.Breaker; b != nil && b.Open {
		s.attend("bad", "circuit breaker", "no new first highstate starts: "+b.Reason, "phoenix highstate resume")
	}
	for _, k := range status.OtherKeys {
		s.attend("bad", k.ID, k.String(), "phoenix keys accept --rebind "+k.ID)
	}
	s.attendAll(unreadable, "row cannot be decoded", "phoenix doctor", "phoenix doctor")
	s.attendAll(failed, "first highstate failed", "phoenix highstate show ", "phoenix highstate list")
	if h, err := r.admin.History(ctx,
		admin.ReadHistory{Since: now.Add(-historyOf), Until: now.Add(time.Minute)}); err != nil {
		s.Notes = append(s.Notes, admin.OneLine(err))
	} else {
		slices.Reverse(h.Events)
		s.Events, s.Notes = h.Events[:min(len(h.Events), historyLines)], append(s.Notes, h.Notes...)
	}
	slices.SortStableFunc(s.Todo, func(a, b todo) int { return cmp.Compare(rank(a.Class), rank(b.Class)) })
	if more := len(s.Todo) - attentionLines; more > 0 {
		s.Todo = append(s.Todo[:attentionLines], todo{"note", "", fmt.Sprintf("and %d more", more), "phoenix status"})
	}
	return s, nil
}

func rank(class string) int { return slices.Index([]string{"bad", "warn", "note"}, class) }

func (s *snapshot) attend(class, subject, what, command string) {
	s.Todo = append(s.Todo, todo{class, subject, what, command})
}

// attendAll adds a line for each minion, or one for all where there are many. A command
// that ends in a blank takes the id.
func (s *snapshot) attendAll(ids []string, what, each, all string) {
	slices.SortFunc(ids, natural)
	if len(ids) > foldAbove {
		s.attend("bad", fmt.Sprintf("%d minions", len(ids)), what+": "+strings.Join(ids[:foldAbove], ", ")+", …", all)
		return
	}
	for _, id := range ids {
		command := each
		if strings.HasSuffix(each, " ") {
			command += id
		}
		s.attend("bad", id, what, command)
	}
}

func (s *snapshot) master(m fleet.Master, lease time.Duration, now time.Time, running int) master {
	out := master{ID: m.InstanceID, Address: m.IPAddr, Zone: m.Zone, Connected: strconv.Itoa(m.Connected),
		Running: running, State: "ready", Class: "ok"}
	if at, err := fleet.ParseTime(m.Modified); err == nil {
		out.Seen = max(now.Sub(at).Round(time.Second), 0).String() + " ago"
	}
	switch {
	case m.Status == fleet.Terminate:
		out.State, out.Class, out.Connected = "terminated", "off", ""
	case admin.Stale(m, lease, now):
		out.State, out.Class = "STALE: no heartbeat for "+strings.TrimSuffix(out.Seen, " ago"), "bad"
		out.Connected = "" // its row is too old to say so
		s.attend("bad", m.InstanceID, "no heartbeat for "+strings.TrimSuffix(out.Seen, " ago"),
			"systemctl status phoenix-bridge (there); phoenix masters retire "+m.InstanceID)
	case m.Draining:
		out.State, out.Class = admin.DrainState(m, lease, now), "warn"
	case !m.Ready:
		out.State, out.Class = "not ready", "bad"
		s.attend("bad", m.InstanceID, "it is not ready: no minion is sent there", "phoenix status (there)")
	}
	return out
}

// bridge adds what the bridge of this machine says.
func (s *snapshot) bridge(r *service.Report, hint string) {
	if r == nil {
		s.attend("bad", "bridge", "none answers on this machine: "+hint, "systemctl status phoenix-bridge")
		return
	}
	s.Self, s.Ready, s.Why = r.InstanceID, r.Ready, r.NotReady
	if r.NotReady != "" {
		s.attend("bad", r.InstanceID, r.NotReady, "phoenix doctor")
	} else if r.StoreError != "" {
		s.attend("warn", r.InstanceID, "the last heartbeat was not written: "+r.StoreError, "phoenix status")
	}
	if r.Engine.Fault != "" {
		s.attend("warn", r.InstanceID, "work is delayed: "+r.Engine.Fault, "phoenix status")
	}
	for _, p := range r.Engine.Problems {
		if p.Kind == service.OtherKey { // it is among the other keys
			continue
		}
		s.attend("warn", p.Minion, p.What, "phoenix minions explain "+p.Minion)
	}
}

// natural compares ids so that web-2 comes before web-10.
func natural(a, b string) int {
	for a != "" && b != "" {
		x, y := digits(a), digits(b)
		if x > 0 && y > 0 {
			m, n := strings.TrimLeft(a[:x], "0"), strings.TrimLeft(b[:y], "0")
			if c := cmp.Or(cmp.Compare(len(m), len(n)), strings.Compare(m, n)); c != 0 {
				return c
			}
			a, b = a[x:], b[y:]
			continue
		}
		if a[0] != b[0] {
			return cmp.Compare(a[0], b[0])
		}
		a, b = a[1:], b[1:]
	}
	return cmp.Compare(len(a), len(b))
}

// digits is the length of the number that a text begins with.
func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}
