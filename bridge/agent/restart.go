package agent

import (
	"slices"
	"strings"
	"time"

	"phoenix/bridge/retry"
)

const (
	// jobsMost is how long a running job delays a restart that is not urgent. A job that
	// runs for longer may hang.
	jobsMost = 10 * time.Minute
	// highstateMost is the same for a highstate, urgent or not. It may be the first one,
	// which runs once.
	highstateMost = time.Hour
	// restartApart: a minion needs some 10 s to start, load its modules and find a master.
	// Changes of the list within that time cause one restart.
	restartApart = time.Minute
	// urgentApart is the same where no master serves the minion. A slow host needs longer
	// than that until its minion is connected: see [Restart.apart].
	urgentApart = 15 * time.Second
	// apartMost bounds the time between restarts of a minion that never connects.
	apartMost = 4 * time.Minute
	// retryFirst and retryMost bound the pauses after a command that failed.
	retryFirst = 5 * time.Second
	retryMost  = time.Minute
)

// Job is a job that runs on the minion.
type Job struct {
	JID  string
	Funs []string // a job may run several functions; none: not known
}

func (j Job) String() string { return strings.Join(j.Funs, ",") + " " + j.JID }

// Restart decides when the minion is restarted. A restart is pending from the moment when
// the list is written until it succeeds.
type Restart struct {
	highstates []string // functions that are a highstate

	pending  bool
	due      time.Time
	from     time.Time // when it was first due: the wait for jobs counts from then
	last     time.Time // when the last successful one began
	failures int
	starts   int // successful ones since the minion was last connected
}

// NewRestart takes the names of the functions that may be a first highstate.
func NewRestart(highstates ...string) *Restart { return &Restart{highstates: highstates} }

// Request schedules a restart after that splay. One that is due earlier stays so, unless
// postpone is set. One that failed keeps its pause.
func (r *Restart) Request(now time.Time, splay time.Duration, postpone bool) {
	due := now.Add(splay)
	switch {
	case !r.pending:
		r.pending, r.due, r.from, r.failures = true, due, due, 0
	case r.failures == 0 && (postpone || due.Before(r.due)):
		r.due, r.from = due, due
	}
}

// Cancel drops a pending restart.
func (r *Restart) Cancel() {
	*r = Restart{highstates: r.highstates, last: r.last, starts: r.starts}
}

// Pending reports whether a restart is needed.
func (r *Restart) Pending() bool { return r.pending }

// Due reports whether it is time to call Decide. urgent: no master serves the minion.
// hopeful: one lives of those that it was last started with.
func (r *Restart) Due(now time.Time, urgent, hopeful bool) bool {
	return r.Pending() && !now.Before(r.due) && (r.last.IsZero() || now.Sub(r.last) >= r.apart(urgent, hopeful))
}

// apart returns the time between two restarts. A minion that was restarted and is not
// connected yet may still start: another restart would only make it begin again, so each
// one doubles the time. If it was started with a master that lives it will find that one,
// as Salt tries the masters of a failover list in turn (3006.28, 3007.15, 3008.3,
// salt/minion.py eval_master).
func (r *Restart) apart(urgent, hopeful bool) time.Duration {
	apart := restartApart
	if urgent && (r.starts == 0 || !hopeful) {
		apart = urgentApart
	}
	return min(apart<<min(max(r.starts-1, 0), 8), apartMost)
}

// strandedAfter returns how long the minion may be connected to no master until it is
// restarted without a new list.
func (r *Restart) strandedAfter() time.Duration {
	return min(strandedAfter<<min(r.starts, 8), strandedMost)
}

// Connected records that the minion is connected to a master.
func (r *Restart) Connected() { r.starts = 0 }

// Decide returns what a restart that is due still waits for; empty: nothing. urgent: no
// master serves the minion.
func (r *Restart) Decide(jobs []Job, urgent bool, now time.Time) (wait string) {
	waited := now.Sub(r.from)
	for _, job := range jobs {
		switch {
		case slices.ContainsFunc(job.Funs, r.isHighstate) && waited < highstateMost:
			return "a highstate runs: " + job.String()
		case !urgent && waited < jobsMost:
			return "a job runs: " + job.String()
		}
	}
	return ""
}

func (r *Restart) isHighstate(fun string) bool { return slices.Contains(r.highstates, fun) }

// Done records that the restart that began then succeeded.
func (r *Restart) Done(begun time.Time) {
	*r = Restart{highstates: r.highstates, last: begun, starts: r.starts + 1}
}

// Failed records that the command failed, and returns the pause before the next try.
func (r *Restart) Failed(now time.Time) time.Duration {
	r.failures++
	pause := retry.Backoff{First: retryFirst, Most: retryMost}.After(r.failures)
	r.due = now.Add(pause)
	return pause
}
