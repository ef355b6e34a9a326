package decide

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"strings"
	"testing"
	"time"

	"phoenix/bridge/fleet"
)

// The exhaustive search: two masters, one minion, the real rules and changes, and
// every order of up to so many steps in which bridges crash and stop, calls and
// answers are lost or late, and the minion forgets, restarts and moves. Seeds
// (package service) go further into the deep; here nothing near is left out.

// Budgets of what may go wrong, over one run, and bounds of the model.
const (
	maxJIDs = 6
	// startIn: a job that came to a minion begins within that time, or never; what
	// is under way arrives within it. It is shorter than askFirst: a question that
	// is sent later is answered by a process that is started later.
	startIn = 10 * time.Second
)

type budget struct{ crash, pause, lose, late, restart, forget, move int8 }

// sides of a job's end, as the minion's cache has it.
const (
	notCached int8 = iota
	cachedGood
	cachedBad
	cachedBusy
)

// exhaust is one state of all.
type exhaust struct {
	now     time.Time
	row     fleet.Minion
	masters [2]exMaster
	left    budget

	// The minion. Bits and indices are numbers of jids.
	hot        bool
	at         int8 // its master, if it is not hot
	seen       uint8
	came       uint8 // ever
	starting   uint8
	startedAt  time.Time // the oldest of those
	startLate  uint8     // sent by a master that had lost the claim
	lateOnce   uint8     // ever
	startAgain uint8     // had come before
	proc       uint8     // runs
	ending     uint8     // is neither in proc nor in the cache
	endsGood   uint8
	from       [maxJIDs]int8 // the master that sent it
	cache      [maxJIDs]int8
	good       int8 // the first jid that succeeded; -1: none
	excused    bool
	jids       int8 // given out

	flying   int8 // jid of a publish under way; -1: none
	flyFrom  int8
	flyLate  bool
	flyAt    time.Time
	answer   exAnswer
	attempts [4]int8 // the jid published by attempt; -1: none
}

type exMaster struct {
	alive  bool
	lives  int8
	course HighstateView
	halted Act  // it is stopped before that act
	order  Step // that one
}

// exAnswer is an answer that is late.
type exAnswer struct {
	to    int8 // -1: none
	kind  Act
	asked time.Time
	jid   string
	says  exSays
}

// exSays is what a minion says.
type exSays struct {
	running bool
	other   bool
	cached  int8
}

var exPolicy = Policy{Enabled: true, Attempts: 2, Lease: lease}

func jidName(n int8) string { return string(rune('A' + n)) }
func jidNumber(jid string) int8 {
	if jid == "" {
		return -1
	}
	return int8(jid[0] - 'A')
}
func bit(n int8) uint8 { return 1 << uint(n) }

func exStart(hot bool, left budget) *exhaust {
	s := &exhaust{now: noon, hot: hot, left: left, good: -1, flying: -1, answer: exAnswer{to: -1},
		attempts: [4]int8{-1, -1, -1, -1}}
	s.row = fleet.Minion{InstanceID: "i-1", Status: fleet.Launch, KeySHA256: "A"}
	for i := range s.masters {
		s.boot(i)
	}
	return s
}

func (s *exhaust) connected(i int) bool { return s.hot || int(s.at) == i }

func (s *exhaust) boot(i int) {
	m := &s.masters[i]
	m.lives++
	m.alive, m.halted = true, ""
	m.course = HighstateView{Accepted: true}
	m.course.UpdateRow(s.row, s.now)
	if s.connected(i) {
		m.course.ConnectedAt = s.now
	}
}

func (s *exhaust) clone() *exhaust {
	c := *s
	for i := range c.masters {
		if end := c.masters[i].course.Ended; end != nil {
			e := *end
			c.masters[i].course.Ended = &e
		}
	}
	return &c
}

func (s *exhaust) self(i int) Self {
	return Self{ID: fmt.Sprintf("m%d", i), Incarnation: string(rune('0' + s.masters[i].lives)), Beating: true, Slots: 1}
}

// pulse: a master that is dead or stopped is so for longer than a lease.
func (s *exhaust) pulse(i int) Liveness {
	other := s.masters[1-i]
	if s.row.ClaimState != fleet.Claimed || s.row.ClaimOwner == s.self(i).ID {
		return Unseen
	}
	if !other.alive || other.halted != "" {
		return Stopped
	}
	return Beating
}

