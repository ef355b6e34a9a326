package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"phoenix/bridge/decide"
	"phoenix/bridge/event"
	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/sqlite"
	"phoenix/bridge/salt"
	"phoenix/lab"
)

// fussy is a plain master, and a store, that fail for some of what they are asked.
type fussy struct {
	*plain
	fleet.Store
	says    func(j salt.Job) error      // of a publish; nil: all is well
	asks    func(q salt.Question) error // of a question
	applies func(changes []fleet.Change) error
	calls   int // publishes and questions
	asked   []salt.Question
	askJIDs []string
	askIDs  [][]string
}

func (f *fussy) Publish(ctx context.Context, j salt.Job) ([]string, error) {
	f.calls++
	if f.says != nil {
		if err := f.says(j); err != nil {
			return nil, err
		}
	}
	return f.plain.Publish(ctx, j)
}

func (f *fussy) Ask(_ context.Context, jid string, q salt.Question, ids []string) error {
	f.calls++
	if f.asks != nil {
		if err := f.asks(q); err != nil {
			return err
		}
	}
	f.asked, f.askJIDs, f.askIDs = append(f.asked, q), append(f.askJIDs, jid), append(f.askIDs, ids)
	return nil
}

func (f *fussy) Apply(ctx context.Context, changes []fleet.Change) ([]fleet.Result, error) {
	if f.applies != nil {
		if err := f.applies(changes); err != nil {
			return nil, err
		}
	}
	return f.Store.Apply(ctx, changes)
}

// driven is an engine with minions that are connected and want their highstate.
type driven struct {
	*fussy
	t      *testing.T
	engine *Engine
	inbox  *Inbox
	clock  time.Time
	begun  time.Time
}

func newDriven(t *testing.T, ids ...string) *driven {
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "fleet.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	d := &driven{fussy: &fussy{plain: newPlain(), Store: db}, t: t, inbox: NewInbox(), clock: time.Now()}
	d.begun = d.clock
	cfg := Config{InstanceID: "m", Incarnation: "1", Admit: decide.Bound, ValidID: func(string) bool { return true },
		Highstate: decide.Policy{Enabled: true, Attempts: 3, Lease: 30 * time.Second}, Function: "state.highstate",
		Concurrency: 1000,
		ResyncEvery: 1000 * time.Hour, PollEvery: 1000 * time.Hour, UnknownFor: time.Minute}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	d.engine = NewEngine(cfg, d.fussy, d.fussy, d.fussy, beating{}, d.inbox, NewAudit(log),
		func() time.Time { return d.clock }, log)
	d.engine.Step(t.Context())
	key := []byte(lab.UnknownKey())
	digest, err := fleet.KeyDigest(key)
	if err != nil {
		t.Fatal(err)
	}
	var changes []fleet.Change
	for _, id := range ids {
		changes = append(changes, fleet.Add{InstanceID: id}, fleet.Bind{InstanceID: id, KeySHA256: digest})
		d.keys[salt.Accepted][id] = key
	}
	if _, err := db.Apply(t.Context(), changes); err != nil {
		t.Fatal(err)
	}
	d.here(ids...)
	return d
}

// here: minions say that they have connected.
func (d *driven) here(ids ...string) {
	for _, id := range ids {
		d.inbox.Enqueue(id, true)
	}
	if err := d.engine.processIDs(d.t.Context(), d.inbox.drain().ids); err != nil {
		d.t.Fatal(err)
	}
}

// drive lets the engine work for that long, second by second, and gives the last
// error.
func (d *driven) drive(long time.Duration) (err error) {
	end := d.clock.Add(long)
	for {
		err = d.engine.drive(d.t.Context())
		if !d.clock.Before(end) {
			return err
		}
		d.clock = d.clock.Add(time.Second)
	}
}

func (d *driven) returns(rs ...event.Return) { d.engine.handleReturns(rs, d.clock) }

func (d *driven) row(id string) fleet.Minion {
	rows, err := d.Store.Minions(d.t.Context(), []string{id})
	if err != nil {
		d.t.Fatal(err)
	}
	return rows[id]
}

// sent counts publishes of the highstate by minion.
func (d *driven) sent() map[string]int {
	n := map[string]int{}
	for _, j := range d.published {
		for _, id := range j.Targets {
			n[id]++
		}
	}
	return n
}

// answer answers the last question for a minion.
func (d *driven) answer(id string, v any) {
	d.t.Helper()
	body, err := msgpack.Marshal(v)
	if err != nil {
		d.t.Fatal(err)
	}
	last := len(d.asked) - 1
	d.returns(event.Return{JID: d.askJIDs[last], ID: id, Fun: d.asked[last].Fun, Body: body})
}

