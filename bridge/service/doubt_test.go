package service

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"phoenix/bridge/decide"
	"phoenix/bridge/event"
	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/sqlite"
	"phoenix/bridge/salt"
	"phoenix/lab"
)

func openSQLite(t *testing.T) *sqlite.Store {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "fleet.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// elsewhere is another host that writes, and nothing notifies this bridge.
func (r *rig) elsewhere(changes ...fleet.Change) {
	r.t.Helper()
	for _, c := range changes {
		if _, err := fleet.ApplyOne(r.t.Context(), r.store, c); err != nil {
			r.t.Fatal(err)
		}
	}
}

// bearer is a minion that was listed, bound and accepted here.
func (r *rig) bearer(id string) []byte {
	r.t.Helper()
	key := []byte(lab.UnknownKey())
	r.apply(fleet.Add{InstanceID: id})
	r.knocks(id, key)
	if !r.accepted(id) {
		r.t.Fatalf("%s is not accepted", id)
	}
	return key
}

// lagging is a store whose index answers with rows as they were.
type lagging struct {
	fleet.Store
	ended []fleet.Minion
}

func (l *lagging) ByStatus(ctx context.Context, s fleet.Status, since string, fn func([]fleet.Minion) error) error {
	if s == fleet.Terminate && len(l.ended) > 0 {
		return fn(l.ended)
	}
	return l.Store.ByStatus(ctx, s, since, fn)
}

// TestG12_DeletionReadsTheRowAgain: what led to a deletion is old by the time it
// is carried out, and the minion lives.
func TestG12_DeletionReadsTheRowAgain(t *testing.T) {
	t.Run("the index lags", func(t *testing.T) {
		store := &lagging{Store: openSQLite(t)}
		r := newRig(t, store, func(c *Config) { c.PollEvery = time.Minute })
		r.elsewhere(fleet.Add{InstanceID: "web1"}, fleet.Retire{InstanceID: "web1"})
		store.ended = []fleet.Minion{r.row("web1")}
		r.apply(fleet.Add{InstanceID: "web1", Revive: true})
		r.knocks("web1", []byte(lab.UnknownKey()))
		for range 5 {
			r.pass(2 * time.Minute)
			r.step()
		}
		if !r.accepted("web1") {
			t.Error("the key of a minion that lives was deleted")
		}
	})
	t.Run("it is revived while its deletion waits", func(t *testing.T) {
		r := newRig(t, openSQLite(t), func(c *Config) { c.PollEvery = time.Minute })
		r.bearer("a")
		r.bearer("web1")
		r.apply(fleet.Retire{InstanceID: "a"}) // deleted at once; the next batch waits for a minute
		r.step()
		r.apply(fleet.Retire{InstanceID: "web1"})
		r.step()
		if r.accepted("a") || !r.accepted("web1") || len(r.engine.deletes) != 1 {
			t.Fatalf("a %v, web1 %v, %d wait", r.accepted("a"), r.accepted("web1"), len(r.engine.deletes))
		}
		r.elsewhere(fleet.Add{InstanceID: "web1", Revive: true})
		for range 5 {
			r.pass(time.Minute)
			r.step()
		}
		if !r.accepted("web1") {
			t.Error("the key of a minion that lives was deleted")
		}
	})
}

// TestG3_NameThatCameAgain: a master that missed a termination holds the key of the
// former machine of a name, and takes it for nobody's.
func TestG3_NameThatCameAgain(t *testing.T) {
	r := newRig(t, openSQLite(t), func(c *Config) { c.ResyncEvery, c.PollEvery = ResyncEvery, 1000*time.Hour })
	r.bearer("web1")
	r.elsewhere(fleet.Retire{InstanceID: "web1"}, fleet.Add{InstanceID: "web1", Revive: true})
	r.pass(aDay)
	r.works(ResyncEvery + time.Minute)
	if row := r.row("web1"); row.KeySHA256 != "" || row.Adopted() {
		t.Errorf("the former machine's key was bound: %+v", row)
	}
}

// keeping is a master that says that it deleted keys, and did not, as Salt does
// where a file cannot be removed.
type keeping struct {
	*plain
	deletes int
}

func (k *keeping) Delete(context.Context, map[salt.State][]string) error { k.deletes++; return nil }

// TestG12_DeletionIsChecked: a key that stays is reported, does not count as
// deleted, and costs few rotations of the master's AES key.
func TestG12_DeletionIsChecked(t *testing.T) {
	r := newRig(t, openSQLite(t), func(c *Config) { c.ResyncEvery, c.PollEvery = ResyncEvery, time.Minute })
	m := &keeping{plain: r.salt}
	r.bearer("gone")
	r.engine.master = m
	r.apply(fleet.Retire{InstanceID: "gone"})
	r.works(time.Hour)
	if m.deletes < 2 || m.deletes > 7 {
		t.Errorf("%d delete calls in an hour", m.deletes)
	}
	if n := r.engine.audit.counters.deleted.Load(); n != 0 {
		t.Errorf("%d keys count as deleted", n)
	}
	if s := r.engine.Status(); s.Problem[Undeletable] != 1 || s.Deletes != 1 {
		t.Errorf("status: %v, %d to be deleted", s.Problems, s.Deletes)
	}
	r.engine.master = r.salt // the file can be removed now
	r.works(time.Hour + time.Minute)
	if s := r.engine.Status(); r.accepted("gone") || s.Problem[Undeletable] != 0 || s.Deletes != 0 {
		t.Errorf("accepted %v, %v, %d to be deleted", r.accepted("gone"), s.Problems, s.Deletes)
	}
}

// stamped gives some rows another Modified, as a host does whose clock is off.
type stamped struct {
	fleet.Store
	stamps map[string]time.Time
}

func (s stamped) ByStatus(ctx context.Context, status fleet.Status, since string, fn func([]fleet.Minion) error) error {
	return s.Store.ByStatus(ctx, status, "", func(page []fleet.Minion) error {
		var out []fleet.Minion
		for _, row := range page {
			if at, there := s.stamps[row.InstanceID]; there {
				row.Modified = fleet.FormatTime(at)
			}
			if row.Modified >= since {
				out = append(out, row)
			}
		}
		return fn(out)
	})
}

// TestG12_Watermark: neither another host's clock nor our own delays a
// termination by more than a look or two. No comparison is due, so that only the watermark
// finds it.
func TestG12_Watermark(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		stamp time.Time     // of the first terminated row
		step  time.Duration // of our own clock, after it was seen
		next  time.Duration // from now to the stamp of the next terminated row
		full  bool          // it is found with all rows, once an hour
	}{
		"stamped now":                 {stamp: now},
		"stamped two hours ahead":     {stamp: now.Add(2 * time.Hour)},
		"stamped in 2099":             {stamp: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)},
		"stamped in 2009":             {stamp: time.Date(2009, 1, 1, 0, 0, 0, 0, time.UTC)},
		"one ahead, one behind":       {stamp: now.Add(ahead + 5*time.Minute), next: -ahead},
		"our clock is set back":       {stamp: now, step: -3 * time.Hour},
		"our clock is set forth":      {stamp: now, step: 3 * time.Hour},
		"both, in the same direction": {stamp: now.Add(2 * time.Hour), step: 2 * time.Hour, full: true},
	} {
		t.Run(name, func(t *testing.T) {
			offset := time.Duration(0)
			store := stamped{openSQLite(t), map[string]time.Time{"early": c.stamp}}
			var r *rig
			r = newRig(t, store, func(cfg *Config) {
				cfg.PollEvery = time.Minute
				cfg.Wall = func() time.Time {
					if r == nil {
						return now
					}
					return r.clock.Add(offset)
				}
			})
			r.elsewhere(fleet.Add{InstanceID: "early"}, fleet.Retire{InstanceID: "early"})
			for range 3 {
				r.pass(time.Minute + time.Second)
				r.step()
			}
			offset = c.step
			for range 3 { // one of them reads all rows, as the clock was set
				r.pass(time.Minute + time.Second)
				r.step()
			}
			store.stamps["late"] = r.clock.Add(c.next)
			r.salt.keys[salt.Accepted]["late"] = []byte(lab.UnknownKey())
			r.elsewhere(fleet.Add{InstanceID: "late"}, fleet.Retire{InstanceID: "late"})
			took := time.Duration(0)
			for ; r.accepted("late") && took < 3*time.Hour; took += time.Minute {
				r.pass(time.Minute)
				r.step()
			}
			if took > 3*time.Minute && !c.full || took > fullEvery+time.Minute {
				t.Errorf("the next terminated minion's key went after %v", took)
			}
			if told := r.engine.Status().Problem[BadStamp] > 0; told != c.stamp.After(now.Add(c.step+ahead)) {
				t.Errorf("told of a stamp ahead of our clock: %v", told)
			}
		})
	}
}