// rule is what is searched.
type rule func(Policy, Self, Liveness, HighstateView, time.Time) Step

// search collects what comes after states.
type search struct {
	rule  rule
	fault func(s *exhaust, why string)
	emit  func(s *exhaust, what string)
}

// after returns every state that may come next.
func (x *search) after(s *exhaust) {
	idle, next := true, time.Time{}
	for i := range s.masters {
		m := &s.masters[i]
		switch {
		case !m.alive:
			c := s.clone()
			c.boot(i)
			x.emit(c, fmt.Sprintf("m%d starts", i))
			continue
		case m.halted != "":
			c := s.clone()
			order := c.masters[i].order
			c.masters[i].halted, c.masters[i].order = "", Step{}
			x.act(c, i, order, "goes on: ")
			continue
		}
		step := x.rule(exPolicy, s.self(i), s.pulse(i), m.course, s.now)
		switch step.Act {
		case Rest, Queue, Halt:
		case Wait:
			if next.IsZero() || step.At.Before(next) {
				next = step.At
			}
		default:
			idle = false
			x.act(s, i, step, "")
			if s.left.crash > 0 {
				c := s.clone()
				c.left.crash--
				c.masters[i].alive = false
				x.emit(c, fmt.Sprintf("m%d dies before %s", i, step.Act))
			}
			if s.left.pause > 0 && (step.Act == Publish || step.Act == Take || step.Act == Finish) {
				c := s.clone()
				c.left.pause--
				c.masters[i].halted, c.masters[i].order = step.Act, step
				x.emit(c, fmt.Sprintf("m%d stops before %s", i, step.Act))
			}
		}
	}
	x.minion(s)
	late := func(at time.Time) bool { return !s.now.Before(at.Add(startIn)) }
	pressing := s.ending != 0 || s.starting != 0 && late(s.startedAt) || s.flying >= 0 && late(s.flyAt)
	if idle && !next.IsZero() && !pressing {
		c := s.clone()
		c.now = next
		if s.starting != 0 && next.After(s.startedAt.Add(startIn)) {
			c.now = s.startedAt.Add(startIn)
		}
		if s.flying >= 0 && c.now.After(s.flyAt.Add(startIn)) {
			c.now = s.flyAt.Add(startIn)
		}
		for i := range c.masters { // who is connected shows it now and then
			if m := &c.masters[i]; c.connected(i) {
				m.course.ConnectedAt = c.now
			}
		}
		x.emit(c, fmt.Sprintf("%v pass", c.now.Sub(s.now)))
	}
}

// act carries out an order of master i, in all the ways in which it may go.
func (x *search) act(s *exhaust, i int, step Step, how string) {
	name := func(what string) string { return fmt.Sprintf("m%d %s%s%s", i, how, step.Act, what) }
	self := s.self(i)
	write := func(change fleet.Change, took func(c *HighstateView, row fleet.Minion, now time.Time)) {
		apply := func(c *exhaust) (fleet.Minion, error) {
			row, err := change.Apply(c.row, true)
			if err == nil {
				c.row = row
			}
			return row, err
		}
		c := s.clone()
		row, err := apply(c)
		if m := &c.masters[i]; err == nil {
			took(&m.course, row, c.now)
		} else {
			m.course.UpdateRow(row, c.now)
			m.course.Ended = nil
		}
		x.emit(c, name(""))
		if s.left.lose > 0 { // its answer; the row is read then
			c := s.clone()
			c.left.lose--
			_, _ = apply(c)
			c.masters[i].course.UpdateRow(c.row, c.now)
			x.emit(c, name(", answer lost"))
		}
		if s.left.crash > 0 {
			c := s.clone()
			c.left.crash--
			_, _ = apply(c)
			c.masters[i].alive = false
			x.emit(c, name(", and dies"))
		}
	}
	course := s.masters[i].course
	switch step.Act {
	case Read:
		c := s.clone()
		c.masters[i].course.UpdateRow(c.row, c.now)
		x.emit(c, name(""))
	case Take:
		if s.jids == maxJIDs {
			return
		}
		claim := fleet.Claim{InstanceID: "i-1", From: course.Row.ClaimVersion, Owner: self.ID,
			Incarnation: self.Incarnation,
			JID:         jidName(s.jids), Attempt: course.Row.Attempt + 1}
		if course.Row.ClaimState == fleet.Claimed {
			claim.JID, claim.Attempt = course.Row.ClaimJID, course.Row.Attempt
		} else {
			s = s.clone()
			s.jids++
		}
		write(claim, func(c *HighstateView, row fleet.Minion, now time.Time) { c.ClaimWritten(row, now) })
	case Finish:
		f := fleet.Finish{InstanceID: "i-1", JID: step.Ended.JID, Outcome: step.Ended.Outcome,
			From: course.Row.ClaimVersion}
		write(f, func(c *HighstateView, row fleet.Minion, now time.Time) { c.UpdateRow(row, now); c.Ended = nil })
	case Publish:
		x.publish(s, i, course, name)
	case Ping, Ask, Trace, Kind:
		x.ask(s, i, step.Act, course, name)
	default:
		x.fault(s, "no such act: "+string(step.Act))
	}
}

