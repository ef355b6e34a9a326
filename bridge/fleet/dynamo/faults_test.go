package dynamo

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"sync"
	"testing"

	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/fleettest"
)

// TestG6LostAnswers: each kind of change on each kind of row, while the answer of
// every first write is lost: the store finds out that it was its own.
func TestG6LostAnswers(t *testing.T) {
	model := fleettest.Model{}
	var setup, tries []fleet.Change
	var names []string
	writes := map[string]bool{}
	for i, st := range fleettest.States() {
		for j, in := range fleettest.Inputs() {
			id := fmt.Sprintf("i-%04x%04x", i, j)
			before := st.Changes(id)
			model.Apply(before...)
			setup = append(setup, before...)
			row, found := model[id]
			c := in.Change(id, row)
			next, err := c.Apply(row, found)
			writes[id] = err == nil && next != row
			tries = append(tries, c)
			names = append(names, in.Name+" on "+st.Name)
		}
	}
	c := ownTables(t)
	apply(t, created(t, c), setup...)

	var mu sync.Mutex
	lost := map[string]bool{} // by row
	c.HTTP = seam(func(r request, send func() (*http.Response, error)) (*http.Response, error) {
		mu.Lock()
		first := r.op == "UpdateItem" && !lost[r.id]
		if first {
			lost[r.id] = true
		}
		mu.Unlock()
		if first {
			return lose(send)
		}
		return send()
	})
	got, err := openTest(t, c).Apply(t.Context(), tries)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range model.Apply(tries...) {
		if !errors.Is(got[i].Err, want.Err) || want.Err == nil && got[i].Err != nil ||
			fleettest.Text(got[i].Row) != fleettest.Text(want.Row) {
			t.Errorf("%s: %v %s\nwant %v %s", names[i], got[i].Err, fleettest.Text(got[i].Row), want.Err,
				fleettest.Text(want.Row))
		}
	}
	for i, c := range tries {
		if writes[c.Instance()] && !lost[c.Instance()] {
			t.Errorf("%s: no answer was lost", names[i])
		}
	}
}

// TestG1ClaimRace: eight masters want the same highstates, over a network that
// loses a fifth of all requests and as many answers. Each minion is run once.
func TestG1ClaimRace(t *testing.T) {
	const masters, minions = 8, 12
	c := ownTables(t)
	var setup []fleet.Change
	var ids []string
	for i := range minions {
		ids = append(ids, fmt.Sprintf("i-%08x", i))
		setup = append(setup, fleet.Add{InstanceID: ids[i]})
	}
	plain := created(t, c)
	apply(t, plain, setup...)

	var history fleettest.History
	var wg sync.WaitGroup
	var mu sync.Mutex
	wins, losses := map[string]int{}, 0
	for m := range masters {
		own := c
		own.HTTP = unlucky(uint64(m), 0.2, 0.2)
		store := history.Watch(openTest(t, own))
		wg.Go(func() {
			owner := fmt.Sprintf("m%d", m)
			for _, id := range ids {
				row, err := fleet.ApplyOne(t.Context(), store,
					fleet.Claim{InstanceID: id, Owner: owner, Incarnation: "1", JID: "j-" + owner, Attempt: 1})
				if errors.Is(err, fleet.ErrConflict) {
					mu.Lock()
					losses++
					mu.Unlock()
					continue
				}
				if err == nil {
					history.Published(id, row.ClaimVersion, owner, row.ClaimJID, row.Attempt)
					_, err = fleet.ApplyOne(t.Context(), store,
						fleet.Finish{InstanceID: id, JID: row.ClaimJID, Outcome: fleet.Succeeded})
				}
				if err != nil {
					t.Errorf("%s on %s: %v", owner, id, err)
					return
				}
				mu.Lock()
				wins[id]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if err := history.Check(); err != nil {
		t.Error(err)
	}
	rows, err := plain.Minions(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if row := rows[id]; wins[id] != 1 || !row.HighstateRan || row.ClaimVersion != 2 {
			t.Errorf("%d wins, %s", wins[id], fleettest.Text(row))
		}
	}
	if want := minions * (masters - 1); losses != want {
		t.Errorf("%d claims lost, want %d", losses, want)
	}
}

// TestUnreadKnowsTheChanges: a field that a change gains may be one that its
// unread write has to heed.
func TestUnreadKnowsTheChanges(t *testing.T) {
	for change, want := range map[fleet.Change][]string{
		fleet.Retire{}:    {"InstanceID", "Group", "HookName", "Inferred"},
		fleet.Tombstone{}: {"InstanceID", "Expires"},
		fleet.Bind{}:      {"InstanceID", "MinionID", "KeySHA256", "PublicKey", "Replaces", "Rebound"},
		fleet.Claim{}:     {"InstanceID", "From", "Owner", "Incarnation", "JID", "Attempt"},
		fleet.Finish{}:    {"InstanceID", "JID", "Outcome", "Retcode", "From"},
	} {
		var got []string
		for i := range reflect.TypeOf(change).NumField() {
			got = append(got, reflect.TypeOf(change).Field(i).Name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%T has the fields %v: look at unread.go, then list them here", change, got)
		}
	}
}

// TestG2UnreadIsNoLaxer: the unread write of a change that Apply refuses never
// goes through, whatever the row. The suite would see it too; this one says so
// without the look that follows a refusal.
func TestG2UnreadIsNoLaxer(t *testing.T) {
	s := created(t, ownTables(t))
	var setup []fleet.Change
	model := fleettest.Model{}
	type attempt struct {
		name   string
		change fleet.Change
	}
	var attempts []attempt
	for i, st := range fleettest.States() {
		for j, in := range fleettest.Inputs() {
			id := fmt.Sprintf("i-%04x%04x", i, j)
			before := st.Changes(id)
			model.Apply(before...)
			row, found := model[id]
			c := in.Change(id, row)
			next, err := c.Apply(row, found)
			if unread(c) == nil || err == nil && next != row {
				continue
			}
			setup = append(setup, before...)
			attempts = append(attempts, attempt{in.Name + " on " + st.Name, c})
		}
	}
	apply(t, s, setup...)
	kinds := map[string]bool{}
	for _, a := range attempts {
		kinds[fmt.Sprintf("%T", a.change)] = true
		_, done, err := s.update(t.Context(), s.config.MinionsTable, a.change.Instance(), unread(a.change))
		if err != nil || done {
			t.Errorf("%s: written (%v), although there is nothing to write (%v)", a.name, done, err)
		}
	}
	if len(kinds) < 5 {
		t.Errorf("only %v were tried", slices.Collect(maps.Keys(kinds)))
	}
}

// apply carries out changes that must not fail.
func apply(t *testing.T, s fleet.Store, changes ...fleet.Change) {
	t.Helper()
	results, err := s.Apply(t.Context(), changes)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		if r.Err != nil {
			t.Fatalf("%+v: %v", changes[i], r.Err)
		}
	}
}
