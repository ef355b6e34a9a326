package agent

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"phoenix/bridge/fleet"
)

// read reads the masters, and decides and writes what follows.
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
	a.logChange("masters", slog.LevelWarn, "list of masters stays as it is", err, "last_good", age)
	if err == nil {
		a.good = time.Now()
		a.write(d)
	}
}

// decide reads the masters, probes those whose state is uncertain, and decides.
func (a *Agent) decide(ctx context.Context) (Decision, error) {
	o, err := a.observe(ctx)
	if err != nil {
		return Decision{}, err
	}
	if a.o.LeaveAlone != "" {
		return hold(a.o.LeaveAlone), nil
	}
	probes := a.watch.Probes(o)
	// Those were probed just now, and a master whose packets are lost takes 2 s.
	probes = slices.DeleteFunc(probes, func(address string) bool { return a.missed[address] >= unreachableAfter })
	o.Answers = a.probe(ctx, probes)
	for address, missed := range a.missed {
		if missed >= unreachableAfter {
			o.Answers[address] = false
		}
	}
	return a.watch.Decide(o, time.Now()), nil
}

// observe reads what a decision is based on, except for the probes.
func (a *Agent) observe(ctx context.Context) (Observation, error) {
	reading, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	masters, err := a.o.Masters.Masters(reading)
	// One row that cannot be decoded says nothing of the others.
	bad, err := fleet.WithoutBadRows(err)
	if err != nil {
		return Observation{}, err
	}
	a.logChange("rows", slog.LevelWarn, "rows of masters passed over", fleet.BadRows(bad))
	blind := !a.portsKnown()
	// What an earlier row said of a listed master is valid while it has no row.
	maps.DeleteFunc(a.byAddress, func(address string, _ Master) bool { return !a.lists(address) })
	for _, row := range masters {
		if m, err := NewMaster(row); err == nil {
			a.byAddress[m.Address] = m
		}
	}
	if blind {
		a.connections(ctx)
	}
	listed := addressesOf(a.listed.Masters)
	a.watch.Observe(masters, listed, time.Now())
	trusted, err := a.o.Minion.TrustedKey()
	if err != nil {
		return Observation{}, err
	}
	others, err := a.o.Minion.OtherKeys()
	a.logChange("keys", slog.LevelWarn, "keys of a rotation are not read", err)
	return Observation{Masters: masters, Bad: bad, Listed: listed, Trusted: trusted, Others: others, Current: a.current,
		ByAddress: maps.Clone(a.byAddress)}, nil
}

// probe returns which addresses answer. It probes all at once: masters are few.
func (a *Agent) probe(ctx context.Context, addresses []string) map[string]bool {
	answers := make(map[string]bool, len(addresses))
	type answer struct {
		address string
		ok      bool
	}
	got := make(chan answer, len(addresses))
	for _, address := range addresses {
		m, known := a.byAddress[address]
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

// write makes the file say what was decided. If it does already, nothing is written and
// no restart follows.
func (a *Agent) write(d Decision) {
	a.last = d
	process := a.o.Minion.Process()
	wrote, err := a.o.File.Write(d.List, Running{Masters: a.connected, Hot: len(a.connected) > 1, Process: process},
		d.Trust)
	a.logChange("write", slog.LevelError, "list of masters is not written", err)
	if err != nil {
		return
	}
	a.logChange("check", slog.LevelError, "another file changes the list that the minion sees", a.o.File.Check(d.List))
	if wrote {
		a.listed = Listed{Masters: d.List.masters, Hot: d.List.hot}
		a.log.Info("list of masters written", "masters", d.List, "type", masterType(d.List.hot), "joined",
			reasons(d.Joined), "left", reasons(d.Left))
	}
	a.loadPending()
	if !a.pending.Pending {
		a.trust()
	}
}

// logChange logs an error when it first occurs, changes or is gone; not each time that it
// is the same.
func (a *Agent) logChange(about string, level slog.Level, what string, err error, more ...any) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if a.logged[about] == text {
		return
	}
	a.logged[about] = text
	if err == nil {
		level, what = slog.LevelInfo, "no longer: "+what
	} else {
		more = append(more, "err", err)
	}
	a.log.Log(context.Background(), level, what, more...)
}