// publish sends the row's jid, as the course has it.
func (x *search) publish(s *exhaust, i int, course HighstateView, name func(string) string) {
	jid, attempt := jidNumber(course.Row.ClaimJID), course.Row.Attempt
	late := s.row.ClaimVersion != course.Row.ClaimVersion
	s = s.clone()
	if of := &s.attempts[attempt]; *of < 0 {
		*of = jid
	} else if *of != jid && s.cache[*of] != cachedBusy && !s.excused && !late {
		x.fault(s, fmt.Sprintf("G1: attempt %d is published as %s and %s", attempt, jidName(*of), jidName(jid)))
	}
	if s.good >= 0 && s.good != jid && !late && !s.excused {
		x.fault(s, fmt.Sprintf("G2: %s is published after the success of %s", jidName(jid), jidName(s.good)))
	}
	sent := func(sure bool) *exhaust {
		c := s.clone()
		c.masters[i].course.PublishedAt(c.now, sure)
		return c
	}
	c := sent(true)
	if c.connected(i) {
		x.receive(c, i, jid, late)
	}
	x.emit(c, name(""))
	if s.left.lose > 0 {
		c := sent(true)
		c.left.lose--
		x.emit(c, name(", reaches nobody"))
		c = sent(false)
		c.left.lose--
		if c.connected(i) {
			x.receive(c, i, jid, late)
		}
		x.emit(c, name(", answer lost"))
	}
	if s.left.late > 0 && s.flying < 0 && s.connected(i) {
		c := sent(true)
		c.left.late--
		c.flying, c.flyFrom, c.flyLate, c.flyAt = jid, int8(i), late, c.now
		x.emit(c, name(", under way"))
	}
	if s.left.crash > 0 {
		c := sent(true)
		c.left.crash--
		c.masters[i].alive = false
		if c.connected(i) {
			x.receive(c, i, jid, late)
		}
		x.emit(c, name(", and dies"))
	}
}

// receive: a job comes to the minion.
func (x *search) receive(s *exhaust, from int, jid int8, late bool) {
	b := bit(jid)
	if s.seen&b != 0 {
		return
	}
	if s.starting == 0 {
		s.startedAt = s.now
	}
	s.startAgain = s.startAgain&^b | s.came&b
	s.startLate &^= b
	if late {
		s.startLate |= b
		s.lateOnce |= b
	}
	s.seen |= b
	s.came |= b
	s.starting |= b
	s.from[jid] = int8(from)
}

// ask puts a question, which is answered at once, late or never.
func (x *search) ask(s *exhaust, i int, kind Act, course HighstateView, name func(string) string) {
	asked := func() *exhaust {
		c := s.clone()
		switch m := &c.masters[i].course; kind {
		case Ping:
			m.Pinged = c.now
		case Ask:
			m.AskedAt(c.now)
		case Trace:
			m.TracedAt(c.now)
		case Kind:
			m.KindAskedAt(c.now)
		}
		return c
	}
	if !s.connected(i) {
		x.emit(asked(), name(", nobody is there"))
		return
	}
	a := exAnswer{to: int8(i), kind: kind, asked: s.now, jid: course.Row.ClaimJID, says: s.says(course.Row.ClaimJID)}
	c := asked()
	c.hear(a)
	x.emit(c, name(""))
	if s.left.lose > 0 {
		c := asked()
		c.left.lose--
		x.emit(c, name(", answer lost"))
	}
	if s.left.late > 0 && s.answer.to < 0 && kind != Ping {
		c := asked()
		c.left.late--
		c.answer = a
		x.emit(c, name(", answer under way"))
	}
}

