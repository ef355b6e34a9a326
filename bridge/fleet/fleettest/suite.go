// Package fleettest tries stores: one suite that each must pass, a wrapper that
// injects faults, and a checker of what masters did to their claims.
package fleettest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"phoenix/bridge/fleet"
)

// testLimit ends a test whose store hangs, so that its name is told.
const testLimit = 2 * time.Minute

// Run tries a store. open gives a new, empty one, and sees to its end; spoil plants
// bad rows in it.
func Run(t *testing.T, open func(t *testing.T) fleet.Store, spoil Spoil) {
	with := func(test func(*testing.T, context.Context, fleet.Store, Spoil)) func(*testing.T, context.Context,
		fleet.Store) {
		return func(t *testing.T, ctx context.Context, s fleet.Store) { test(t, ctx, s, spoil) }
	}
	for _, c := range []struct {
		name string
		test func(*testing.T, context.Context, fleet.Store)
	}{
		{"EveryChangeOnEveryRow", everyChangeOnEveryRow},
		{"RandomChanges", randomChanges},
		{"OrderWithinApply", orderWithinApply},
		{"FailuresAreIndependent", failuresAreIndependent},
		{"NothingToDo", nothingToDo},
		{"ManyRows", manyRows},
		{"Values", values},
		{"ByStatus", byStatus},
		{"Watermark", watermark},
		{"Masters", masters},
		{"Heals", heals},
		{"Breaker", breaker},
		{"BreakerRaces", breakerRaces},
		{"Since", since},
		{"Prune", prune},
		{"ConcurrentClaims", concurrentClaims},
		{"ConcurrentBeats", concurrentBeats},
		{"ContextEnds", contextEnds},
		{"Rivals", rivals},
		{"G12BadRowsRead", with(badRowsRead)},
		{"G12BadRowsWritten", with(badRowsWritten)},
		{"G12BadMasters", with(badMasters)},
		{"G12BadPrune", with(badPrune)},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), testLimit)
			defer cancel()
			c.test(t, ctx, open(t))
		})
	}
}

// everyChangeOnEveryRow also repeats each change: what was done once and is told
// again must change nothing, Modified included.
func everyChangeOnEveryRow(t *testing.T, ctx context.Context, s fleet.Store) {
	model := Model{}
	var setup, tries []fleet.Change
	var names []string
	for i, st := range States() {
		for j, in := range Inputs() {
			id := fmt.Sprintf("i-%04x%04x", i, j)
			before := st.Changes(id)
			model.Apply(before...)
			setup = append(setup, before...)
			tries = append(tries, in.Change(id, model[id]))
			names = append(names, in.Name+" on "+st.Name)
		}
	}
	if _, err := s.Apply(ctx, setup); err != nil {
		t.Fatal(err)
	}
	first := agree(t, ctx, s, model, tries, names)
	for i, r := range agree(t, ctx, s, model, tries, names) {
		if first[i].Err == nil && (r.Err != nil || Text(r.Row) != Text(first[i].Row) ||
			r.Row.Modified != first[i].Row.Modified) {
			t.Errorf("%s, repeated: %v, %s at %s; want nothing to change from %s at %s", names[i],
				r.Err, Text(r.Row), r.Row.Modified, Text(first[i].Row), first[i].Row.Modified)
		}
	}
}

// agree applies changes to both and compares results, and then what the store
// reads back.
func agree(t *testing.T, ctx context.Context, s fleet.Store, model Model, changes []fleet.Change,
	names []string) []fleet.Result {
	t.Helper()
	got, err := s.Apply(ctx, changes)
	if err != nil {
		t.Fatal(err)
	}
	want := model.Apply(changes...)
	if len(got) != len(want) {
		t.Fatalf("%d results of %d changes", len(got), len(changes))
	}
	ids := make([]string, len(changes))
	for i := range want {
		ids[i] = changes[i].Instance()
		if !errors.Is(got[i].Err, want[i].Err) || (want[i].Err == nil) != (got[i].Err == nil) {
			t.Errorf("%s: error %v, want %v", names[i], got[i].Err, want[i].Err)
		}
		if Text(got[i].Row) != Text(want[i].Row) {
			t.Errorf("%s:\n got %s\nwant %s", names[i], Text(got[i].Row), Text(want[i].Row))
		}
	}
	rows, err := s.Minions(ctx, ids)
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range ids {
		row, found := rows[id]
		wanted, exists := model[id]
		if found != exists || Text(row) != Text(wanted) {
			t.Errorf("%s, read back:\n got %v %s\nwant %v %s", names[i], found, Text(row), exists, Text(wanted))
		}
		if found && row.Modified == "" {
			t.Errorf("%s: row without modified", names[i])
		}
	}
	return got
}

