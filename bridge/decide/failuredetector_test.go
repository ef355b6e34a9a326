package decide

import (
	"testing"
	"time"

	"phoenix/bridge/fleet"
)

const lease = 30 * time.Second

// watcher is an observer with a clock of its own.
type watcher struct {
	FailureDetector
	now time.Time
}

func watch() *watcher { return &watcher{now: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)} }

// after lets time pass, then observes.
func (w *watcher) after(d time.Duration, masters ...fleet.Master) *watcher {
	w.now = w.now.Add(d)
	w.Observe(masters, w.now)
	return w
}

func (w *watcher) want(t *testing.T, id string, want Liveness) {
	t.Helper()
	if got := w.Of(id, lease); got != want {
		t.Errorf("%s looks %d, want %d", id, got, want)
	}
}

func beat(counter int64, incarnation string) fleet.Master {
	return fleet.Master{InstanceID: "m", Status: fleet.Launch, Ready: true, Heartbeat: counter,
		Incarnation: incarnation,
		Modified:    "2099-01-01T00:00:00.000Z"} // another host's clock: nobody may look at it
}

func TestPulseOfACounterThatMoves(t *testing.T) {
	w := watch()
	w.want(t, "m", Unseen)
	for n := range int64(20) {
		w.after(lease-time.Second, beat(n, "a")).want(t, "m", Beating)
	}
	// It need not rise: a row that was made anew begins at 1.
	w.after(lease, beat(1, "a")).want(t, "m", Beating)
}

func TestPulseOfACounterThatStandsStill(t *testing.T) {
	w := watch().after(0, beat(7, "a"))
	w.after(lease-time.Nanosecond, beat(7, "a")).want(t, "m", Beating)
	w.after(time.Nanosecond, beat(7, "a")).want(t, "m", Stopped)
	w.after(time.Hour, beat(8, "a")).want(t, "m", Beating)
}

func TestPulseOfABridgeThatRestarted(t *testing.T) {
	w := watch().after(0, beat(7, "a")).after(lease, beat(7, "a"))
	w.want(t, "m", Stopped)
	w.after(time.Second, beat(7, "b")).want(t, "m", Beating) // the same counter, another process
}

func TestPulseWhileTheStoreDoesNotAnswer(t *testing.T) {
	w := watch().after(0, beat(7, "a"))
	w.now = w.now.Add(time.Hour) // no observation at all
	w.want(t, "m", Beating)
	w.after(0, beat(8, "a")).want(t, "m", Beating)

	// A counter that did not move over the gap stood still, as far as can be seen
	// from either end of it.
	w.after(time.Hour, beat(8, "a")).want(t, "m", Stopped)
}

func TestPulseOfARetiredMaster(t *testing.T) {
	m := beat(7, "a")
	m.Status = fleet.Terminate
	watch().after(0, m).want(t, "m", Retired)
	watch().after(0, beat(7, "a")).after(time.Second, m).want(t, "m", Retired)
}

func TestPulseOfAMasterWithoutARow(t *testing.T) {
	w := watch()
	w.want(t, "m", Unseen) // from now on it is watched
	w.after(time.Hour).want(t, "m", Beating)
	w.after(lease-time.Nanosecond).want(t, "m", Beating)
	w.after(time.Nanosecond).want(t, "m", Stopped)
	w.after(time.Second, beat(1, "a")).want(t, "m", Beating)

	// A row that is deleted is not a beat that is missing: the wait begins anew.
	w.after(time.Second).want(t, "m", Beating)
	w.after(lease-time.Nanosecond).want(t, "m", Beating)
	w.after(time.Nanosecond).want(t, "m", Stopped)
}

func TestPulseOfNobodyAskedFor(t *testing.T) {
	w := watch().after(0, beat(7, "a"))
	w.want(t, "other", Unseen)
	if w.Of("m", 0) != Stopped {
		t.Error("a lease of nothing does not end at once")
	}
}

// A bridge that beats beside a master that does not serve.
func TestPulseOfAMasterThatIsNotReady(t *testing.T) {
	unready := func(counter int64, incarnation string) fleet.Master {
		m := beat(counter, incarnation)
		m.Ready = false
		return m
	}
	w := watch().after(0, beat(1, "a"))
	n := int64(2)
	for range 5 { // a stretch that is shorter than the lease, again and again
		for range 5 {
			w.after(lease/6, unready(n, "a")).want(t, "m", Beating)
			n++
		}
		w.after(time.Second, beat(n, "a")).want(t, "m", Beating)
		n++
	}
	// Its bridge may be started anew meanwhile.
	w.after(time.Second, unready(n, "a")).after(lease/2, unready(n+1, "b")).want(t, "m", Beating)
	w.after(lease/2, unready(n+2, "c")).want(t, "m", Stopped)
	w.after(time.Second, beat(n+3, "c")).want(t, "m", Beating)
}

// A bridge whose master does not serve does not keep the claim of a hot minion:
// it is taken over, and the minion is asked before anything is published.
func TestPulseLetsAClaimBeTakenFromAMasterThatDoesNotServe(t *testing.T) {
	w := watch()
	c := HighstateView{Accepted: true, ConnectedAt: w.now,
		Row: fleet.Minion{InstanceID: "i", Status: fleet.Launch, KeySHA256: "k", ClaimState: fleet.Claimed,
			ClaimOwner: "m", ClaimIncarnation: "a", ClaimJID: "20260101000000000001", ClaimVersion: 1, Attempt: 1}}
	c.UpdateRow(c.Row, w.now)
	begun := w.now
	me := Self{ID: "other", Incarnation: "1", Beating: true, Slots: 10}
	for n := int64(1); ; n++ {
		m := beat(n, "a")
		m.Ready = false
		c.ConnectedAt = w.after(5*time.Second, m).now
		step := Highstate(Policy{Enabled: true, Attempts: 3, Lease: lease}, me, w.Of("m", lease), c, w.now)
		if step.Act == Take {
			break
		}
		if step.Act == Ask {
			c.AskedAt(w.now)
			c.Answered(Answer{JID: c.Row.ClaimJID, Asked: w.now}, w.now) // "I do not know it"
		}
		if w.now.Sub(begun) > 2*lease {
			t.Fatalf("after %v: %+v", w.now.Sub(begun), step)
		}
	}
	row := c.Row
	row.ClaimOwner, row.ClaimIncarnation, row.ClaimVersion = me.ID, me.Incarnation, 2
	c.ClaimWritten(row, w.now)
	if step := Highstate(Policy{Enabled: true, Attempts: 3, Lease: lease}, me, Unseen, c, w.now); step.Act != Ask {
		t.Errorf("after the takeover: %+v", step)
	}
	me.Draining = true
	row.ClaimOwner, row.ClaimVersion = "m", 3
	c.UpdateRow(row, w.now)
	c.ConnectedAt = w.now
	if step := Highstate(Policy{Enabled: true, Attempts: 3, Lease: lease}, me, Stopped, c, w.now); step.Act != Wait ||
		step.Reason != drainingReason {
		t.Errorf("while this master is drained: %+v", step)
	}
}

func TestNoClaimIsBegunWhileDraining(t *testing.T) {
	now := time.Now()
	c := HighstateView{Accepted: true, ConnectedAt: now,
		Row: fleet.Minion{InstanceID: "i", Status: fleet.Launch, KeySHA256: "k"}}
	c.UpdateRow(c.Row, now)
	if step := Highstate(Policy{Enabled: true, Attempts: 3}, Self{ID: "m", Beating: true, Slots: 1, Draining: true},
		Unseen, c, now); step.Act != Wait {
		t.Errorf("%+v", step)
	}
}
