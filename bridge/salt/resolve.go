package salt

import (
	"errors"
	"fmt"
	"strings"

	"phoenix/bridge/event"
)

// Answers gathers what one minion returns to FindJob and FindCached of one job,
// asked together. Its zero value has neither. Of each answer it keeps what is
// decided on, not the answer.
type Answers struct {
	found, cached       bool // answered
	running             bool
	result              Resolve // of FindCached
	foundErr, cachedErr error
}

// Resolve is what a minion knows of a job. If it does not run and nothing is
// cached, the minion does not know it, or (NoCache) could not say.
type Resolve struct {
	Running bool          // or waits in a queue of the minion
	Cached  *CachedReturn // nil: there is no return of it
	NoCache bool          // the minion keeps no returns: cache_jobs is off
}

// CachedReturn is how a job ended.
type CachedReturn struct {
	Retcode int
	Busy    []Running // it was refused, since these ran: it did nothing
}

// Take takes in one return: its function and its body. Once both are there, it
// gives what follows from them. A function that raised returns a traceback: that
// is an error, since it does not mean that the job is unknown.
func (a *Answers) Take(fun string, body []byte) (r Resolve, complete bool, err error) {
	switch fun {
	case findJob:
		a.found = true
		a.running, a.foundErr = readFound(body)
	case findCached:
		a.cached = true
		a.result, a.cachedErr = readCached(body)
	default:
		return Resolve{}, false, fmt.Errorf("read answer on a job: %s was not asked", fun)
	}
	if !a.found || !a.cached {
		return Resolve{}, false, nil
	}
	switch r = a.result; {
	case a.foundErr != nil:
		err = a.foundErr
	case a.cachedErr != nil && !a.running: // if it runs, its return may be under way to the cache
		err = a.cachedErr
	default:
		r.Running = a.running
		return r, true, nil
	}
	return Resolve{}, true, fmt.Errorf("read answer on a job: %w", err)
}

// readFound reads a map: {} if the job does not run.
func readFound(body []byte) (bool, error) {
	pid, err := event.Field(body, "pid")
	if err != nil {
		return false, fmt.Errorf("%s: %s", findJob, says(body))
	}
	jid, _ := event.Field(body, "jid")
	return pid != nil || jid != nil, nil
}

// readCached reads a return as the minion keeps it, or the text that there is none.
func readCached(body []byte) (r Resolve, err error) {
	if _, err := event.Field(body, "retcode"); err == nil {
		r.Cached, err = parseCached(body)
		return r, err
	}
	text, _ := textOf(body)
	switch {
	// With cache_jobs on, it is "Local jobs cache directory PATH not found".
	case strings.HasPrefix(text, "Local jobs cache directory not found"):
		r.NoCache = true
	case strings.HasPrefix(text, "Local jobs cache directory "):
	default:
		return r, fmt.Errorf("%s: %s", findCached, says(body))
	}
	return r, nil
}

// parseCached reads a cached return: with retcode and success always, in all
// three versions. A retcode of 0 counts only with success.
func parseCached(body []byte) (*CachedReturn, error) {
	raw, err := event.Field(body, "retcode")
	if err != nil {
		return nil, err
	}
	retcode, ok := intOf(raw)
	if !ok {
		return nil, errors.New("cached return without a retcode")
	}
	c := &CachedReturn{Retcode: retcode}
	if success, _ := event.Field(body, "success"); retcode == 0 && (len(success) != 1 || success[0] != msgpackTrue) {
		c.Retcode = 1
	}
	if c.Retcode != 0 {
		returned, _ := event.Field(body, "return")
		c.Busy = ReadBusy(returned)
	}
	return c, nil
}

const msgpackTrue = 0xc3

func intOf(raw []byte) (int, bool) {
	if len(raw) == 0 || len(raw) > 9 { // the longest integer, with its head
		return 0, false
	}
	v, err := event.Any(raw)
	n, ok := v.(int64)
	return int(n), ok && err == nil
}