// randomChanges applies batches to few rows, some by writers that read long ago.
func randomChanges(t *testing.T, ctx context.Context, s fleet.Store) {
	const seed, steps, ids, most = 7, 150, 5, 6
	rng := rand.New(rand.NewPCG(seed, 0))
	model, stale, inputs := Model{}, Model{}, Inputs()
	for step := range steps {
		var batch []fleet.Change
		var names []string
		for range 1 + rng.IntN(most) {
			id := fmt.Sprintf("i-%08x", rng.IntN(ids))
			in := inputs[rng.IntN(len(inputs))]
			seen := model[id]
			if rng.IntN(4) == 0 {
				seen = stale[id]
			}
			batch = append(batch, in.Change(id, seen))
			names = append(names, fmt.Sprintf("seed %d, step %d, %s on %s", seed, step, in.Name, id))
		}
		agree(t, ctx, s, model, batch, names)
		if id := fmt.Sprintf("i-%08x", rng.IntN(ids)); rng.IntN(3) == 0 {
			stale[id] = model[id]
		}
	}
}

func orderWithinApply(t *testing.T, ctx context.Context, s fleet.Store) {
	const id = "i-00000001"
	agree(t, ctx, s, Model{}, []fleet.Change{
		fleet.Bind{InstanceID: id, KeySHA256: keyA}, // too early
		fleet.Add{InstanceID: id},
		fleet.Bind{InstanceID: id, KeySHA256: keyA, PublicKey: pem},
		fleet.Bind{InstanceID: id, KeySHA256: keyB, PublicKey: pem}, // too late
		fleet.Claim{InstanceID: id, Owner: "m1", JID: "j1", Attempt: 1},
		fleet.Claim{InstanceID: id, Owner: "m2", JID: "j2", Attempt: 1},
		fleet.Finish{InstanceID: id, JID: "j1", Outcome: fleet.Succeeded},
		fleet.Retire{InstanceID: id},
		fleet.Add{InstanceID: id},
	}, []string{"bind", "add", "bind", "bind other", "claim", "claim other", "finish", "retire", "add late"})
}

func failuresAreIndependent(t *testing.T, ctx context.Context, s fleet.Store) {
	model := Model{}
	model.Apply(apply(t, ctx, s, fleet.Retire{InstanceID: "i-gone"})...)
	var batch []fleet.Change
	var names []string
	for i := range 20 {
		good := fmt.Sprintf("i-%08x", i)
		batch = append(batch, fleet.Add{InstanceID: good}, fleet.Add{InstanceID: "i-gone"},
			fleet.Rerun{InstanceID: "i-none"})
		names = append(names, "add "+good, "add a terminated one", "run an unknown one")
	}
	agree(t, ctx, s, model, batch, names)
}

func nothingToDo(t *testing.T, ctx context.Context, s fleet.Store) {
	if results, err := s.Apply(ctx, nil); err != nil || len(results) != 0 {
		t.Errorf("no changes: %v, %v", results, err)
	}
	if rows, err := s.Minions(ctx, nil); err != nil || len(rows) != 0 {
		t.Errorf("no ids: %v, %v", rows, err)
	}
	if _, err := s.Minion(ctx, "i-none"); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("unknown minion: %v", err)
	}
	if rows, err := s.Masters(ctx); err != nil || len(rows) != 0 {
		t.Errorf("no masters: %v, %v", rows, err)
	}
	none := func([]fleet.Minion) error { return errors.New("called without rows") }
	if err := s.ByStatus(ctx, fleet.Launch, "", none); err != nil {
		t.Errorf("empty fleet: %v", err)
	}
}

func since(t *testing.T, ctx context.Context, s fleet.Store) {
	first, err := s.Since(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if now := time.Now(); first.After(now) || first.Before(now.Add(-testLimit)) {
		t.Errorf("since %v, but the store was made just now, %v", first, now)
	}
	apply(t, ctx, s, fleet.Add{InstanceID: "i-1"})
	if second, err := s.Since(ctx); err != nil || !second.Equal(first) {
		t.Errorf("since moved from %v to %v (%v)", first, second, err)
	}
}

// contextEnds: a call whose context has ended says so, and does nothing.
func contextEnds(t *testing.T, ctx context.Context, s fleet.Store) {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, errMinion := s.Minion(ended, "i-1")
	_, errMinions := s.Minions(ended, []string{"i-1"})
	_, errApply := s.Apply(ended, []fleet.Change{fleet.Add{InstanceID: "i-1"}})
	errStatus := s.ByStatus(ended, fleet.Launch, "", func([]fleet.Minion) error { return nil })
	_, errMasters := s.Masters(ended)
	_, errBeat := s.Beat(ended, fleet.Beat{InstanceID: "m1"})
	for name, err := range map[string]error{
		"Minion": errMinion, "Minions": errMinions, "Apply": errApply, "ByStatus": errStatus, "Masters": errMasters,
		"Beat": errBeat, "RetireMaster": s.RetireMaster(ended, "m1"),
		"DrainMaster": s.DrainMaster(ended, "m1", true),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s with an ended context: %v", name, err)
		}
	}
	if _, err := s.Minion(ctx, "i-1"); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("minion added with an ended context: %v", err)
	}
	if rows, err := s.Masters(ctx); err != nil || len(rows) != 0 {
		t.Errorf("masters written with an ended context: %v, %v", rows, err)
	}
}

// apply carries out changes that must all apply, and returns them.
func apply(t *testing.T, ctx context.Context, s fleet.Store, changes ...fleet.Change) []fleet.Change {
	t.Helper()
	results, err := s.Apply(ctx, changes)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		if r.Err != nil {
			t.Fatalf("%+v: %v", changes[i], r.Err)
		}
	}
	return changes
}
