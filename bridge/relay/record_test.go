package relay

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"phoenix/bridge/event"
)

// TestG7_ForgedIDsAreBounded: what an accepted minion puts on the bus, with ids of the
// greatest length, makes the records take no more than a bound, and costs no time that
// grows with what is kept.
func TestG7_ForgedIDsAreBounded(t *testing.T) {
	r := newRecords(time.Now)
	long := strings.Repeat("x", 240)
	ids := func(n int) []string {
		list := make([]string, 4000)
		for i := range list {
			list[i] = fmt.Sprint(long, n*len(list)+i)
		}
		return list
	}
	r.add(jid(1), "test.ping", "*", "root", nil)
	r.add(jid(2), "test.ping", "*", "root", nil)
	for n := range 40 {
		r.announce(jid(1), ids(n)) // of a job of the master's, again and again
		r.announce(jid(2), ids(n))
		r.announce(jid(100+n), ids(n)) // of no job
		r.announce(jid(99), ids(n))    // of the same one that is none
	}
	for n := range 40 {
		for _, id := range ids(n) {
			r.came(jid(2), id, here)
		}
	}
	kept := func() (weights, ahead int) {
		for _, job := range r.jobs {
			for id := range job.expected {
				weights += weight(id)
			}
			for id := range job.returned {
				weights += weight(id)
			}
		}
		for _, a := range r.announced {
			for _, id := range a.minions {
				ahead += weight(id)
			}
		}
		return weights, ahead
	}
	weights, ahead := kept()
	if weights > maxRecorded || weights != r.weight || ahead > maxAhead || ahead != r.before ||
		len(r.waiting) != len(r.announced) {
		t.Errorf("%d (%d) and %d (%d) bytes are kept, %d of %d", weights, r.weight, ahead, r.before, len(r.waiting),
			len(r.announced))
	}
	if n := len(r.lastSeen.young) + len(r.lastSeen.old); n > maxVia {
		t.Errorf("%d minions are known to be somewhere", n)
	}
	if m, ok := r.lastSeen.get(ids(39)[0]); !ok || m != here {
		t.Error("the last one that was seen is not known")
	}
	if _, ok := r.lastSeen.get(ids(0)[0]); ok {
		t.Error("the first one is known still")
	}
	// A job that comes now has its minions.
	r.announce(jid(3), []string{"web-1"})
	r.add(jid(3), "test.ping", "*", "root", nil)
	if job, ok := r.show(jid(3), "m1", true); !ok || job.Expected != 1 {
		t.Errorf("%+v", job)
	}
	for n := range 2 * maxRecords {
		r.add(jid(1000+n), "test.ping", "*", "root", nil)
	}
	if weights, _ = kept(); weights != r.weight || len(r.jobs) != maxRecords || len(r.order) != maxRecords {
		t.Errorf("%d bytes (%d) of %d jobs", weights, r.weight, len(r.jobs))
	}
}

// TestAnnouncedMinions are those of the event, without what is no id.
func TestAnnouncedMinions(t *testing.T) {
	r := &Relay{records: newRecords(time.Now), memory: newMemory(time.Now)}
	r.Event(event.Event{Tag: []byte("salt/job/" + jid(1) + "/new"),
		Data: packed(map[string]any{"jid": jid(1), "minions": []any{"web-1", 7, "../x", "web-2"}})})
	r.records.add(jid(1), "test.ping", "*", "root", nil)
	if job, _ := r.records.show(jid(1), "m1", true); len(job.Missing) != 2 || job.Missing[0].Minion != "web-1" ||
		job.Missing[1].Minion != "web-2" {
		t.Errorf("%+v", job)
	}
}

// TestG11_PartsOfABatch: what became of one part of a job is not hidden by the next.
func TestG11_PartsOfABatch(t *testing.T) {
	r := newRecords(time.Now)
	state := func(want string) {
		t.Helper()
		job, _ := r.show(jid(1), "m1", false)
		if len(job.Peers) != 1 || job.Peers[0].State != want {
			t.Errorf("%+v, not %s", job.Peers, want)
		}
	}
	part := func() { r.add(jid(1), "test.ping", "L@web-1", "root", []string{"m2"}) }
	ack := func(state string, n int) { r.ack(jid(1), "m2", outcome{State: state, Why: "because", Count: n}) }
	part()
	state(stateSent)
	ack(stateNobody, 0)
	state(stateNobody)
	part()
	part()
	ack(statePublished, 2)
	state(stateSent) // one part is on its way
	ack(statePublished, 3)
	state(statePublished)
	ack(stateRefused, 0) // of no part
	state(statePublished)
	part()
	ack(stateRefused, 0)
	part()
	state(stateRefused)
	ack(statePublished, 1)
	state(stateRefused)
	part()
	ack(stateUnreachable, 0)
	state(stateUnreachable)
	if job, _ := r.show(jid(1), "m1", false); job.Peers[0].Minions != 6 || job.Peers[0].Why != "because" {
		t.Errorf("%+v", job.Peers)
	}
}