// TestG3_SomethingElseAccepted: adoption takes a word; whatever else accepts keys
// (autosign, salt-key -A, an old reactor) adopts nobody.
func TestG3_SomethingElseAccepted(t *testing.T) {
	for _, c := range []struct {
		name      string
		admit     decide.Admit
		add       fleet.Add
		proof     bool
		bound     bool
		highstate bool
	}{
		{"proven, without a proof", decide.Proven, fleet.Add{InstanceID: "i", Group: "web"}, false, false, false},
		{"proven, with its proof", decide.Proven, fleet.Add{InstanceID: "i", Group: "web"}, true, true, true},
		{"proven, by an operator", decide.Proven, fleet.Add{InstanceID: "i"}, false, false, false},
		{"proven, launched before the fleet began", decide.Proven,
			fleet.Add{InstanceID: "i", Group: "web", Adopted: true}, false, true, false},
		{"bound, by a launch", decide.Bound, fleet.Add{InstanceID: "i", Group: "web"}, false, true, true},
		{"bound, by an operator", decide.Bound, fleet.Add{InstanceID: "i"}, false, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			key := []byte(lab.UnknownKey())
			digest, _ := fleet.KeyDigest(key)
			store := openSQLite(t)
			edit := func(cfg *Config) {
				cfg.Admit, cfg.ResyncEvery, cfg.PollEvery = c.admit, ResyncEvery, time.Minute
				if cfg.Proofs = proofOf(""); c.proof {
					cfg.Proofs = proofOf(digest)
				}
			}
			a, b := newRig(t, store, edit), newRig(t, store, edit)
			a.apply(c.add)
			a.salt.keys[salt.Accepted]["i"] = key // on master a alone
			a.inbox.Enqueue("i", true)
			a.works(time.Minute)
			b.salt.knock("i", key)
			b.inbox.Enqueue("i", false)
			b.works(ResyncEvery + time.Minute)
			fresh := newRig(t, store, edit)
			row := a.row("i")
			if bound := row.KeySHA256 != ""; bound != c.bound || b.accepted("i") != c.bound ||
				fresh.accepted("i") != c.bound {
				t.Errorf("bound %v; accepted on another master %v, on a new one %v", bound, b.accepted("i"),
					fresh.accepted("i"))
			}
			if row.HighstateRan != c.highstate {
				t.Errorf("its highstate ran: %v", row.HighstateRan)
			}
			if rule := a.engine.audit.last["i"]; !c.bound && rule != "accepted-unproven" {
				t.Errorf("reported as %q", rule)
			}
		})
	}
}

