package agent

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
)

const (
	// stillFor: a master's bridge beats every 5 s, so one beat did not come, by half
	// its time. That alone takes no master off the list: its ports must be silent too.
	stillFor = 7500 * time.Millisecond
	// rowlessFor: an address on the list that no row names is of a master whose
	// tombstone is gone, or the answer was partial. The former can wait.
	rowlessFor = 10 * time.Minute
)

// Sight is what one decision leans on.
type Sight struct {
	Masters []fleet.Master  // the whole table, as it was just read
	Listed  []string        // the addresses in the drop-in, in their order; none: it is not there
	Trusted string          // digest of the key that the minion trusts; empty: it has met no master yet
	Current string          // the address that the minion is connected to; empty: to none
	Answers map[string]bool // by address: both ports took a connection just now
}

// Decision is what follows. Either Hold says why nothing is to be done, or List
// is what the drop-in should say.
type Decision struct {
	Hold string
	List List
	// Joined and Left are the addresses by which List differs from what was
	// listed, with the reason of each. While both are empty the list's order stays
	// too: order alone is not worth a restart.
	Joined, Left map[string]string
}

// Changed says whether masters joined or left.
func (d Decision) Changed() bool { return len(d.Joined)+len(d.Left) > 0 }

// Watch decides who is on the list of one minion. It does nothing by itself, and
// is for one goroutine.
type Watch struct {
	minion string
	order  Order

	pulses  decide.Pulses
	rowless map[string]time.Time // listed addresses without a row, since when
	losing  []string             // what would have left by the last look
}

// NewWatch watches for the minion of that name, which only says its order.
func NewWatch(minion string, order Order) *Watch {
	return &Watch{minion: minion, order: order, rowless: map[string]time.Time{}}
}

// Observe takes in the table. now must be read after the table was. Only what was
// seen with this clock counts; the times in rows do not.
func (w *Watch) Observe(masters []fleet.Master, listed []string, now time.Time) {
	if len(masters) == 0 {
		return // says nothing, see Decide
	}
	w.pulses.Observe(masters, now)
	named := map[string]bool{}
	for _, m := range masters {
		named[m.IPAddr] = true
	}
	for _, address := range listed {
		if _, since := w.rowless[address]; !since {
			w.rowless[address] = now
		}
	}
	maps.DeleteFunc(w.rowless, func(address string, _ time.Time) bool {
		return named[address] || !slices.Contains(listed, address)
	})
}

// Ask gives the addresses of which Decide wants to know whether they answer: of
// masters that could join, and of those on the list that do not beat. While all is
// well there are none.
func (w *Watch) Ask(s Sight) []string {
	var ask []string
	for _, m := range s.Masters {
		listed := slices.Contains(s.Listed, m.IPAddr)
		if _, err := NewMaster(m); err != nil || listed && w.beats(m) || !listed && !(m.Ready && m.Status == fleet.Launch) {
			continue
		}
		ask = append(ask, m.IPAddr)
	}
	for address := range w.rowless {
		ask = append(ask, address)
	}
	slices.Sort(ask)
	return slices.Compact(ask)
}

func (w *Watch) beats(m fleet.Master) bool {
	p := w.pulses.Of(m.InstanceID, stillFor)
	return p == decide.Beating || p == decide.Unseen
}

// Decide says what to do, after Observe took in the same table.
func (w *Watch) Decide(s Sight, now time.Time) Decision {
	if len(s.Masters) == 0 {
		return hold("the fleet's table of masters is empty")
	}
	trusted, err := w.trusted(s)
	if err != nil {
		return hold(err.Error())
	}
	s.Trusted = trusted
	d := Decision{Joined: map[string]string{}, Left: map[string]string{}}
	var members []Master
	for _, address := range s.Listed {
		if m, why := w.stays(address, s, now); why == "" {
			members = append(members, m)
		} else {
			d.Left[address] = why
		}
	}
	for _, row := range s.Masters {
		if m, err := NewMaster(row); err == nil && w.joins(row, s) && !slices.Contains(s.Listed, m.Address) {
			if _, twice := d.Joined[m.Address]; !twice {
				members = append(members, m)
				d.Joined[m.Address] = "ready"
			}
		}
	}
	before := w.losing
	w.losing = slices.Sorted(maps.Keys(d.Left))
	switch {
	case len(members) == 0 && len(s.Listed) == 0:
		return hold("no master is ready that this minion could trust and reach")
	case len(members) == 0:
		return hold("no master would be left: " + reasons(d.Left))
	case len(w.losing) > 1 && !subset(w.losing, before):
		return hold(fmt.Sprintf("%d masters would leave at once, which must be seen twice: %s", len(w.losing), reasons(d.Left)))
	}
	if d.Changed() {
		w.arrange(members, s, d.Joined)
	}
	d.List = NewList(members[0], members[1:]...)
	return d
}

