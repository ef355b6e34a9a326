package service

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
	"phoenix/lab"
)

// halves is a master that does half of what it is asked.
type halves struct {
	*plain
	accept func(ids []string) error
	delete func() error
	calls  int
}

func (h *halves) Accept(ctx context.Context, ids []string) error {
	h.calls++
	return h.accept(ids)
}

func (h *halves) Delete(ctx context.Context, keys map[salt.State][]string) error {
	if h.delete != nil {
		if err := h.delete(); err != nil {
			return err
		}
	}
	return h.plain.Delete(ctx, keys)
}

// TestG3_WrongKeyGoes: an impostor's key was accepted in the place of the right one,
// and the master hangs when it is to be deleted. It goes once the master answers.
func TestG3_WrongKeyGoes(t *testing.T) {
	r := newRig(t, openSQLite(t), func(c *Config) { c.ResyncEvery, c.PollEvery = ResyncEvery, time.Minute })
	evil, hangs := []byte(lab.UnknownKey()), true
	h := &halves{plain: r.salt, delete: func() error {
		if hangs {
			return fmt.Errorf("delete: %w", salt.ErrUnreachable)
		}
		return nil
	}}
	h.accept = func(ids []string) error { // it took the place in this moment
		delete(r.salt.keys[salt.Pending], ids[0])
		r.salt.keys[salt.Accepted][ids[0]] = evil
		return nil
	}
	r.engine.master = h
	r.apply(fleet.Add{InstanceID: "i"})
	r.salt.knock("i", []byte(lab.UnknownKey()))
	r.inbox.Enqueue("i", false)
	r.works(5 * time.Minute)
	held := func() bool { return string(r.salt.keys[salt.Accepted]["i"]) == string(evil) }
	if !held() {
		t.Fatal("the impostor's key is gone before the master answers")
	}
	hangs = false
	r.works(10 * time.Minute)
	if held() {
		t.Error("the impostor's key is still accepted")
	}
}

// TestRefusedAltogether: a master that refuses each acceptance is not asked for each
// key by itself, again and again.
func TestG12_RefusedAltogether(t *testing.T) {
	r := newRig(t, openSQLite(t), func(c *Config) { c.ResyncEvery, c.PollEvery = 1000*time.Hour, 1000*time.Hour })
	h := &halves{plain: r.salt, accept: func([]string) error { return fmt.Errorf("accept: %w", salt.ErrRefused) }}
	r.engine.master = h
	for i := range 400 {
		id := fmt.Sprintf("i-%03d", i)
		r.elsewhere(fleet.Add{InstanceID: id})
		r.salt.knock(id, []byte(lab.UnknownKey()))
		r.inbox.Enqueue(id, false)
	}
	r.engine.Step(t.Context())
	if h.calls > 40 {
		t.Errorf("%d calls in a step", h.calls)
	}
}

// TestReadyMeansWarm: a master on which no known key can be written is not warm,
// though it is compared.
func TestReadyMeansWarm(t *testing.T) {
	store := openSQLite(t)
	key := []byte(lab.UnknownKey())
	digest, _ := fleet.KeyDigest(key)
	for _, c := range []fleet.Change{fleet.Add{InstanceID: "i"},
		fleet.Bind{InstanceID: "i", KeySHA256: digest, PublicKey: string(key)}} {
		if _, err := fleet.ApplyOne(t.Context(), store, c); err != nil {
			t.Fatal(err)
		}
	}
	r := newRigOn(t, newPlain(), store, func(*Config) {})
	full := &fullDisk{plain: newPlain(), full: true}
	r.engine = NewEngine(r.engine.cfg, store, r.salt, full, beating{}, r.inbox, r.engine.audit,
		func() time.Time { return r.clock }, r.engine.log)
	r.works(time.Minute)
	if s := r.engine.Status(); s.KeysPreloaded || !s.Resynced {
		t.Errorf("warm %v, compared %v", s.KeysPreloaded, s.Resynced)
	}
	full.full = false
	r.works(time.Minute)
	if s := r.engine.Status(); !s.KeysPreloaded {
		t.Errorf("not warm: %q", s.Fault)
	}
}

type fullDisk struct {
	*plain
	full bool
}

