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
	// unreadyReads of a row that says "not ready" in a row are believed, or the first
	// if the master does not answer either: a bridge of before, at its start, says so
	// for a moment of a master that serves.
	unreadyReads = 2
	// rowlessFor: an address on the list that no row names is of a master whose
	// tombstone is gone, or the answer was partial. The former can wait.
	rowlessFor = 10 * time.Minute
)

// Sight is what one decision leans on.
type Sight struct {
	Masters []fleet.Master   // the whole table, as it was just read
	Bad     map[string]error // rows that nobody can read, by instance
	Listed  []string         // the addresses in the drop-in, in their order; none: it is not there
	Trusted string           // digest of the key that the minion trusts; empty: it has met no master yet
	Others  []string         // digests of keys that it may trust instead, during a rotation
	Current string           // the address that the minion is connected to; empty: to none
	Answers map[string]bool  // by address: both ports took a connection just now

	Places map[string]Master // by address: what rows of before said of listed ones
}

// Decision is what follows. Either Hold says why nothing is to be done, or List
// is what the drop-in should say.
type Decision struct {
	Hold string
	List List
	// Doubt: what was seen must be seen again, so the next read should be soon.
	Doubt bool
	// Joined and Left are the addresses by which List differs from what was
	// listed, with the reason of each. While both are empty the list's order stays
	// too: order alone is not worth a restart.
	Joined, Left map[string]string

	// Trust is the key that the minion must trust for List, if it trusts another now.
	Trust string

	Fit   []string // all that could be on the list: with agent.follow more than are
	Lost  int      // masters that left because they serve no more
	Crowd int      // minions of the fleet, as masters' rows say
	Back  []string // fit masters that had left while the agent watched
}

// Changed says whether masters joined or left.
func (d Decision) Changed() bool { return len(d.Joined)+len(d.Left) > 0 }

// Watch decides who is on the list of one minion. It does nothing by itself, and
// is for one goroutine.
type Watch struct {
	minion string
	order  Order
	follow Follow

	pulses  decide.Pulses
	unready map[string]int       // reads in a row in which a row was not ready, by instance
	rowless map[string]time.Time // listed addresses without a row, since when
	losing  []string             // what would have left by the last look
	away    map[string]bool      // addresses that left because they served no more
}

// NewWatch watches for the minion of that name, which only says its order.
func NewWatch(minion string, order Order, follow Follow) *Watch {
	return &Watch{minion: minion, order: order, follow: follow,
		unready: map[string]int{}, rowless: map[string]time.Time{}, away: map[string]bool{}}
}