func (s *exhaust) says(jid string) (a exSays) {
	n := jidNumber(jid)
	if n < 0 {
		a.other = s.proc != 0
		return a
	}
	return exSays{running: s.proc&bit(n) != 0, other: s.proc&^bit(n) != 0, cached: s.cache[n]}
}

// hear brings an answer to its master.
func (s *exhaust) hear(a exAnswer) {
	m := &s.masters[a.to]
	if !m.alive {
		return
	}
	c := &m.course
	switch a.kind {
	case Ping:
		c.ConnectedAt = s.now
	case Ask:
		own := a.says.running && a.jid == c.Row.ClaimJID && c.Row.ClaimState == fleet.Claimed
		var by *Blocker
		if a.says.other || a.says.running && !own {
			by = &Blocker{JID: "Z", Fun: "state.highstate"}
		}
		c.JobsRunning(own, by, a.asked, s.now)
	case Kind:
		c.MasterTypeIs(!s.hot, a.asked, s.now)
	case Trace:
		answer := Answer{JID: a.jid, Asked: a.asked, Running: a.says.running}
		if a.says.cached != notCached {
			answer.Ended = exEnded(a.jid, a.says.cached)
		}
		c.Answered(answer, s.now)
	}
}

func exEnded(jid string, how int8) *Ended {
	return &Ended{JID: jid, Outcome: map[int8]fleet.Outcome{cachedGood: fleet.Succeeded, cachedBad: fleet.Erred,
		cachedBusy: fleet.Busy}[how]}
}

// minion is what may happen on the minion, and on the way to and from it.
func (x *search) minion(s *exhaust) {
	if s.flying >= 0 {
		c := s.clone()
		c.flying = -1
		if c.connected(int(s.flyFrom)) {
			x.receive(c, int(s.flyFrom), s.flying, s.flyLate)
		}
		x.emit(c, "what was under way arrives")
	}
	if s.answer.to >= 0 {
		c := s.clone()
		c.answer = exAnswer{to: -1}
		c.hear(s.answer)
		x.emit(c, "a late answer arrives")
	}
	for n := range s.jids {
		b := bit(n)
		if s.starting&b != 0 {
			x.begin(s, n)
		}
		if s.proc&b != 0 && s.ending == 0 {
			for _, good := range []bool{true, false} {
				c := s.clone()
				c.proc &^= b
				c.ending |= b
				c.endsGood &^= b
				if good {
					c.endsGood |= b
				}
				x.emit(c, fmt.Sprintf("%s ends, good %v", jidName(n), good))
			}
		}
		if s.ending&b != 0 {
			how := cachedBad
			if s.endsGood&b != 0 {
				how = cachedGood
			}
			x.ends(s, n, how)
		}
	}
	if s.left.restart > 0 {
		for _, killed := range []bool{true, false} {
			c := s.clone()
			c.left.restart--
			c.seen, c.starting, c.startLate, c.startAgain = 0, 0, 0, 0
			if c.flying = -1; killed {
				c.proc, c.ending = 0, 0
			}
			x.emit(c, fmt.Sprintf("minion restarts, its job killed %v", killed))
		}
	}
	if s.left.forget > 0 && s.seen != 0 {
		c := s.clone()
		c.left.forget--
		c.seen = 0
		x.emit(c, "minion forgets its jids")
	}
	if s.left.move > 0 && !s.hot {
		c := s.clone()
		c.left.move--
		c.at, c.flying = 1-c.at, -1
		if m := &c.masters[c.at]; m.alive {
			m.course.ConnectedAt = c.now
		}
		x.emit(c, "minion moves")
	}
}

// begin is Salt's check and the begin of a highstate.
func (x *search) begin(s *exhaust, n int8) {
	b := bit(n)
	c := s.clone()
	c.starting &^= b
	late, again := s.startLate&b != 0, s.startAgain&b != 0
	c.startLate, c.startAgain = c.startLate&^b, c.startAgain&^b
	if s.proc&^b != 0 {
		x.ends(c, n, cachedBusy)
		return
	}
	over := s.row.ClaimState != fleet.Claimed || s.row.ClaimJID != jidName(n)
	switch {
	case late && (over || again), again && s.lateOnce&b != 0:
		c.excused = true // docs/guarantees.md: a publish by a master that was stopped
	case c.excused:
	case s.proc&b != 0 || s.ending&b != 0:
		x.fault(c, "G2: "+jidName(n)+" runs twice at once")
	case s.good >= 0:
		x.fault(c, "G2: "+jidName(n)+" runs after the success of "+jidName(s.good))
	}
	c.proc |= b
	x.emit(c, jidName(n)+" begins")
}