func (d *fullDisk) WriteAccepted(keys map[string][]byte) ([]string, map[string]error, error) {
	if d.full {
		return nil, nil, fmt.Errorf("write keys: %w", syscall.ENOSPC)
	}
	return d.plain.WriteAccepted(keys)
}

// TestG7_WaitingIsBounded: while the store is away, ids that strangers make up are
// dropped, counted, and compared later.
func TestG7_WaitingIsBounded(t *testing.T) {
	r, h := brokenRig(t)
	r.engine.endStage(stageMinions, fleet.ErrUnavailable)
	r.engine.endStage(stageNames, fleet.ErrUnavailable)
	h.fault = "EC2 away"
	for round := range 6 {
		for i := range maxQueued {
			r.inbox.Enqueue(fmt.Sprintf("forged-%d-%d", round, i), false)
		}
		r.engine.Step(t.Context())
	}
	if n := r.engine.queue.len(); n > 3*maxQueued {
		t.Errorf("%d wait", n)
	}
	if s := r.engine.Status(); s.Dropped == 0 {
		t.Error("nothing was dropped")
	}
}

// TestSweepLooksAnew: a key that was accepted while a comparison is under way was
// not deleted by hand.
func TestSweepLooksAnew(t *testing.T) {
	r := newRig(t, openSQLite(t), func(c *Config) { c.ResyncEvery, c.PollEvery = ResyncEvery, 1000*time.Hour })
	for i := range batch + 10 {
		r.salt.keys[salt.Accepted][fmt.Sprintf("a-%04d", i)] = []byte("foreign")
	}
	r.elsewhere(fleet.Add{InstanceID: "z"})
	r.salt.knock("z", []byte(lab.UnknownKey()))
	r.pass(ResyncEvery)
	r.engine.Step(t.Context()) // the first batch; z is pending in the listing
	r.inbox.Invalidate([]string{"z"})
	r.engine.Step(t.Context()) // z is in the second, and looked at beside
	r.works(time.Minute)
	if s := r.engine.Status(); !r.accepted("z") || s.Problem[KeyRemoved] != 0 {
		t.Errorf("accepted %v, problems %v", r.accepted("z"), s.Problems)
	}
}

// TestRemovedIsToldOnce: a key that was deleted by hand is one line, not one for
// each comparison.
func TestRemovedIsToldOnce(t *testing.T) {
	r := newRig(t, openSQLite(t), func(c *Config) { c.ResyncEvery, c.PollEvery = ResyncEvery, time.Minute })
	var lines strings.Builder
	r.engine.audit.log = logTo(&lines)
	r.bearer("web1")
	delete(r.salt.keys[salt.Accepted], "web1")
	r.inbox.Enqueue("web1", false)
	r.works(6 * time.Hour)
	if n := strings.Count(lines.String(), "deleted by hand"); n < 1 || n > 2 {
		t.Errorf("told in %d lines", n)
	}
}

// TestAcceptedKeyThatIsNone is written anew from the row, as a loss of power may
// leave it.
func TestAcceptedKeyThatIsNone(t *testing.T) {
	r := newRig(t, openSQLite(t), func(c *Config) { c.ResyncEvery, c.PollEvery = ResyncEvery, time.Minute })
	key := r.bearer("web1")
	r.salt.keys[salt.Accepted]["web1"] = nil // an empty file
	r.works(ResyncEvery + time.Minute)
	if got := r.salt.keys[salt.Accepted]["web1"]; string(got) != string(key) {
		t.Errorf("accepted is %q", got)
	}
}

// TestProblemsOfEachKind: many bad entries hide no problem of another kind, and are
// forgotten when they are gone.
func TestG12_ProblemsOfEachKind(t *testing.T) {
	p, many := problems{}, map[string]error{}
	for i := range 2 * maxProblems {
		many[fmt.Sprint("odd name ", i)] = errBroken
		p.report(BadEntry, fmt.Sprint("odd name ", i), "x")
	}
	if !p.report(Undeletable, "web1", "it cannot be deleted") || p.counts()[BadEntry] != maxProblems ||
		len(p.list()) != maxProblems+1 || len(brief(p.list())) != briefProblems+1 {
		t.Errorf("%v, %d told", p.counts(), len(p.list()))
	}
	p.keep(BadEntry, map[string]error{"odd name 7": errBroken})
	if n := p.counts()[BadEntry]; n != 1 {
		t.Errorf("%d are left", n)
	}
}
