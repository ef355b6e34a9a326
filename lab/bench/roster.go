package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/sqlite"
	"phoenix/lab"
)

// rowsAtOnce is how many minions one transaction adds.
const rowsAtOnce = 500

// roster is the minions that are expected: a fleet's one file.
type roster struct {
	s    *runner
	path string
	db   *sqlite.Store
	rows int // see grow
}

func newRoster(s *runner, l *lab.Lab) *roster {
	path := filepath.Join(l.Dir(), "fleet.db")
	db, err := sqlite.Open(context.Background(), path)
	s.check(err)
	s.Cleanup(func() { db.Close() })
	return &roster{s: s, path: path, db: db}
}

func (r *roster) store() string { return "sqlite:" + r.path }

// ids makes n names.
func ids(name string, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%s-%d", name, i)
	}
	return ids
}

// expect lists ids in the fleet, as "phoenix minions add" does.
func (r *roster) expect(ids []string) {
	changes := make([]fleet.Change, len(ids))
	for i, id := range ids {
		changes[i] = fleet.Add{InstanceID: id, MinionID: id}
	}
	r.apply(changes)
}

// grow brings the fleet to so many minions that need nothing more, not counting
// those that were expected: they had their highstate, and the masters have
// accepted their keys. Each key differs; nobody has the private half.
func (r *roster) grow(rows int, masters ...*lab.Master) {
	r.s.Logf("the fleet grows to %d", rows)
	for r.rows < rows {
		var changes []fleet.Change
		for range min(rowsAtOnce, rows-r.rows) {
			id, jid, key := fmt.Sprintf("i-%017x", r.rows), fmt.Sprintf("20260101%012d", r.rows), lab.UnknownKey()
			digest, err := fleet.KeyDigest([]byte(key))
			r.s.check(err)
			for _, master := range masters {
				r.s.check(os.WriteFile(filepath.Join(master.PKIDir(), "minions", id), []byte(key), 0o644))
			}
			changes = append(changes,
				fleet.Add{InstanceID: id, MinionID: id, Group: "web"},
				fleet.Bind{InstanceID: id, KeySHA256: digest, PublicKey: key},
				fleet.Claim{InstanceID: id, Owner: "another", Incarnation: "1", JID: jid, Attempt: 1},
				fleet.Finish{InstanceID: id, JID: jid, Outcome: fleet.Succeeded})
			r.rows++
		}
		r.apply(changes)
	}
}

func (r *roster) apply(changes []fleet.Change) {
	results, err := r.db.Apply(context.Background(), changes)
	r.s.check(err)
	for _, result := range results {
		r.s.check(result.Err)
	}
}
