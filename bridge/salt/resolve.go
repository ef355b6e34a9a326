package salt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vmihailenco/msgpack/v5"

	"phoenix/bridge/event"
)

// The questions that tell what became of a job, in the order in which they go
// out. Each is a job of its own: while a job of several functions stands in a
// minion's proc folder, each state run that begins there fails with a TypeError,
// since saltutil.is_running takes "fun" for a text (3006.28, 3007.15; tried).
var questions = [...]string{findJob, configGet, findCached}

const (
	findJob    = "saltutil.find_job"
	findCached = "saltutil.find_cached_job"
	configGet  = "config.get"
)

// Questions is how many jobs AskAfter makes.
const Questions = len(questions)

// AskAfter asks minions what became of a job, in one job for each question, with
// the jids given. Who is connected here returns each; see Answers.
func (m *Master) AskAfter(ctx context.Context, jids [Questions]string, job string, ids []string) error {
	for i, fun := range questions {
		arg := job
		if fun == configGet {
			arg = "master_type"
		}
		if _, err := m.Publish(ctx, Job{JID: jids[i], Targets: ids, Calls: []Call{{Fun: fun, Args: []any{arg}}}}); err != nil {
			return err
		}
	}
	return nil
}

// Answers gathers what one minion returns to the questions of one AskAfter. Its
// zero value has none.
type Answers struct{ got map[string]any }

// Take takes in one return: its function and its body. Once all are there, it
// gives what follows from them.
func (a *Answers) Take(fun string, body []byte) (r Resolve, complete bool, err error) {
	v, err := event.Any(body)
	if err != nil {
		return Resolve{}, false, fmt.Errorf("read answer on a job: %w", err)
	}
	if !slices.Contains(questions[:], fun) {
		return Resolve{}, false, fmt.Errorf("read answer on a job: %s was not asked", fun)
	}
	if a.got == nil {
		a.got = make(map[string]any, Questions)
	}
	a.got[fun] = v
	if len(a.got) < Questions {
		return Resolve{}, false, nil
	}
	r, err = resolve(a.got[findJob], a.got[findCached], a.got[configGet])
	if err != nil {
		return Resolve{}, true, fmt.Errorf("read answer on a job: %w", err)
	}
	return r, true, nil
}

// Resolve is what a minion knows of a job. If it does not run and nothing is
// cached, the minion does not know it, or (NoCache) could not say.
type Resolve struct {
	Running  bool          // or waits in a queue of the minion
	Cached   *CachedReturn // nil: there is no return of it
	NoCache  bool          // the minion keeps no returns: cache_jobs is off
	Failover bool          // the minion's master_type is failover
}

// CachedReturn is how a job ended.
type CachedReturn struct {
	Retcode int
	Busy    bool // it was refused, since another state function ran: it did nothing
}

// resolve reads the three answers. A function that raised returns a traceback:
// that is an error, since it does not mean that the job is unknown.
func resolve(found, cached, masterType any) (r Resolve, err error) {
	job, ok := found.(map[string]any) // {} if it does not run
	if !ok {
		return Resolve{}, fmt.Errorf("%s: %.200s", findJob, cause(fmt.Sprint(found)))
	}
	r = Resolve{Running: len(job) > 0, Failover: masterType == "failover"}
	switch cached := cached.(type) {
	case map[string]any:
		r.Cached, err = parseCached(cached)
		return r, err
	case string:
		// With cache_jobs on, it is "Local jobs cache directory PATH not found".
		if strings.HasPrefix(cached, "Local jobs cache directory not found") {
			r.NoCache = true
			return r, nil
		}
		if strings.HasPrefix(cached, "Local jobs cache directory ") {
			return r, nil
		}
	}
	if r.Running { // its return may be under way to the cache
		return r, nil
	}
	return Resolve{}, fmt.Errorf("%s: %.200s", findCached, cause(fmt.Sprint(cached)))
}

// parseCached reads a return as the minion keeps it: with retcode and success
// always, in all three versions. A retcode of 0 counts only with success.
func parseCached(cached map[string]any) (*CachedReturn, error) {
	retcode, ok := cached["retcode"].(int64)
	if !ok {
		return nil, errors.New("cached return without a retcode")
	}
	c := &CachedReturn{Retcode: int(retcode)}
	if c.Retcode == 0 && cached["success"] != true {
		c.Retcode = 1
	}
	if list, ok := cached["return"].([]any); ok {
		raw, err := msgpack.Marshal(list)
		if err != nil {
			return nil, err
		}
		c.Busy = c.Retcode != 0 && event.Busy(raw)
	}
	return c, nil
}
