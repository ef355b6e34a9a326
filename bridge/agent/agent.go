package agent

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"phoenix/bridge/fleet"
)

const (
	// lookEvery: how often the agent looks whether the minion's current master
	// answers. A look is two connections.
	lookEvery = 5 * time.Second
	// lookAgain is that for one that did not answer, and each such look reads the
	// masters: the third read shows whether it still beats, see stillFor.
	lookAgain = 4 * time.Second
	// owedEvery: how often it looks whether a restart that is due may begin.
	owedEvery = time.Second
	// readWithin bounds one read of the masters.
	readWithin = 10 * time.Second
	// failingReads is how often in a row the masters are read because the current
	// one does not answer, or there is none yet. What two minutes have not shown the
	// store does not know.
	failingReads = 30
	// intervalJitter lengthens each interval by up to that share, so that agents
	// which were started together drift apart.
	intervalJitter = 0.2
	// doubtEvery: what must be seen twice is looked at again after so long.
	doubtEvery = 5 * time.Second
	// goneAfter looks without an answer the current master counts as gone.
	goneAfter = 2
	// lonelyAfter looks without a connection the minion counts as served by nobody.
	lonelyAfter = 3
	// MinInterval: a heartbeat moves every 5 s; reading more often shows no more.
	MinInterval = 5 * time.Second
)

// Masters reads the fleet's masters: all of them, or an error.
type Masters interface {
	Masters(ctx context.Context) ([]fleet.Master, error)
}

// Minion is what the agent sees and does of the minion, see [Local].
type Minion interface {
	Connected(ctx context.Context, known []Master) ([]string, error)
	Answers(ctx context.Context, m Master) bool
	Process() string
	Jobs() ([]Job, error)
	TrustedKey() (string, error)
	KeyPair
	OtherKeys() ([]string, error)
	Trust(digest string) error
	Restart(ctx context.Context) error
}

// File keeps the list, see [DropIn].
type File interface {
	Read() (Listed, error)
	Write(l List, running Running) (wrote bool, err error)
	Debt() (Debt, error)
	Settle() error
	Check(l List) error
	ForgetAlive(listed []string) (forgotten []string, err error)
}

// Options are the parts of an agent.
type Options struct {
	MinionID   string // says its place in the order
	Order      Order
	Follow     Follow
	Interval   time.Duration // between two reads of the masters while all is well
	Splay      time.Duration // a restart that is to be soon waits for up to that
	Settle     time.Duration // one that has time, for up to that
	Highstates []string      // functions that may be a first highstate
	// Hands says why the minion is to be left alone; empty: it is not.
	Hands string

	Masters Masters
	Minion  Minion
	File    File
	Proof   *Proof // nil: the minion's key is not proven
	Log     *slog.Logger
}

// Agent is the loop beside one minion.
type Agent struct {
	o       Options
	watch   *Watch
	restart *Restart
	log     *slog.Logger
	began   time.Time

	listed    Listed            // as last read from the file
	places    map[string]Master // by address: those listed, and those that rows name
	connected []string          // the masters that the minion is connected to
	current   string            // the one that it is connected to, or was last
	missed    map[string]int    // looks in a row at which one of its masters did not answer
	alone     int               // looks in a row at which it was connected to none
	reads     int               // reads in a row that were made because one did not answer
	nextRead  time.Time         // of the masters
	good      time.Time         // when a read last led to a list
	told      map[string]string

	debt  Debt     // as last read from the file
	last  Decision // the last that led to a list
	haste Haste    // of the restart that is owed

	turned    atomic.Int64 // when keep last came round, in Unix nanoseconds
	unsettled bool         // the minion was restarted, but the file says that it is owed
}

// New checks the options.
func New(o Options) (*Agent, error) {
	var faults []error
	if o.MinionID == "" {
		faults = append(faults, errors.New("minion id is empty"))
	}
	if !slices.Contains(Orders(), o.Order) {
		faults = append(faults, errors.New("order is neither spread nor sorted"))
	}
	if o.Interval < MinInterval {
		faults = append(faults, errors.New("interval is shorter than "+MinInterval.String()))
	}
	if o.Splay < 0 || o.Settle < 0 {
		faults = append(faults, errors.New("splay or settle is negative"))
	}
	if o.Follow < 0 || o.Follow > maxFollow {
		faults = append(faults, errors.New("follow is out of range"))
	}
	if o.Masters == nil || o.Minion == nil || o.File == nil || o.Log == nil {
		faults = append(faults, errors.New("masters, minion, file or log is missing"))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	a := &Agent{o: o, watch: NewWatch(o.MinionID, o.Order, o.Follow), restart: NewRestart(o.Highstates...), log: o.Log,
		began: time.Now(), places: map[string]Master{}, missed: map[string]int{}, told: map[string]string{}}
	a.turned.Store(time.Now().UnixNano())
	return a, nil
}

// Run works until ctx ends.
func (a *Agent) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	if a.o.Proof != nil {
		g.Go(func() error { return a.o.Proof.Run(ctx, a.o.Minion, a.log) })
	}
	g.Go(func() error { return a.keep(ctx) })
	return g.Wait()
}