// ends: a job's end is cached, and returned to the master that sent it, if that is reachable.
func (x *search) ends(s *exhaust, n int8, how int8) {
	end := func() *exhaust {
		c := s.clone()
		c.ending &^= bit(n)
		if c.cache[n] = how; how == cachedGood && c.good < 0 {
			c.good = n // it returned: before, it may be killed without a trace
		}
		return c
	}
	c := end()
	if m := &c.masters[c.from[n]]; m.alive && c.connected(int(c.from[n])) {
		if m.course.Row.ClaimJID == jidName(n) {
			m.course.ConnectedAt, m.course.Ended = c.now, exEnded(jidName(n), how)
		}
	}
	x.emit(c, jidName(n)+" returns")
	if s.left.lose > 0 {
		c := end()
		c.left.lose--
		x.emit(c, jidName(n)+" returns, and is not heard")
	}
}

// key distinguishes states: times by how long ago they were.
func (s *exhaust) key(b []byte) []byte {
	ago := func(t time.Time) {
		d := int64(-1)
		if !t.IsZero() {
			d = int64(min(s.now.Sub(t), 3*time.Hour) / time.Second)
		}
		b = binary.AppendVarint(b, d)
	}
	flag := func(fs ...bool) {
		for _, f := range fs {
			b = append(b, '0')
			if f {
				b[len(b)-1]++
			}
		}
	}
	row := func(r fleet.Minion) {
		b = append(b, r.ClaimState...)
		b = append(b, '/')
		b = append(b, r.ClaimOwner...)
		b = append(b, r.ClaimIncarnation...)
		b = append(b, r.ClaimJID...)
		b = append(b, byte('0'+r.Attempt))
	}
	row(s.row)
	l := s.left
	b = append(b, byte(l.crash), byte(l.pause), byte(l.lose), byte(l.late), byte(l.restart),
		byte(l.forget), byte(l.move))
	flag(s.hot, s.excused, s.flyLate)
	b = append(b, byte(s.at), s.seen, s.came, s.starting, s.startLate, s.lateOnce, s.startAgain, s.proc, s.ending,
		s.endsGood, byte(s.good), byte(s.jids), byte(s.flying), byte(s.flyFrom))
	if s.starting != 0 {
		ago(s.startedAt)
	}
	if s.flying >= 0 {
		ago(s.flyAt)
	}
	for n := range s.jids {
		b = append(b, byte(s.from[n]), byte(s.cache[n]))
	}
	for _, a := range s.attempts {
		b = append(b, byte(a))
	}
	if a := s.answer; a.to >= 0 {
		b = append(b, byte(a.to), byte(a.says.cached))
		b = append(append(b, a.kind...), a.jid...)
		ago(a.asked)
		flag(a.says.running, a.says.other)
	}
	for i := range s.masters {
		m := &s.masters[i]
		flag(m.alive)
		b = append(append(b, byte(m.lives)), m.halted...)
		if !m.alive {
			continue
		}
		c := &m.course
		b = binary.AppendVarint(b, s.row.ClaimVersion-c.Row.ClaimVersion)
		row(c.Row)
		for _, t := range []time.Time{c.RowAt, c.Since, c.ConnectedAt, c.Pinged, c.Published, c.Asked, c.NotRunning,
			c.Traced, c.UnknownAt, c.KindAsked, c.Hot, c.BusyAt, c.Free} {
			ago(t)
		}
		b = append(b, byte(c.Taken), byte(c.Asks), byte(c.Unknowns), byte(c.KindAsks), byte(c.Busies))
		flag(c.Resent, c.Missing, c.NoCache, c.Doubled, c.Failover, c.Ended != nil)
		if c.Ended != nil {
			b = append(append(b, c.Ended.JID...), c.Ended.Outcome...)
		}
	}
	return b
}

// trail is how a state was come by.
type trail struct {
	before *trail
	what   string
}