func ids(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("i-%03d", i))
	}
	return all
}

// TestG12_PublishInDoubtIsOfOneMinion: the master answers a publish to several minions with
// an exception that one of them causes. Whether it was sent is not known; once the minions
// say that they know nothing of it, each gets its own.
func TestG12_PublishInDoubtIsOfOneMinion(t *testing.T) {
	d := newDriven(t, "a", "b", "c")
	d.says = func(j salt.Job) error {
		if slices.Contains(j.Targets, "b") {
			return fmt.Errorf("publish: %w (%w): KeyError", salt.ErrRefused, salt.ErrDoubt)
		}
		return nil
	}
	_ = d.drive(0)
	if sent := d.sent(); len(sent) != 0 || d.engine.highstates["a"].Published.IsZero() {
		t.Fatalf("%v, published %v", sent, d.engine.highstates["a"].Published)
	}
	sent := func() int { return d.sent()["a"] + d.sent()["c"] }
	for d.clock.Sub(d.begun) < 10*time.Minute && sent() < 2 {
		_ = d.drive(time.Second)
		for _, c := range d.engine.highstates {
			if c.Asked.Equal(d.clock) {
				c.JobsRunning(false, nil, c.Asked, d.clock)
			}
			if c.Traced.Equal(d.clock) {
				c.Answered(decide.Answer{JID: c.Row.ClaimJID, Asked: c.Traced}, d.clock)
			}
			c.due = time.Time{}
		}
	}
	if got := d.sent(); got["a"] != 1 || got["c"] != 1 || got["b"] != 0 {
		t.Errorf("after %v: %v", d.clock.Sub(d.begun), got)
	}
}

// A minion that the master publishes nothing to, whatever the reason, keeps no
// other from its highstate, and shows why.
func TestG12_RefusedPublishIsOfOneMinion(t *testing.T) {
	d := newDriven(t, ids(200)...)
	d.says = func(j salt.Job) error {
		if slices.Contains(j.Targets, "i-077") {
			return fmt.Errorf("publish: %w: AuthorizationError", salt.ErrRefused)
		}
		return nil
	}
	if err := d.drive(0); err != nil {
		t.Error(err)
	}
	sent := d.sent()
	for _, id := range ids(200) {
		want := 1
		if id == "i-077" {
			want = 0
		}
		if sent[id] != want {
			t.Errorf("%s was published to %d times", id, sent[id])
		}
	}
	if d.calls > 20 {
		t.Errorf("%d calls to find the one", d.calls)
	}
	_ = d.drive(time.Second)
	if why := d.engine.highstates["i-077"].why; !strings.Contains(why, "AuthorizationError") {
		t.Errorf("it shows %q", why)
	}
	before := d.calls
	d.asks = func(salt.Question) error { return nil }
	_ = d.drive(time.Hour)
	tries := 0
	for range d.calls - before - len(d.asked) {
		tries++
	}
	if tries > 16 {
		t.Errorf("%d tries in an hour", tries)
	}
	d.says = nil
	_ = d.drive(minionRetryMost)
	if d.sent()["i-077"] == 0 {
		t.Error("the reason is gone, and it gets nothing")
	}
}

// A master that refuses everything is asked little.
func TestRefusedByTheMasterAltogether(t *testing.T) {
	d := newDriven(t, ids(500)...)
	d.says = func(salt.Job) error { return fmt.Errorf("publish: %w: AuthorizationError", salt.ErrRefused) }
	d.asks = func(salt.Question) error { return salt.ErrRefused }
	if err := d.drive(0); !errors.Is(err, salt.ErrRefused) {
		t.Errorf("it is not told: %v", err)
	}
	if d.calls > 30 {
		t.Errorf("%d calls at once", d.calls)
	}
	d.calls = 0
	_ = d.drive(10 * time.Minute)
	if d.calls > 1000 {
		t.Errorf("%d calls in ten minutes", d.calls)
	}
	// Its own deletions and the others' returns go on: drive does not stand in the way.
	d.returns(event.Return{ID: "i-001", JID: d.row("i-001").ClaimJID, Fun: "state.highstate"})
	_ = d.drive(0)
	if !d.row("i-001").HighstateRan {
		t.Error("a return is not recorded while publishes are refused")
	}
}