// keep looks, reads, writes and restarts, all in one goroutine.
func (a *Agent) keep(ctx context.Context) error {
	a.look(ctx)
	a.recall()
	nextLook := time.Now().Add(lookEvery)
	for ctx.Err() == nil {
		a.turned.Store(time.Now().UnixNano())
		if now := time.Now(); !now.Before(nextLook) {
			a.look(ctx)
			nextLook = now.Add(lookEvery)
			if len(a.missed) > 0 {
				nextLook = now.Add(lookAgain)
			}
		}
		if !time.Now().Before(a.nextRead) {
			a.read(ctx)
		}
		if a.restart.Due(time.Now(), a.urgent()) {
			a.restartMinion(ctx)
		}
		wake := minTime(nextLook, a.nextRead)
		if a.restart.Owed() {
			wake = minTime(wake, time.Now().Add(owedEvery))
		}
		if !sleep(ctx, time.Until(wake)) {
			return nil
		}
	}
	return nil
}

// Turned is when the loop last came round; before Run, when the agent was made.
func (a *Agent) Turned() time.Time { return time.Unix(0, a.turned.Load()) }

// read reads the masters and does what follows.
func (a *Agent) read(ctx context.Context) {
	a.nextRead = time.Now().Add(a.o.Interval + rand.N(time.Duration(float64(a.o.Interval)*intervalJitter)+1))
	d, err := a.decide(ctx)
	if ctx.Err() != nil {
		return
	}
	age := "never"
	if !a.good.IsZero() {
		age = time.Since(a.good).Round(time.Second).String() + " ago"
	}
	if doubt := time.Now().Add(doubtEvery); err == nil && d.Doubt && doubt.Before(a.nextRead) {
		a.nextRead = doubt
	}
	if err == nil && d.Hold != "" {
		err = errors.New(d.Hold)
	}
	a.tell("masters", slog.LevelWarn, "list of masters stays as it is", err, "last_good", age)
	if err == nil {
		a.good = time.Now()
		a.write(d)
	}
}

// decide reads the masters, asks those in doubt, and decides.
func (a *Agent) decide(ctx context.Context) (Decision, error) {
	s, err := a.sight(ctx)
	if err != nil {
		return Decision{}, err
	}
	if a.o.Hands != "" {
		return hold(a.o.Hands), nil
	}
	ask := a.watch.Ask(s)
	// Those were looked at just now, and one whose packets vanish is slow to ask.
	ask = slices.DeleteFunc(ask, func(address string) bool { return a.missed[address] >= goneAfter })
	s.Answers = a.ask(ctx, ask)
	for address, missed := range a.missed {
		if missed >= goneAfter {
			s.Answers[address] = false
		}
	}
	return a.watch.Decide(s, time.Now()), nil
}

// sight reads what a decision leans on, but for who answers.
func (a *Agent) sight(ctx context.Context) (Sight, error) {
	reading, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	masters, err := a.o.Masters.Masters(reading)
	// One row that nobody can read says nothing of the others.
	bad, err := fleet.WithoutBadRows(err)
	if err != nil {
		return Sight{}, err
	}
	a.tell("rows", slog.LevelWarn, "rows of masters passed over", fleet.BadRows(bad))
	blind := !a.portsKnown()
	// What rows said of a listed master holds while it has none.
	maps.DeleteFunc(a.places, func(address string, _ Master) bool { return !a.lists(address) })
	for _, row := range masters {
		if m, err := NewMaster(row); err == nil {
			a.places[m.Address] = m
		}
	}
	if blind {
		a.connections(ctx)
	}
	listed := addressesOf(a.listed.Masters)
	a.watch.Observe(masters, listed, time.Now())
	trusted, err := a.o.Minion.TrustedKey()
	if err != nil {
		return Sight{}, err
	}
	others, err := a.o.Minion.OtherKeys()
	a.tell("keys", slog.LevelWarn, "keys of a rotation are not read", err)
	return Sight{Masters: masters, Bad: bad, Listed: listed, Trusted: trusted, Others: others, Current: a.current, Places: maps.Clone(a.places)}, nil
}

// ask probes addresses, all at once: masters are few.
func (a *Agent) ask(ctx context.Context, addresses []string) map[string]bool {
	answers := make(map[string]bool, len(addresses))
	type answer struct {
		address string
		ok      bool
	}
	got := make(chan answer, len(addresses))
	for _, address := range addresses {
		m, known := a.places[address]
		if !known {
			m = Master{Address: address}
		}
		go func() { got <- answer{address, a.o.Minion.Answers(ctx, m)} }()
	}
	for range addresses {
		one := <-got
		answers[one.address] = one.ok
	}
	return answers
}

// write makes the file say what was decided. If it says so already nothing is
// written, and no restart follows.
func (a *Agent) write(d Decision) {
	a.last = d
	process := a.o.Minion.Process()
	wrote, err := a.o.File.Write(d.List, Running{Masters: a.connected, Hot: len(a.connected) > 1, Process: process})
	a.tell("write", slog.LevelError, "list of masters is not written", err)
	if err != nil {
		return
	}
	a.tell("check", slog.LevelError, "the minion does not see the list as it is", a.o.File.Check(d.List))
	if wrote {
		a.listed = Listed{Masters: d.List.masters, Hot: d.List.hot}
		a.log.Info("list of masters written", "masters", d.List, "type", masterType(d.List.hot), "joined", reasons(d.Joined), "left", reasons(d.Left))
	}
	a.recall()
	if !a.debt.Owed {
		a.trust()
	}
}

// tell logs an error when it comes, changes or goes; not each time that it is
// still so.
func (a *Agent) tell(about string, level slog.Level, what string, err error, more ...any) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if a.told[about] == text {
		return
	}
	a.told[about] = text
	if err == nil {
		level, what = slog.LevelInfo, "no longer: "+what
	} else {
		more = append(more, "err", err)
	}
	a.log.Log(context.Background(), level, what, more...)
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// sleep waits, unless ctx ends.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
