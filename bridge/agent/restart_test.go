package agent

import (
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
	if r.Due(start, true) {
		t.Error("due, though none is owed")
	}
	r.Request(start, time.Minute, false)
	r.Request(start.Add(time.Second), time.Hour, false) // the list changed again: not later
	if r.Due(start.Add(59*time.Second), false) || !r.Due(start.Add(time.Minute), false) {
		t.Error("is not due after a minute")
	}
	r.Request(start, 3*time.Second, false)
	if r.Due(start.Add(2*time.Second), true) || !r.Due(start.Add(3*time.Second), true) {
		t.Error("is not due after 3 s, in a hurry")
	}
}

// A list that changes all the time does not restart the minion all the time.
func TestRestartIsLimited(t *testing.T) {
	for gone, apart := range map[bool]time.Duration{false: restartApart, true: urgentApart} {
		r := NewRestart()
		restarts := 0
		for at := time.Duration(0); at < 10*time.Minute; at += time.Second {
			now := start.Add(at)
			r.Request(now, 0, false)
			if r.Due(now, gone) {
				r.Done(now)
				restarts++
			}
		}
		if want := int(10 * time.Minute / apart); restarts != want {
			t.Errorf("gone %v: %d restarts in 10 minutes, want %d", gone, restarts, want)
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
		if r.Due(now.Add(pause-1), true) || !r.Due(now.Add(pause), true) {
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
