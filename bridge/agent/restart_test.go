package agent

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// What a restart that is due waits for, and for how long.
func TestRestartWaitsForJobs(t *testing.T) {
	const never = 1000 * time.Hour
	for _, test := range []struct {
		name  string
		job   string
		gone  bool
		until time.Duration
	}{
		{"no job", "", false, 0},
		{"a job", "cmd.run", false, jobsMost},
		{"a job that is not known", "-", false, jobsMost},
		{"a job, and the master is gone", "cmd.run", true, 0},
		{"a highstate", "state.highstate", false, highstateMost},
		{"a highstate, and the master is gone", "state.highstate", true, highstateMost},
		{"one by another name", "state.apply", true, highstateMost},
		{"the operator's own function", "my.first", true, highstateMost},
		{"one among several functions", "test.ping state.highstate", true, highstateMost},
	} {
		r := NewRestart("state.highstate", "state.apply", "my.first")
		r.Request(start, 0, false)
		var jobs []Job
		if test.job == "-" {
			jobs = []Job{{JID: "1"}}
		} else if test.job != "" {
			jobs = []Job{{JID: "1", Funs: strings.Fields(test.job)}}
		}
		got := never
		for at := time.Duration(0); at <= 2*highstateMost; at += time.Minute {
			if r.Decide(jobs, test.gone, start.Add(at)) == "" {
				got = at
				break
			}
		}
		if got != test.until {
			t.Errorf("%s: waits %v, want %v", test.name, got, test.until)
		}
	}
}

func TestRestartIsDueOnceTheSplayIsOver(t *testing.T) {
	r := NewRestart()
	if r.Due(start, true, false) {
		t.Error("due, though none is owed")
	}
	r.Request(start, time.Minute, false)
	r.Request(start.Add(time.Second), time.Hour, false) // the list changed again: not later
	if r.Due(start.Add(59*time.Second), false, false) || !r.Due(start.Add(time.Minute), false, false) {
		t.Error("is not due after a minute")
	}
	r.Request(start, 3*time.Second, false)
	if r.Due(start.Add(2*time.Second), true, false) || !r.Due(start.Add(3*time.Second), true, false) {
		t.Error("is not due after 3 s, in a hurry")
	}
}

// A list that changes all the time does not restart the minion all the time.
func TestRestartIsLimited(t *testing.T) {
	for gone, apart := range map[bool]time.Duration{false: restartApart, true: urgentApart} {
		r := NewRestart()
		restarts := 0
		const connects = 10 * time.Second
		for at := time.Duration(0); at < 10*time.Minute; at += time.Second {
			now := start.Add(at)
			if !r.last.IsZero() && now.Sub(r.last) >= connects {
				r.Connected()
			}
			r.Request(now, 0, false)
			if r.Due(now, gone, false) {
				r.Done(now)
				restarts++
			}
		}
		if want := int(10 * time.Minute / apart); restarts != want {
			t.Errorf("gone %v: %d restarts in 10 minutes, want %d", gone, restarts, want)
		}
	}
}

// A minion that is not connected yet may still start. The less it gets there, the longer it
// is left alone.
func TestSlowStartIsNotRepeatedAtOnce(t *testing.T) {
	const s = time.Second
	for _, test := range []struct {
		urgent, hopeful bool
		want            []time.Duration
	}{
		{true, false, []time.Duration{0, 15 * s, 45 * s, 105 * s, 225 * s, 465 * s, 705 * s}},
		{true, true, []time.Duration{0, 60 * s, 180 * s, 420 * s, 660 * s}},
		{false, true, []time.Duration{0, 60 * s, 180 * s, 420 * s, 660 * s}},
	} {
		r := NewRestart()
		var restarts []time.Duration
		for at := time.Duration(0); at < 12*time.Minute; at += s {
			r.Request(start.Add(at), 0, false)
			if r.Due(start.Add(at), test.urgent, test.hopeful) {
				r.Done(start.Add(at))
				restarts = append(restarts, at)
			}
		}
		if !slices.Equal(restarts, test.want) {
			t.Errorf("urgent %v, hopeful %v: restarts at %v, want %v", test.urgent, test.hopeful, restarts, test.want)
		}
		r.Connected()
		r.Request(start.Add(time.Hour), 0, false)
		r.Done(start.Add(time.Hour))
		r.Request(start.Add(time.Hour), 0, false)
		if r.Due(start.Add(time.Hour+urgentApart-1), true, false) ||
			!r.Due(start.Add(time.Hour+urgentApart), true, false) {
			t.Error("once it was connected it is not as before")
		}
	}
}

func TestFailedRestartIsTriedAgain(t *testing.T) {
	r := NewRestart()
	r.Request(start, 0, false)
	var pauses []time.Duration
	now := start
	for range 6 {
		pause := r.Failed(now)
		pauses = append(pauses, pause)
		r.Request(now, 0, false) // a hurry does not make it a busy loop
		if r.Due(now.Add(pause-1), true, false) || !r.Due(now.Add(pause), true, false) {
			t.Fatalf("is not due after %v", pause)
		}
		now = now.Add(pause)
	}
	if pauses[0] != retryFirst || pauses[5] != retryMost {
		t.Errorf("pauses %v", pauses)
	}
	r.Done(now)
	if r.Pending() {
		t.Error("still owed")
	}
}
