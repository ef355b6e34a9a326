package service

import (
	"log/slog"
	"testing"
	"time"

	"phoenix/bridge/autoscaling"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
	"phoenix/lab"
)

// With id_from regex: a minion's id has its instance's in it. EC2 is not asked. The first
// id that a row is bound to stays, since the rest of the id is the minion's own word.
func TestIDFromExpression(t *testing.T) {
	names, err := autoscaling.NewNames(`regex:(?:web|db)-(i-[0-9a-f]{8,17})\.example\.org`, nil,
		slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	p := park{t: t}
	r := newRig(t, p.emptyStore(), func(c *Config) { c.Names, c.FirstName, c.PollEvery = names, true, time.Minute })
	const (
		first, second  = "i-0123456789abcdef0", "i-0123456789abcdef1"
		web, db, other = "web-" + first + ".example.org", "db-" + first + ".example.org",
			"web-" + second + ".example.org"
		unknown, prefix = "web-i-0123456789abcdef9.example.org", "x-web-" + first + ".example.org"
	)
	key := func() []byte { return []byte(lab.UnknownKey()) }
	r.apply(fleet.Add{InstanceID: first, Group: "web"})
	r.apply(fleet.Add{InstanceID: second, Group: "web"})
	for _, id := range []string{unknown, prefix, first, "web-" + first} {
		r.knocks(id, key())
		if r.accepted(id) {
			t.Errorf("%s is let in", id)
		}
	}
	own := key()
	r.knocks(web, own)
	if row := r.row(first); !r.accepted(web) || row.MinionID != web || row.KeySHA256 == "" {
		t.Errorf("%s is not let in: %+v", web, row)
	}
	for _, of := range [][]byte{own, key()} { // its own key under another id, and another key
		r.knocks(db, of)
		r.pass(2 * time.Minute)
		r.step()
		if r.accepted(db) || r.row(first).MinionID != web {
			t.Errorf("%s is let in: %+v", db, r.row(first))
		}
	}
	// Two ids in one batch for a row that is bound to none yet: one of them.
	twin := key()
	r.salt.keys[salt.Pending]["db-"+second+".example.org"] = twin
	r.knocks(other, twin)
	r.pass(2 * time.Minute)
	r.step()
	if a, b := r.accepted(other), r.accepted("db-"+second+".example.org"); a == b {
		t.Errorf("one row, and two ids: %v, %v", a, b)
	}
	r.apply(fleet.Retire{InstanceID: first})
	r.pass(2 * time.Minute)
	r.step()
	if r.accepted(web) {
		t.Error("the key of a terminated instance stays")
	}
}