func (t *trail) String() string {
	var lines []string
	for ; t != nil; t = t.before {
		lines = append([]string{t.what}, lines...)
	}
	return strings.Join(lines, "\n")
}

// explore goes through all states within so many steps of the begin, with a minion
// that is hot and one that is not, and gives how many they are, the steps that it
// took if they ended before, and the first fault with its trail.
func explore(r rule, left budget, steps int) (states, took int, fault string) {
	type node struct {
		s *exhaust
		t *trail
	}
	seed := maphash.MakeSeed()
	seen := map[uint64]struct{}{}
	var front []node
	for _, hot := range []bool{true, false} {
		front = append(front, node{exStart(hot, left), nil})
	}
	var buf []byte
	for took < steps && len(front) > 0 && fault == "" {
		took++
		var next []node
		for _, n := range front {
			x := &search{rule: r}
			x.fault = func(_ *exhaust, why string) {
				if fault == "" {
					fault = why + ", after:\n" + n.t.String()
				}
			}
			x.emit = func(s *exhaust, what string) {
				buf = s.key(buf[:0])
				h := maphash.Bytes(seed, buf)
				if _, known := seen[h]; known {
					return
				}
				seen[h] = struct{}{}
				next = append(next, node{s, &trail{n.t, what}})
			}
			x.after(n.s)
		}
		front = next
	}
	return len(seen), took, fault
}

func TestExhaustive(t *testing.T) {
	for _, test := range []struct {
		name  string
		left  budget
		steps int
	}{
		{"nothing goes wrong", budget{}, 40},
		{"calls and answers are lost", budget{lose: 2}, 24},
		{"a master dies", budget{crash: 1}, 23},
		{"a master dies, and the minion restarts", budget{crash: 1, restart: 1}, 19},
		{"a master stops, and the minion forgets", budget{pause: 1, forget: 1}, 22},
		{"late answers, and the minion restarts", budget{late: 1, restart: 1, lose: 1}, 17},
		{"the minion moves, and its master dies", budget{crash: 1, move: 1, lose: 1}, 15},
		{"a bit of everything", budget{1, 1, 1, 1, 1, 1, 1}, 8},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if testing.Short() {
				test.steps -= test.steps / 8 // each step has some 1.5 times the states of the one before
			}
			begun := time.Now()
			states, took, fault := explore(Highstate, test.left, test.steps)
			t.Logf("%d states within %d steps, in %v", states, took, time.Since(begun).Round(time.Millisecond))
			if fault != "" {
				t.Error(fault)
			}
		})
	}
}

// Rules that are wrong must be found out; else the search is blind.
func TestExhaustiveFindsWhatIsWrong(t *testing.T) {
	own := func(s Self, c HighstateView) bool {
		return c.Row.ClaimState == fleet.Claimed && c.Row.ClaimOwner == s.ID && c.Row.ClaimIncarnation == s.Incarnation
	}
	for name, test := range map[string]struct {
		wrong func(Self, HighstateView, Step) Step
		left  budget
		want  string
	}{
		"sends again at the first unknown": {func(s Self, c HighstateView, step Step) Step {
			if own(s, c) && c.Missing && !c.Resent && step.Act == Wait {
				return Step{Act: Publish}
			}
			return step
		}, budget{late: 1, restart: 1}, "G2"},
		"does not look into the cache": {func(s Self, c HighstateView, step Step) Step {
			if own(s, c) && step.Act == Trace {
				return Step{Act: Publish}
			}
			return step
		}, budget{lose: 1, forget: 1}, "G2"},
		"gives up what another ran": {func(s Self, c HighstateView, step Step) Step {
			if c.Row.ClaimState == fleet.Claimed && step.Act == Take {
				return Step{Act: Finish, Ended: Ended{JID: c.Row.ClaimJID, Outcome: fleet.Erred}}
			}
			return step
		}, budget{crash: 1, lose: 1}, "G"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			states, took, fault := explore(func(p Policy, s Self, owner Liveness, c HighstateView, now time.Time) Step {
				return test.wrong(s, c, Highstate(p, s, owner, c, now))
			}, test.left, 24)
			t.Logf("%d states within %d steps: %s", states, took, fault)
			if !strings.HasPrefix(fault, test.want) {
				t.Error("it looks as if it were safe")
			}
		})
	}
}
