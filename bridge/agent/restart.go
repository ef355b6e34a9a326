package agent

import (
	"slices"
	"strings"
	"time"
)

const (
	// jobsMost: how long a running job can put off a restart that is not urgent.
	// What runs for longer may as well hang.
	jobsMost = 10 * time.Minute
	// highstateMost: how long a highstate can, urgent or not. It may be the first
	// one, of which the fleet promises that it runs once.
	highstateMost = time.Hour
	// restartApart: a minion needs some 10 s to start, load its modules and find a
	// master; lists that change faster are taken up together.
	restartApart = time.Minute
	// urgentApart holds where the current master is gone.
	urgentApart = 15 * time.Second
	// retryFirst and retryMost bound the pauses after a command that did not work.
	retryFirst = 5 * time.Second
	retryMost  = time.Minute
)

// Job is one that runs on the minion.
type Job struct {
	JID  string
	Funs []string // one job may run several functions; none: not known
}

func (j Job) String() string { return strings.Join(j.Funs, ",") + " " + j.JID }

// Restart decides when the minion is restarted. It is owed from the moment when
// the list is written until it went through.
type Restart struct {
	highstates []string // functions that are a highstate

	owed     bool
	due      time.Time
	from     time.Time // when it was due first: jobs are waited for from then
	last     time.Time // when the last one began that went through
	failures int
}

// NewRestart takes the names of the functions that may be a first highstate.
func NewRestart(highstates ...string) *Restart { return &Restart{highstates: highstates} }

// Owe says that a restart is needed, after that splay. One that is due earlier
// stays so, unless it is put off. One that failed keeps its pause.
func (r *Restart) Owe(now time.Time, splay time.Duration, putOff bool) {
	due := now.Add(splay)
	switch {
	case !r.owed:
		r.owed, r.due, r.from, r.failures = true, due, due, 0
	case r.failures == 0 && (putOff || due.Before(r.due)):
		r.due, r.from = due, due
	}
}

// Forgive says that no restart is needed any more.
func (r *Restart) Forgive() { *r = Restart{highstates: r.highstates, last: r.last} }

// Owed says whether a restart is needed.
func (r *Restart) Owed() bool { return r.owed }

// Due says whether it is time to look at the jobs, and to decide.
func (r *Restart) Due(now time.Time, gone bool) bool {
	apart := restartApart
	if gone {
		apart = urgentApart
	}
	return r.Owed() && !now.Before(r.due) && (r.last.IsZero() || now.Sub(r.last) >= apart)
}

// Decide says what a restart that is due still waits for; empty: go. gone: the
// minion's current master does not answer, so that the minion serves nobody.
func (r *Restart) Decide(jobs []Job, gone bool, now time.Time) (wait string) {
	waited := now.Sub(r.from)
	for _, job := range jobs {
		switch {
		case slices.ContainsFunc(job.Funs, r.isHighstate) && waited < highstateMost:
			return "a highstate runs: " + job.String()
		case !gone && waited < jobsMost:
			return "a job runs: " + job.String()
		}
	}
	return ""
}

func (r *Restart) isHighstate(fun string) bool { return slices.Contains(r.highstates, fun) }

// Done says that the restart that began then went through.
func (r *Restart) Done(begun time.Time) {
	*r = Restart{highstates: r.highstates, last: begun}
}

// Failed says that the command did not work, and gives the pause before the next.
func (r *Restart) Failed(now time.Time) time.Duration {
	pause := min(retryFirst<<min(r.failures, 6), retryMost)
	r.failures++
	r.due = now.Add(pause)
	return pause
}