// Observe takes in the table. now must be read after the table was. Only what was
// seen with this clock counts; the times in rows do not.
func (w *Watch) Observe(masters []fleet.Master, listed []string, now time.Time) {
	if len(masters) == 0 {
		return // says nothing, see Decide
	}
	w.pulses.Observe(masters, now)
	named, unready := map[string]bool{}, map[string]int{}
	for _, m := range masters {
		named[m.IPAddr] = true
		if !m.Ready {
			unready[m.InstanceID] = w.unready[m.InstanceID] + 1
		}
	}
	w.unready = unready
	maps.DeleteFunc(w.away, func(address string, _ bool) bool { return !named[address] })
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
// masters that could join, and of those on the list that do not beat or are not
// ready. Where one on the list may have to make way for a better one, all others on
// it are asked too: that a master beats says that it lived a moment ago. While all
// is well there are none.
func (w *Watch) Ask(s Sight) []string {
	listed := func(m fleet.Master) bool { return slices.Contains(s.Listed, m.IPAddr) }
	wavers := slices.ContainsFunc(s.Masters, func(m fleet.Master) bool {
		return listed(m) && m.Status != fleet.Terminate && (m.Draining || !m.Ready)
	})
	var ask []string
	for _, m := range s.Masters {
		_, err := NewMaster(m)
		switch {
		case err != nil:
		case listed(m) && (wavers || !m.Ready || !w.beats(m)), !listed(m) && m.Ready && m.Status == fleet.Launch:
			ask = append(ask, m.IPAddr)
		}
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
	d := Decision{Joined: map[string]string{}, Left: map[string]string{}}
	if s.Trusted != "" && trusted != s.Trusted {
		d.Trust = trusted
	}
	s.Trusted = trusted
	members := w.members(s, now, &d)
	before := w.losing
	w.losing = slices.Sorted(maps.Keys(d.Left))
	switch {
	case len(members) == 0 && len(s.Listed) == 0:
		return hold("no master is ready that this minion could trust and reach")
	case len(members) == 0:
		return hold("no master would be left: " + reasons(d.Left))
	case len(w.losing) > 1 && !subset(w.losing, before):
		held := hold(fmt.Sprintf("%d masters would leave at once, which must be seen twice: %s", len(w.losing), reasons(d.Left)))
		held.Doubt = true
		return held
	}
	d.Doubt = slices.ContainsFunc(s.Masters, func(row fleet.Master) bool {
		return w.unready[row.InstanceID] == 1 && slices.Contains(s.Listed, row.IPAddr)
	})
	d.Fit, d.Lost = addressesOf(members), len(d.Left)
	for address := range d.Left {
		w.away[address] = true
	}
	for _, address := range d.Fit {
		if w.away[address] {
			d.Back = append(d.Back, address)
		}
	}
	for _, row := range s.Masters {
		if row.Status == fleet.Launch {
			d.Crowd = max(d.Crowd, row.Minions)
		}
	}
	if w.follow.hot() {
		d.List = w.followed(members, s, &d).Hot()
		return d
	}
	if d.Changed() {
		w.arrange(members, s, d.Joined)
	}
	d.List = NewList(members[0], members[1:]...)
	return d
}

// members are the masters that could be on the list, those that are on it first,
// in its order. d is told who joins and who leaves.
func (w *Watch) members(s Sight, now time.Time, d *Decision) []Master {
	var members, weak []Master
	for _, address := range s.Listed {
		m, why, poor := w.stays(address, s, now)
		switch {
		case why != "":
			d.Left[address] = why
		case poor != "":
			weak = append(weak, m)
			d.Left[address] = poor
		default:
			members = append(members, m)
		}
	}
	strong := slices.ContainsFunc(s.Masters, func(row fleet.Master) bool {
		return row.Ready && !row.Draining && s.Answers[row.IPAddr] && slices.ContainsFunc(members, func(m Master) bool { return m.Address == row.IPAddr })
	})
	join := func(could func(fleet.Master) bool, why string) {
		for _, row := range s.Masters {
			if m, err := NewMaster(row); err == nil && could(row) && row.MasterKeySHA256 == s.Trusted && !slices.Contains(s.Listed, m.Address) {
				if _, twice := d.Joined[m.Address]; !twice {
					members = append(members, m)
					d.Joined[m.Address] = why
				}
			}
		}
	}
	join(func(row fleet.Master) bool { return !row.Draining && w.could(row, s) }, "ready")
	if strong || len(d.Joined) > 0 {
		return members
	}
	// Nobody is there who serves better: what is left of the list stays as it is, but
	// those that are mute give way to one that drains and serves until it ends.
	serves := func(row fleet.Master) bool { return row.Draining && w.could(row, s) }
	isMute := func(m Master) bool { return d.Left[m.Address] == mute }
	relieved := slices.ContainsFunc(s.Masters, func(row fleet.Master) bool {
		return serves(row) && slices.ContainsFunc(weak, func(m Master) bool { return m.Address == row.IPAddr })
	})
	if !relieved && len(members) == 0 && !slices.ContainsFunc(weak, func(m Master) bool { return !isMute(m) }) {
		join(serves, "ready, though it drains")
		if len(d.Joined) > 0 {
			return members
		}
	}
	weak = slices.DeleteFunc(weak, func(m Master) bool { return relieved && isMute(m) })
	for _, m := range weak {
		delete(d.Left, m.Address)
	}
	members = append(members, weak...)
	place := func(m Master) int { return slices.Index(s.Listed, m.Address) }
	slices.SortFunc(members, func(a, b Master) int { return place(a) - place(b) })
	return members
}

// followed are those of the members that a minion is connected to at once. The
// order stays while the same are.
func (w *Watch) followed(members []Master, s Sight, d *Decision) List {
	ordered := slices.Clone(members)
	w.rank(ordered, s)
	list := w.follow.choose(ordered)
	chosen := addressesOf(list)
	maps.DeleteFunc(d.Joined, func(address string, _ string) bool { return !slices.Contains(chosen, address) })
	for _, address := range s.Listed {
		if _, left := d.Left[address]; !left && !slices.Contains(chosen, address) {
			d.Left[address] = "others come first"
		}
	}
	for _, address := range chosen {
		if _, joined := d.Joined[address]; !joined && !slices.Contains(s.Listed, address) {
			d.Joined[address] = "comes first now"
		}
	}
	if !d.Changed() { // members begin with the listed ones, in their order
		list = slices.DeleteFunc(slices.Clone(members), func(m Master) bool { return !slices.Contains(chosen, m.Address) })
	}
	return NewList(list[0], list[1:]...)
}

// rank puts members into the minion's order, those that do not answer last.
func (w *Watch) rank(members []Master, s Sight) {
	w.order.sort(w.minion, members)
	slices.SortStableFunc(members, func(a, b Master) int { return s.silent(a) - s.silent(b) })
}

// silent is 1 for a master that was asked and did not answer.
func (s Sight) silent(m Master) int {
	if answers, asked := s.Answers[m.Address]; asked && !answers {
		return 1
	}
	return 0
}

// arrange orders members, those that do not answer last. The minion is restarted
// in any case; so that it moves only when it has to, its current master stays the
// first, unless one that joins is the minion's own choice: that is how a new
// master comes by its share.
func (w *Watch) arrange(members []Master, s Sight, joined map[string]string) {
	w.rank(members, s)
	if _, joins := joined[members[0].Address]; joins {
		return
	}
	i := slices.IndexFunc(members, func(m Master) bool { return m.Address == s.Current })
	if i > 0 && s.silent(members[i]) == 0 {
		m := members[i]
		copy(members[1:i+1], members[:i])
		members[0] = m
	}
}

// stays says why an address that is listed should not be any more, or gives its
// entry; poor says why it should not where a better one is. Addresses come again:
// one good row is enough.
func (w *Watch) stays(address string, s Sight, now time.Time) (m Master, why, poor string) {
	for _, row := range s.Masters {
		if row.IPAddr != address {
			continue
		}
		entry, leaves, is := w.entry(row, s)
		switch {
		case leaves == "" && is == "":
			return entry, "", ""
		case leaves == "":
			m, poor = entry, is
		default:
			why = leaves
		}
	}
	if m.Address != "" {
		return m, "", poor
	}
	if why != "" {
		return m, why, ""
	}
	if since, rowless := w.rowless[address]; rowless && now.Sub(since) >= rowlessFor && !s.Answers[address] {
		return m, "has no row and does not answer", ""
	}
	if m, known := s.Places[address]; known {
		return m, "", ""
	}
	return Master{Address: address}, "", ""
}

func (w *Watch) entry(row fleet.Master, s Sight) (m Master, why, poor string) {
	if why = w.leaves(row, s); why != "" {
		return m, why, ""
	}
	m, err := NewMaster(row)
	if err != nil { // it was listed by hand
		m = Master{InstanceID: row.InstanceID, Address: row.IPAddr}
	}
	return m, "", w.poor(row, s)
}

// leaves says why a master is to be taken off the list; empty: it is not.
func (w *Watch) leaves(row fleet.Master, s Sight) string {
	switch {
	case row.Status == fleet.Terminate:
		return "terminated"
	case row.MasterKeySHA256 != "" && s.Trusted != "" && row.MasterKeySHA256 != s.Trusted:
		return "has another key than the one that the minion trusts"
	case !w.beats(row) && !row.Ready && !s.Answers[row.IPAddr]:
		return mute
	case !w.beats(row) && !s.Answers[row.IPAddr]:
		return "its heartbeat stands still and it does not answer"
	}
	return ""
}

// mute is said of a master that serves nobody, for all that can be seen.
const mute = "is not ready and does not answer"

// poor says why a master is to be taken off the list if another is better.
func (w *Watch) poor(row fleet.Master, s Sight) string {
	answers, asked := s.Answers[row.IPAddr]
	switch {
	case !row.Ready && asked && !answers:
		return mute
	case row.Draining:
		return "drains"
	case w.unready[row.InstanceID] >= unreadyReads:
		return "is not ready"
	}
	return ""
}

// could says whether a master would be let in, were its key the right one. What a
// row says was true when it was written, so the master must be seen to live as
// well.
func (w *Watch) could(row fleet.Master, s Sight) bool {
	return row.Status == fleet.Launch && row.Ready && row.MasterKeySHA256 != "" && w.beats(row) && s.Answers[row.IPAddr]
}

// trusted is the key that masters must have. A minion at its first boot has met
// none: it trusts the first that it meets (Salt writes minion_master.pub then), so
// the masters that it could meet must be of one mind.
func (w *Watch) trusted(s Sight) (string, error) {
	if s.Trusted != "" && len(s.Others) > 0 {
		return w.choose(s), nil
	}
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