// What the store will not write for one minion.
func TestG12_RefusedWriteIsOfOneMinion(t *testing.T) {
	d := newDriven(t, ids(100)...)
	d.applies = func(changes []fleet.Change) error {
		for _, c := range changes {
			if c.Instance() == "i-042" {
				return fmt.Errorf("item too large: %w", fleet.ErrCorrupt)
			}
		}
		return nil
	}
	if err := d.drive(0); err != nil {
		t.Error(err)
	}
	if n := len(d.sent()); n != 99 {
		t.Errorf("%d of 99 others were published to", n)
	}
}

// With the store away, what needs the master alone goes on; and the reverse.
func TestOneSideAway(t *testing.T) {
	d := newDriven(t, "i-1", "i-2")
	if err := d.drive(0); err != nil || len(d.sent()) != 2 {
		t.Fatal(d.sent(), err)
	}
	d.applies = func([]fleet.Change) error { return fleet.ErrUnavailable }
	d.returns(event.Return{ID: "i-1", JID: d.row("i-1").ClaimJID, Fun: "state.highstate"})
	if err := d.drive(time.Minute); !errors.Is(err, fleet.ErrUnavailable) {
		t.Errorf("the store is away, and it says %v", err)
	}
	if !slices.Contains(d.asked, salt.WhatRuns()) {
		t.Error("i-2 was not asked what it runs while the store was away")
	}
	d.applies = nil
	d.says = func(salt.Job) error { return salt.ErrUnreachable }
	d.asks = func(salt.Question) error { return salt.ErrUnreachable }
	_ = d.drive(time.Minute)
	if !d.row("i-1").HighstateRan {
		t.Error("i-1 was not recorded while the master was away")
	}
	if err := d.drive(5 * time.Minute); !errors.Is(err, salt.ErrUnreachable) {
		t.Errorf("the master is away, and it says %v", err)
	}
	if d.calls > 40 {
		t.Errorf("%d calls to a master that is away", d.calls)
	}
}

// A row that is gone between the read and the claim ends the course.
func TestClaimOfARowThatIsGone(t *testing.T) {
	d := newDriven(t, "i-1", "i-2")
	d.applies = func(changes []fleet.Change) error {
		if _, claims := changes[0].(fleet.Claim); claims {
			for i, c := range changes {
				if c.Instance() == "i-1" {
					claim := c.(fleet.Claim)
					claim.InstanceID = "gone"
					changes[i] = claim
				}
			}
		}
		return nil
	}
	if err := d.drive(time.Minute); err != nil {
		t.Error(err)
	}
	if c := d.engine.highstates["i-1"]; c != nil {
		t.Errorf("it goes on as %q: %s", c.Row.InstanceID, c.why)
	}
	if sent := d.sent(); len(sent) != 1 || sent["i-2"] != 1 {
		t.Errorf("%v", sent)
	}
}

// A master whose job cache makes jids of its own has published, all the same.
func TestG2_JobCacheWithJIDsOfItsOwn(t *testing.T) {
	d := newDriven(t, "i-1")
	const other = "20200101000000000000"
	sent := 0
	d.says = func(salt.Job) error {
		sent++
		return fmt.Errorf("publish: %w", &salt.OtherJIDError{JID: other})
	}
	if err := d.drive(0); err != nil {
		t.Error(err)
	}
	row := d.row("i-1")
	if row.ClaimJID != other || row.ClaimState != fleet.Claimed || row.Attempt != 1 {
		t.Errorf("the row says %+v", row)
	}
	if !d.inbox.subscribed([]byte(other)) {
		t.Error("nobody listens for the job that was sent")
	}
	for range 12 { // nobody knows it
		_ = d.drive(10 * time.Minute)
		d.answer("i-1", []any{})
		_ = d.drive(askEvery)
		d.returns(event.Return{ID: "i-1", Fun: "saltutil.find_job", JID: d.askJIDs[max(0, len(d.askJIDs)-2)],
			Body: []byte{0x80}})
		d.answer("i-1", "Local jobs cache directory /x not found")
		d.here("i-1")
	}
	if sent != 1 {
		t.Errorf("sent %d times", sent)
	}
	if why := d.engine.highstates["i-1"].why; !strings.Contains(why, "master_job_cache") {
		t.Errorf("it shows %q", why)
	}
	d.returns(event.Return{ID: "i-1", JID: other, Fun: "state.highstate"})
	_ = d.drive(0)
	if !d.row("i-1").HighstateRan {
		t.Error("its return is not recorded")
	}
}

