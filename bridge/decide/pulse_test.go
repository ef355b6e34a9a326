package decide

import (
	"testing"
	"time"

	"phoenix/bridge/fleet"
)

const lease = 30 * time.Second

// watcher is an observer with a clock of its own.
type watcher struct {
	Pulses
	now time.Time
}

func watch() *watcher { return &watcher{now: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)} }

// after lets time pass, then observes.
func (w *watcher) after(d time.Duration, masters ...fleet.Master) *watcher {
	w.now = w.now.Add(d)
	w.Observe(masters, w.now)
	return w
}

func (w *watcher) want(t *testing.T, id string, want Pulse) {
	t.Helper()
	if got := w.Of(id, lease); got != want {
		t.Errorf("%s looks %d, want %d", id, got, want)
	}
}

func beat(counter int64, incarnation string) fleet.Master {
	return fleet.Master{InstanceID: "m", Status: fleet.Launch, Heartbeat: counter, Incarnation: incarnation,
		Modified: "2099-01-01T00:00:00.000Z"} // another host's clock: nobody may look at it
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