// arrange orders members, those that do not answer last. The minion is restarted
// in any case; so that it moves only when it has to, its current master stays the
// first, unless one that joins is the minion's own choice: that is how a new
// master comes by its share.
func (w *Watch) arrange(members []Master, s Sight, joined map[string]string) {
	w.order.sort(w.minion, members)
	silent := func(m Master) int {
		if answers, asked := s.Answers[m.Address]; asked && !answers {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(members, func(a, b Master) int { return silent(a) - silent(b) })
	if _, joins := joined[members[0].Address]; joins {
		return
	}
	i := slices.IndexFunc(members, func(m Master) bool { return m.Address == s.Current })
	if i > 0 && silent(members[i]) == 0 {
		m := members[i]
		copy(members[1:i+1], members[:i])
		members[0] = m
	}
}

// stays says why an address that is listed should not be any more, or gives its
// entry. Addresses come again: one good row is enough.
func (w *Watch) stays(address string, s Sight, now time.Time) (m Master, why string) {
	for _, row := range s.Masters {
		if row.IPAddr != address {
			continue
		}
		if why = w.leaves(row, s); why == "" {
			return Master{row.InstanceID, address}, ""
		}
	}
	if why != "" {
		return m, why
	}
	if since, rowless := w.rowless[address]; rowless && now.Sub(since) >= rowlessFor && !s.Answers[address] {
		return m, "has no row and does not answer"
	}
	return Master{"", address}, ""
}

// leaves says why a master is to be taken off the list; empty: it is not. One
// that is no longer ready stays: its bridge restarts.
func (w *Watch) leaves(row fleet.Master, s Sight) string {
	switch {
	case row.Status == fleet.Terminate:
		return "terminated"
	case row.MasterKeySHA256 != "" && s.Trusted != "" && row.MasterKeySHA256 != s.Trusted:
		return "has another key than the one that the minion trusts"
	case !w.beats(row) && !s.Answers[row.IPAddr]:
		return "its heartbeat stands still and it does not answer"
	}
	return ""
}

// joins: what a row says was true when it was written, so the master must be seen
// to live as well.
func (w *Watch) joins(row fleet.Master, s Sight) bool {
	return w.could(row, s) && row.MasterKeySHA256 == s.Trusted
}

// could says whether a master would be let in, were its key the right one.
func (w *Watch) could(row fleet.Master, s Sight) bool {
	return row.Status == fleet.Launch && row.Ready && row.MasterKeySHA256 != "" && w.beats(row) && s.Answers[row.IPAddr]
}

// trusted is the key that masters must have. A minion at its first boot has met
// none: it trusts the first that it meets (Salt writes minion_master.pub then), so
// the masters that it could meet must be of one mind.
func (w *Watch) trusted(s Sight) (string, error) {
	if s.Trusted != "" {
		return s.Trusted, nil
	}
	keys := map[string]string{}
	for _, row := range s.Masters {
		if w.could(row, s) || slices.Contains(s.Listed, row.IPAddr) && row.MasterKeySHA256 != "" && w.leaves(row, s) == "" {
			keys[row.MasterKeySHA256] = row.InstanceID
		}
	}
	if len(keys) > 1 {
		return "", fmt.Errorf("masters have different keys (%s), and the minion has met none of them yet",
			strings.Join(slices.Sorted(maps.Values(keys)), ", "))
	}
	for key := range keys {
		return key, nil
	}
	return "", nil
}

func hold(why string) Decision { return Decision{Hold: why} }

func subset(a, b []string) bool {
	return !slices.ContainsFunc(a, func(x string) bool { return !slices.Contains(b, x) })
}

// reasons renders addresses with what is said of each.
func reasons(of map[string]string) string {
	var parts []string
	for _, address := range slices.SortedFunc(maps.Keys(of), cmp.Compare) {
		parts = append(parts, address+" "+of[address])
	}
	return strings.Join(parts, ", ")
}