// A state run of somebody else that hangs for ten minutes costs a few jobs, and
// then the highstate comes.
func TestBusyMinionCostsLittle(t *testing.T) {
	d := newDriven(t, "i-1")
	line := `The function "state.apply" is running as PID 4711 and was started at 2026, Nov 26 12:00:00.000000 with jid 20261126120000000000`
	busy, err := msgpack.Marshal([]string{line})
	if err != nil {
		t.Fatal(err)
	}
	jobs, done := 0, false
	seen, seenAsks := 0, 0
	for d.clock.Sub(d.begun) < 30*time.Minute && !done {
		if err := d.drive(time.Second); err != nil {
			t.Fatal(err)
		}
		hangs := d.clock.Sub(d.begun) < 10*time.Minute
		for ; seen < len(d.published); seen++ {
			jobs++
			r := event.Return{ID: "i-1", JID: d.published[seen].JID, Fun: "state.highstate"}
			if hangs {
				r.Retcode, r.Body = 1, busy
			}
			done = !hangs
			d.returns(r)
		}
		for ; seenAsks < len(d.asked); seenAsks++ {
			jobs++
			running := []any{}
			if hangs {
				running = append(running, map[string]any{"jid": "20261126120000000000",
					"fun": "state.apply", "pid": 4711})
			}
			d.answer("i-1", running)
		}
		if hangs && jobs > 0 {
			_ = d.drive(0)
			if why := d.engine.highstates["i-1"].why; !strings.Contains(why, "PID 4711") ||
				!strings.Contains(why, "20261126120000000000") || d.engine.countBlocked() != 1 {
				t.Fatalf("after %v it shows %q, %d blocked", d.clock.Sub(d.begun), why, d.engine.countBlocked())
			}
		}
	}
	if !done || jobs > 12 {
		t.Errorf("done %v after %v, with %d jobs", done, d.clock.Sub(d.begun), jobs)
	}
	_ = d.drive(0)
	if row := d.row("i-1"); !row.HighstateRan || row.Attempt != 1 {
		t.Errorf("%+v", row)
	}
	t.Logf("%d jobs in %v", jobs, d.clock.Sub(d.begun))
}

// 700 highstates under way, of which this master owns none, all minions connected
// here too: its questions must not push the highstates out of their memory.
func TestOthersAskRarely(t *testing.T) {
	d := newDriven(t)
	key := []byte(lab.UnknownKey())
	digest, err := fleet.KeyDigest(key)
	if err != nil {
		t.Fatal(err)
	}
	var changes []fleet.Change
	all := ids(700)
	for i, id := range all {
		changes = append(changes, fleet.Add{InstanceID: id}, fleet.Bind{InstanceID: id, KeySHA256: digest},
			fleet.Claim{InstanceID: id, Owner: fmt.Sprintf("m%d", i%7), Incarnation: "1",
				JID: fmt.Sprintf("202601010000%08d", i), Attempt: 1})
		d.keys[salt.Accepted][id] = key
	}
	if _, err := d.Store.Apply(t.Context(), changes); err != nil {
		t.Fatal(err)
	}
	for _, mute := range []bool{true, false} {
		d.here(all...)
		d.calls = 0
		for range 60 {
			_ = d.drive(10 * time.Second)
			for _, c := range d.engine.highstates {
				c.ConnectedAt = d.clock
				if !mute {
					c.MasterTypeIs(false, d.clock, d.clock)
				}
			}
		}
		t.Logf("mute %v: %d jobs in ten minutes", mute, d.calls)
		if d.calls > 20 {
			t.Errorf("mute %v: %d jobs in ten minutes", mute, d.calls)
		}
	}
}

// A publish that did not reach the master is repeated when it does, and the minion is not
// asked about it: without a job cache (cache_jobs) it could not say that it never had it.
func TestPublishThatWasNotSent(t *testing.T) {
	d := newDriven(t, "i-1")
	refused := fmt.Errorf("%w: %w", salt.ErrUnreachable, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED})
	d.says = func(salt.Job) error { return refused }
	if err := d.drive(time.Minute); !errors.Is(err, salt.ErrUnreachable) {
		t.Fatal(err)
	}
	if c := d.engine.highstates["i-1"]; !c.Published.IsZero() ||
		!strings.Contains(c.why, "the master does not answer") {
		t.Errorf("published %v: %s", c.Published, c.why)
	}
	d.says = nil
	if err := d.drive(10 * time.Minute); err != nil || len(d.published) != 1 ||
		d.published[0].JID != d.row("i-1").ClaimJID {
		t.Errorf("published: %v, %v", d.published, err)
	}
}