// proofOf is the proof that every instance wrote; empty: none did.
type proofOf string

func (p proofOf) Proofs(_ context.Context, ids []string) (map[string]fleet.Proof, error) {
	out := map[string]fleet.Proof{}
	for _, id := range ids {
		if p != "" {
			out[id] = fleet.Proof{KeySHA256: string(p)}
		}
	}
	return out, nil
}

// TestG3_DeletedByHand: a key that an admin deleted is not written back by a
// comparison, an auth request or a restart of the bridge; and it is reported.
func TestG3_DeletedByHand(t *testing.T) {
	store, path := openSQLite(t), filepath.Join(t.TempDir(), "accepted")
	open := func(p *plain) *rig {
		return newRigOn(t, p, store, func(c *Config) {
			c.ResyncEvery, c.PollEvery = ResyncEvery, time.Minute
			c.Accepted = OpenAccepted(path, slog.New(slog.DiscardHandler))
		})
	}
	r := open(newPlain())
	key := r.bearer("web1")
	r.bearer("other")
	delete(r.salt.keys[salt.Accepted], "web1")
	r.inbox.Enqueue("web1", false) // salt-key -d fires salt/key
	r.works(time.Hour + ResyncEvery)
	check := func(when string) {
		t.Helper()
		s := r.engine.Status()
		if r.accepted("web1") || s.Problem[KeyRemoved] != 1 || !r.accepted("other") {
			t.Errorf("%s: accepted %v, problems %v", when, r.accepted("web1"), s.Problems)
		}
	}
	check("after an hour")
	r.salt.knock("web1", key)
	r.inbox.Enqueue("web1", false)
	r.works(time.Hour)
	check("after it knocked")
	r = open(r.salt)
	r.works(ResyncEvery)
	check("after a restart")
	r.inbox.Restore([]string{"web1"})
	r.works(time.Minute)
	if s := r.engine.Status(); !r.accepted("web1") || s.Problem[KeyRemoved] != 0 {
		t.Errorf("restored: accepted %v, problems %v", r.accepted("web1"), s.Problems)
	}
}

