package service

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"time"
	"unsafe"

	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/fleettest"
)

// world is one run of the simulator: masters with the real engine, minions and a
// store, all in one goroutine. The seed decides everything, so that a run that
// went wrong can be had again.
type world struct {
	rng      *rand.Rand
	now      time.Duration // true time since the beginning; nobody in the world knows it
	agenda   agenda
	count    int64
	perils   perils
	faulty   bool          // perils befall; later they stop, and all must come to an end
	healed   time.Duration // when they did
	store    *memory
	machines []*machine
	minions  []*minion
	twin
	history fleettest.History

	published map[published]bool
	jids      map[string]map[int][]string // by minion and attempt, in the order of their first publish
	busy      map[published]bool          // recorded so: no attempt
	late      map[published]bool          // its last publish came from a master that had lost the claim
	lateOnce  map[published]bool          // one of its publishes did
	births    map[published]int           // of the instance that a jid was claimed for
	changedBy map[string]time.Duration    // when a row's status last changed
	hands     int                         // highstates that people ran
	jidsMade  int                         // by job caches

	changed map[string]time.Duration // when a minion's row last did

	seen   map[string]int // what happened, and how often
	faults []string       // what must never happen, and did
	trace  []string
	traced bool
}

// twin is the protocol that a world runs: the real one, or one that is wrong.
type twin struct {
	rule           rule
	forgets        bool // the record of accepted keys ends with the process
	ignoresBreaker bool // an open one counts as closed
}

type rule func(decide.Policy, decide.Self, decide.Liveness, decide.HighstateView, time.Time) decide.Step

type published struct{ minion, jid string }

// perils are the rates at which things go wrong. Each world has its own, and in
// each some are zero: where everything fails at once, little is found.
type perils struct {
	crash, pause, slow     float64       // per effect of a bridge
	before, after          float64       // per call: lost before, or with its answer
	lose, delay, duplicate float64       // per event or message
	calm                   time.Duration // mean time between disasters
	silent                 float64       // share of connections without a start event
	skewed                 bool          // clocks
	noCache                float64       // share of minions with cache_jobs off
	fail, kill             float64       // share of jobs
	long                   float64       // of jobs, that run for 20 minutes
	queue                  float64       // of jobs, that wait in the minion's queue
	chatter                float64       // jobs of others in a second, on each minion
	lag                    float64       // share of writes that the index shows late
	byHand                 bool          // keys are deleted by hand
	breaker                decide.Breaker
	ownJIDs                float64 // share of masters whose job cache makes jids of its own
}

// attempts, simLease and slots are as configured for all masters of a world.
const (
	attempts = 3
	simLease = 30 * time.Second
)

func newWorld(seed uint64, t twin, traced bool) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 0)), twin: t, faulty: true, traced: traced,
		published: map[published]bool{}, jids: map[string]map[int][]string{}, busy: map[published]bool{},
		late: map[published]bool{}, lateOnce: map[published]bool{},
		births: map[published]int{}, changedBy: map[string]time.Duration{},
		changed: map[string]time.Duration{}, seen: map[string]int{}}
	some := func(rate float64) float64 {
		if w.chance(0.4) {
			return 0
		}
		return rate * w.rng.Float64() * 2
	}
	w.perils = perils{crash: some(0.02), pause: some(0.02), slow: some(0.02), before: some(0.04), after: some(0.04),
		lose: some(0.1), delay: some(0.1), duplicate: some(0.1), calm: w.between(10*time.Second, 4*time.Minute),
		silent: some(0.3), skewed: w.chance(0.7), noCache: some(0.1), fail: some(0.3), kill: some(0.1),
		long: some(0.1), queue: some(0.1), chatter: some(1), lag: some(0.2), byHand: w.chance(0.3)}
	if w.chance(0.15) {
		w.perils.ownJIDs = 0.7
	}
	if w.chance(0.5) {
		w.perils.breaker = decide.Breaker{Failed: 1 + w.rng.IntN(2), Last: 3}
	}
	w.store = &memory{world: w, minions: fleettest.Model{}, masters: map[string]fleet.Master{}}
	for n := range 2 + w.rng.IntN(6) {
		w.machines = append(w.machines, newMachine(w, fmt.Sprintf("m%d", n+1)))
	}
	for n := range 1 + w.rng.IntN(5) {
		w.minions = append(w.minions, newMinion(w, fmt.Sprintf("i-%d", n+1), n))
	}
	return w
}

