package service

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
	"phoenix/lab"
)

// While the master is away its work is logged as delayed once, though each error names
// another job, and as continuing once, when a call has succeeded.
func TestDelayIsLoggedOnce(t *testing.T) {
	d := newDriven(t, "a")
	var log bytes.Buffer
	d.engine.log = slog.New(slog.NewTextHandler(&log, nil))
	calls, away := 0, true
	d.says = func(j salt.Job) error {
		if calls++; away {
			return fmt.Errorf("publish %s: %w", j.JID, salt.ErrUnreachable)
		}
		return nil
	}
	d.asks = func(q salt.Question) error {
		if calls++; away {
			return fmt.Errorf("ask %s: %w", q.Fun, salt.ErrUnreachable)
		}
		return nil
	}
	lines := func(delayed, continues int, held bool) {
		t.Helper()
		text := log.String()
		if strings.Count(text, "work delayed") != delayed || strings.Count(text, "work continues") != continues ||
			strings.Contains(d.engine.Status().Fault, "highstates") != held {
			t.Fatalf("after %v and %d calls, held up by %q:\n%s", d.clock.Sub(d.begun), calls,
				d.engine.Status().Fault, text)
		}
	}
	step := func(long time.Duration) {
		for end := d.clock.Add(long); d.clock.Before(end); d.clock = d.clock.Add(time.Second) {
			d.engine.Step(t.Context())
			lines(1, 0, true)
		}
	}
	step(8 * time.Minute)
	if calls < 10 {
		t.Fatalf("%d calls", calls)
	}
	away = false
	for end := d.clock.Add(time.Minute); d.clock.Before(end); d.clock = d.clock.Add(time.Second) {
		d.engine.Step(t.Context())
	}
	lines(1, 1, false)
}

// Each try that fails is counted, also if its error is that of the last: a highstate keeps
// its job id.
func TestEachFailedTryIsCounted(t *testing.T) {
	d := newDriven(t, "a")
	calls := 0
	d.says = func(salt.Job) error { calls++; return salt.ErrAuth }
	d.asks = func(salt.Question) error { calls++; return salt.ErrAuth }
	for end := d.clock.Add(5 * time.Minute); d.clock.Before(end); d.clock = d.clock.Add(time.Second) {
		d.engine.Step(t.Context())
	}
	if n := d.engine.audit.counters.Counts().HeldUp; calls < 8 || n < int64(calls) {
		t.Errorf("%d failed calls, %d are counted", calls, n)
	}
}

// A deletion that has failed is tried again a minute later: until then it does not continue.
func TestDelayOfDeletionsIsLoggedOnce(t *testing.T) {
	r, h := brokenRig(t)
	var log bytes.Buffer
	r.engine.log = slog.New(slog.NewTextHandler(&log, nil))
	h.fault = "deletes time out"
	key := []byte(lab.UnknownKey())
	digest, err := fleet.KeyDigest(key)
	if err == nil {
		_, err = h.Store.Apply(t.Context(), []fleet.Change{fleet.Add{InstanceID: "gone-1", MinionID: "gone-1"},
			fleet.Bind{InstanceID: "gone-1", KeySHA256: digest}, fleet.Retire{InstanceID: "gone-1"}})
	}
	if err != nil {
		t.Fatal(err)
	}
	h.keys[salt.Accepted]["gone-1"] = key
	r.inbox.Invalidate([]string{"gone-1"})
	for range 150 {
		r.engine.Step(t.Context())
		r.pass(time.Second)
	}
	if text := log.String(); strings.Count(text, "work delayed") != 1 || strings.Contains(text, "work continues") ||
		h.deletes < 2 {
		t.Errorf("%d calls:\n%s", h.deletes, text)
	}
	h.fault = "none"
	for range 150 {
		r.engine.Step(t.Context())
		r.pass(time.Second)
	}
	if text := log.String(); strings.Count(text, "work continues") != 1 || r.accepted("gone-1") {
		t.Errorf("%d calls:\n%s", h.deletes, text)
	}
}