// TestWarmAtEachComparison: a key that another master bound is written here before
// its minion comes, and though the store is away when it does.
func TestWarmAtEachComparison(t *testing.T) {
	store := openSQLite(t)
	r := newRig(t, store, func(c *Config) { c.ResyncEvery, c.PollEvery = ResyncEvery, time.Minute })
	key := []byte(lab.UnknownKey())
	digest, _ := fleet.KeyDigest(key)
	r.elsewhere(fleet.Add{InstanceID: "a"}, fleet.Bind{InstanceID: "a", KeySHA256: digest, PublicKey: string(key)})
	r.works(ResyncEvery + time.Second)
	if !r.accepted("a") {
		t.Error("the key is not in place")
	}
}

// refusing is a store that says no to each Bind.
type refusing struct {
	fleet.Store
	applies int
}

func (s *refusing) Apply(ctx context.Context, cs []fleet.Change) ([]fleet.Result, error) {
	if _, is := cs[0].(fleet.Bind); !is {
		return s.Store.Apply(ctx, cs)
	}
	s.applies++
	return []fleet.Result{{Err: fleet.ErrOtherKey}}, nil
}

// TestG12_RefusedBind: a row that says no is asked less and less.
func TestG12_RefusedBind(t *testing.T) {
	store := &refusing{Store: openSQLite(t)}
	r := newRig(t, store, func(*Config) {})
	r.apply(fleet.Add{InstanceID: "a"})
	r.salt.knock("a", []byte(lab.UnknownKey()))
	r.inbox.Enqueue("a", false)
	store.applies = 0
	r.works(10 * time.Minute)
	if store.applies < 2 || store.applies > 12 {
		t.Errorf("%d writes in ten minutes", store.applies)
	}
}

