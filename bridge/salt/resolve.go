package salt

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/vmihailenco/msgpack/v5"

	"phoenix/bridge/event"
)

// The three questions that tell what became of a job. find_job comes first: one
// that ends in between is then found in the cache.
const (
	findJob    = "saltutil.find_job"
	findCached = "saltutil.find_cached_job"
	configGet  = "config.get"
)

// ResolveFun is event.Return's Fun of an answer that ParseResolve reads.
const ResolveFun = findJob + "," + findCached + "," + configGet

// AskAfter asks minions what became of a job; the question itself has the jid
// jid. Each that is connected here returns an answer for ParseResolve.
func (m *Master) AskAfter(ctx context.Context, jid, job string, ids []string) ([]string, error) {
	return m.Publish(ctx, Job{JID: jid, Targets: ids, Calls: []Call{
		{Fun: findJob, Args: []any{job}},
		{Fun: findCached, Args: []any{job}},
		{Fun: configGet, Args: []any{"master_type"}},
	}})
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

// ParseResolve reads an answer to AskAfter: the Body of an event.Return, which
// is a map by function or, with multifunc_ordered set on the minion, a list. A
// function that raised returns a traceback: that is an error, since it does not
// mean that the job is unknown.
func ParseResolve(body []byte) (Resolve, error) {
	r, err := parseResolve(body)
	if err != nil {
		return Resolve{}, fmt.Errorf("read answer on a job: %w", err)
	}
	return r, nil
}

func parseResolve(body []byte) (Resolve, error) {
	v, err := event.Any(body)
	if err != nil {
		return Resolve{}, err
	}
	var found, cached, masterType any
	switch v := v.(type) {
	case map[string]any:
		found, cached, masterType = v[findJob], v[findCached], v[configGet]
	case []any:
		if len(v) != 3 {
			return Resolve{}, fmt.Errorf("%d values instead of 3", len(v))
		}
		found, cached, masterType = v[0], v[1], v[2]
	}
	job, ok := found.(map[string]any) // {} if it does not run
	if !ok {
		return Resolve{}, fmt.Errorf("%s: %.200s", findJob, cause(fmt.Sprint(found)))
	}
	r := Resolve{Running: len(job) > 0, Failover: masterType == "failover"}
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
