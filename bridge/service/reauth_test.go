package service

import (
	"testing"
	"time"

	"phoenix/bridge/event"
	"phoenix/bridge/salt"
)

// TestMinionAuthenticatesAnew: a minion whose key was deleted and restored authenticates
// over its open connection, and sends no start event. Its highstate does not wait for the
// next ping of all minions.
func TestMinionAuthenticatesAnew(t *testing.T) {
	r := newRig(t, openSQLite(t), func(*Config) {})
	r.bearer("web-1")
	accepts := func(id string) { r.inbox.Event(sent(t, "salt/auth", map[string]any{"id": id, "act": "accept"})) }
	r.runFor(125 * time.Second) // it was accepted long ago, and pinged, without an answer
	pings := len(r.engine.jobs)
	if pings == 0 {
		t.Fatal("it was not pinged")
	}
	r.runFor(20 * time.Second)
	if len(r.engine.jobs) != pings {
		t.Fatalf("%d pings within seconds", len(r.engine.jobs))
	}
	accepts("web-1")
	accepts("unknown")
	r.step()
	if len(r.engine.jobs) != pings {
		t.Error("it is pinged before it can have the answer")
	}
	r.runFor(15 * time.Second)
	if len(r.engine.jobs) != pings+1 {
		t.Fatalf("after it authenticated: %d pings, before: %d", len(r.engine.jobs), pings)
	}
	r.inbox.Enqueue("web-1", true)
	r.step()
	if len(r.salt.published) != 1 {
		t.Fatalf("published: %v", r.salt.published)
	}
	if n := len(r.engine.jobs); n != pings+1 || r.salt.keys[salt.Accepted]["web-1"] == nil {
		t.Errorf("%d jobs", n)
	}
	accepts("web-1") // as all minions do whenever the AES key changes
	r.runFor(15 * time.Second)
	if len(r.engine.jobs) != pings+1 {
		t.Error("a minion that is connected is pinged")
	}
}

// TestStatusCountsWhatWaits: a highstate whose next attempt is due later is work that waits.
func TestStatusCountsWhatWaits(t *testing.T) {
	r := newRig(t, openSQLite(t), func(*Config) {})
	r.bearer("web-1")
	r.inbox.Enqueue("web-1", true)
	r.step()
	if s := r.engine.Status(); s.Running != 1 || s.Later != 0 {
		t.Errorf("while it runs: %+v", s)
	}
	r.inbox.Return(event.Return{ID: "web-1", JID: r.salt.published[0].JID, Fun: "state.highstate", Retcode: 2})
	r.step()
	if s := r.engine.Status(); s.Running != 0 || s.Later != 1 {
		t.Errorf("before its second attempt: %+v", s)
	}
}