// TestG7_ReturnsAreBoundedInBytes: any accepted minion can send returns of any
// size, under any id.
func TestG7_ReturnsAreBoundedInBytes(t *testing.T) {
	in, jid := NewInbox(), "20260101000000000001"
	in.subscribe(jid)
	body := strings.Repeat("x", 1<<20)
	for i := range 400 {
		id := fmt.Sprintf("evil-%d", i%300)
		for _, fun := range []string{"state.highstate", "saltutil.find_cached_job"} {
			in.Event(sent(t, "salt/job/"+jid+"/ret/"+id,
				map[string]any{"id": id, "jid": jid, "fun": fun, "retcode": 0, "return": body}))
		}
	}
	held := 0
	w := in.drain()
	for _, r := range w.returns {
		held += cap(r.Body)
	}
	if held > maxReturned || in.bytes != 0 {
		t.Errorf("%d bytes held, %d counted after all was taken", held, in.bytes)
	}
	if len(w.returns) != 300 {
		t.Errorf("%d returns of 300 minions", len(w.returns))
	}
	// Small ones add up.
	const each = 8 << 10
	for i := range 2 * maxReturned / each {
		in.Return(event.Return{ID: fmt.Sprintf("evil-%d", i), JID: jid, Fun: "state.highstate",
			Body: make([]byte, each)})
	}
	n, dropped := in.waiting()
	if n != maxReturned/each || int(dropped) != n {
		t.Errorf("%d of %d bytes wait, %d were dropped", n, each, dropped)
	}
	if w := in.drain(); w.gap != overflowReason {
		t.Errorf("no comparison makes up for what was dropped: %q", w.gap)
	}
	in.Return(event.Return{ID: "web-1", JID: jid, Fun: "state.highstate", Body: make([]byte, each)})
	if n, _ := in.waiting(); n != 1 {
		t.Error("nothing is taken any more, though all was")
	}
}

// TestAuditIsBounded: auth requests under many names write few lines, and decisions
// about the fleet's own minions are still recorded.
func TestAuditIsBounded(t *testing.T) {
	var lines lineCounter
	a := NewAudit(slog.New(slog.NewTextHandler(&lines, nil)))
	for range 3 {
		for i := range 20_001 {
			a.Key(fmt.Sprintf("i-%017x", i), decide.KeyDecision{Act: decide.LeaveKey, Rule: "not-listed"}, "",
				fleet.Minion{})
		}
		a.forgetAbsent(func(string) bool { return true })
	}
	if lines > maxUnlisted+10 {
		t.Errorf("%d lines about strangers", lines)
	}
	before := lines
	a.Key("ours", decide.KeyDecision{Act: decide.UnlinkPending, Rule: "other-key"}, "", fleet.Minion{})
	if lines != before+1 {
		t.Error("nothing was told of a minion of the fleet")
	}
	before = lines
	for i := range 100 { // one machine after the other, or one that makes up keys
		for range 2 {
			a.Key("ours", decide.KeyDecision{Act: decide.UnlinkPending, Rule: "other-key"},
				fmt.Sprintf("%016x%048x", i+1, 0), fleet.Minion{})
		}
	}
	if n := lines - before; n < 2 || n > maxUnlinked {
		t.Errorf("%d lines about 100 pending keys of one id", n)
	}
}

type lineCounter int

func (c *lineCounter) Write(p []byte) (int, error) { *c++; return len(p), nil }

// TestG12_Crowd: of many auth requests, each step takes a batch, and comes to a
// return, a termination and the status after it.
func TestG12_Crowd(t *testing.T) {
	r := newRig(t, openSQLite(t), func(c *Config) { c.PollEvery = time.Minute })
	r.bearer("runs")
	r.inbox.Enqueue("runs", true)
	r.step()
	r.bearer("gone")
	for i := range 10_000 {
		r.inbox.Enqueue(fmt.Sprintf("crowd-%05d", i), false)
	}
	r.apply(fleet.Retire{InstanceID: "gone"})
	job := r.salt.published[len(r.salt.published)-1]
	r.inbox.Return(event.Return{ID: "runs", JID: job.JID, Fun: "state.highstate"})
	for range 1 + 2 { // behind at most a batch, as they came
		r.engine.Step(t.Context())
	}
	if !r.row("runs").HighstateRan || !r.engine.queue.any() {
		t.Errorf("recorded: %v; %d wait", r.row("runs").HighstateRan, r.engine.queue.len())
	}
	for r.engine.queue.any() {
		r.engine.Step(t.Context())
	}
	if r.accepted("gone") {
		t.Error("the retired key stays")
	}
}