// run lets the world turn until then; a frozen bridge calls it from within.
func (w *world) run(until time.Duration) {
	for len(w.agenda) > 0 && w.agenda[0].at <= until {
		e := heap.Pop(&w.agenda).(happening)
		w.now = max(w.now, e.at) // a bridge that was frozen comes late
		e.do()
	}
	w.now = max(w.now, until)
}

// after lets do happen in a while. Things of the same moment keep their order.
func (w *world) after(d time.Duration, do func()) {
	w.count++
	heap.Push(&w.agenda, happening{at: w.now + max(d, 0), n: w.count, do: do})
}

func (w *world) chance(p float64) bool { return w.rng.Float64() < p }

// peril is chance, while things go wrong at all.
func (w *world) peril(p float64) bool { return w.rng.Float64() < p && w.faulty }

func (w *world) between(a, b time.Duration) time.Duration {
	return a + time.Duration(w.rng.Int64N(int64(b-a)))
}

// about draws a time with that mean, mostly short, sometimes long.
func (w *world) about(mean time.Duration) time.Duration {
	return time.Duration(w.rng.ExpFloat64() * float64(mean))
}

func (w *world) saw(what string) { w.seen[what]++ }

func (w *world) log(format string, args ...any) {
	if w.traced {
		w.trace = append(w.trace, fmt.Sprintf("%10.3f  ", w.now.Seconds())+fmt.Sprintf(format, args...))
	}
}

func (w *world) fault(format string, args ...any) {
	w.faults = append(w.faults, fmt.Sprintf(format, args...))
	w.log("FAULT: "+format, args...)
}

// happening is something that comes to pass at a time.
type happening struct {
	at time.Duration
	n  int64
	do func()
}

type agenda []happening

func (q agenda) Len() int { return len(q) }
func (q agenda) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].n < q[j].n
}
func (q agenda) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *agenda) Push(x any)   { *q = append(*q, x.(happening)) }
func (q *agenda) Pop() any {
	old := *q
	last := old[len(old)-1]
	*q = old[:len(old)-1]
	return last
}

// clock is one machine's: a wall clock that is off, runs fast or slow and jumps,
// and a monotonic one that only runs fast or slow, as on Linux.
type clock struct {
	world  *world
	rate   float64
	offset time.Duration // of the wall clock
	booted time.Duration // of the monotonic one
}

func newClock(w *world) *clock {
	c := &clock{world: w, rate: 1, offset: w.between(0, time.Second), booted: w.between(time.Hour, 1000*time.Hour)}
	if w.perils.skewed {
		c.rate = 0.8 + 0.4*w.rng.Float64()
		c.jump()
	}
	return c
}

// jump steps the clock, mostly by minutes, sometimes by hours.
func (c *clock) jump() {
	far := 10 * time.Minute
	if c.world.chance(0.3) {
		far = 5 * time.Hour
	}
	c.offset = c.world.between(-far, far)
}

// Read only.
var (
	epoch    = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	year1885 = time.Date(1885, 1, 1, 0, 0, 0, 0, time.UTC)
)

func (c *clock) now() time.Time {
	ran := time.Duration(float64(c.world.now) * c.rate)
	return reading(epoch.Add(ran+c.offset), c.booted+ran)
}

// real says how long d on this clock takes in truth.
func (c *clock) real(d time.Duration) time.Duration {
	return time.Duration(float64(d)/c.rate) + 1
}

// reading makes a time.Time as time.Now does, of two clocks that may disagree:
// no function of package time can, so this writes what its source documents
// (Time.wall: 1 bit "has monotonic", 33 bits seconds since 1885, 30 bits
// nanoseconds; Time.ext: the monotonic clock). TestReading guards it.
func reading(wall time.Time, monotonic time.Duration) time.Time {
	since1885 := wall.Unix() - year1885.Unix()
	var t time.Time
	raw := (*struct {
		wall uint64
		ext  int64
	})(unsafe.Pointer(&t))
	raw.wall = 1<<63 | uint64(since1885)<<30 | uint64(wall.Nanosecond())
	raw.ext = int64(monotonic)
	return t
}
