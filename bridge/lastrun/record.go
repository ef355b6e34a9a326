// Package lastrun remembers the last state run of each minion, from the returns on the
// event bus of a master: whoever started it, by the salt command, a schedule or salt-call.
//
// Nothing of it is stored: a return costs no write, and a bridge that restarts begins
// anew. An accepted minion can send a return in another's name (see package event).
package lastrun

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"phoenix/bridge/event"
)

// Run is the last state run of a minion.
type Run struct {
	Minion   string    `json:"minion"`
	Function string    `json:"function"` // like state.apply
	JID      string    `json:"jid"`
	At       time.Time `json:"at"` // when its return was read
	Outcome  string    `json:"outcome"`
	Retcode  int       `json:"retcode"`
	Test     bool      `json:"test,omitempty"` // a dry run (test=True)
	States   int       `json:"states"`
	Changed  int       `json:"changed"`
	Failed   int       `json:"failed"`
	// Names are the first failed states, by their ids.
	Names []string `json:"failed_states,omitempty"`
	// Text is how a return begins that has no states: errors of rendering, most often.
	Text string `json:"text,omitempty"`
}

// Outcomes of a run.
const (
	Succeeded = "succeeded"
	Failed    = "failed"
)

const (
	// generation is how many minions are remembered for certain. Twice as many are kept
	// at most: of more, those whose runs are oldest are forgotten.
	generation = 50_000
	// page is how many runs one answer has: some 300 bytes each, in JSON, and up to 4 KB.
	page = 1_000
)

// Record remembers runs. It implements bus.Handler.
type Record struct {
	known            func(id string) bool
	since            time.Time
	generation, page int // the constants; fewer in tests

	mu     sync.Mutex
	newest map[string]Run
	older  map[string]Run // what is in newest is not here
}

// New returns an empty record. known reports whether this master has accepted a key of
// the id: no other id is remembered, since anything can be on the bus.
func New(known func(id string) bool) *Record {
	return &Record{known: known, since: time.Now(), generation: generation, page: page, newest: map[string]Run{},
		older: map[string]Run{}}
}

// Event implements bus.Handler.
func (r *Record) Event(e event.Event) {
	if e.Kind != event.KindReturn {
		return
	}
	run, ok := read(e)
	if !ok || !r.known(run.Minion) {
		return
	}
	run.At = time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, there := r.newest[run.Minion]; !there && len(r.newest) >= r.generation {
		r.newest, r.older = map[string]Run{}, r.newest
	}
	delete(r.older, run.Minion)
	r.newest[run.Minion] = run
}

// Gap implements bus.Handler: what a gap has cost is not known.
func (r *Record) Gap(string) {}

// Page is a part of a record, in the order of ids.
type Page struct {
	Since time.Time `json:"since"` // nothing before it is remembered
	Runs  []Run     `json:"runs"`
	More  bool      `json:"more"` // after the last one
}

// After returns the runs of ids that sort after id, a page of them.
func (r *Record) After(id string) Page {
	p := Page{Since: r.since, Runs: []Run{}}
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := slices.AppendSeq(slices.Collect(maps.Keys(r.newest)), maps.Keys(r.older))
	ids = slices.DeleteFunc(ids, func(other string) bool { return other <= id })
	slices.Sort(ids)
	p.More = len(ids) > r.page
	for _, id := range ids[:min(len(ids), r.page)] {
		p.Runs = append(p.Runs, r.get(id))
	}
	return p
}

// Of returns the run of one minion alone.
func (r *Record) Of(id string) Page {
	p := Page{Since: r.since, Runs: []Run{}}
	r.mu.Lock()
	defer r.mu.Unlock()
	if run := r.get(id); run.Minion != "" {
		p.Runs = append(p.Runs, run)
	}
	return p
}

func (r *Record) get(id string) Run {
	if run, there := r.newest[id]; there {
		return run
	}
	return r.older[id]
}

// runs are the functions of Salt's state module that run states (salt/modules/state.py).
// Others look at them, stop or ask: state.show_sls, state.running, state.check_request.
var runs = []string{"apply", "highstate", "sls", "sls_id", "single", "top", "high", "low", "template", "template_str",
	"pkg", "run_request"}

// stateFunction returns the function of a return that ran states: of a job of several,
// the first that did.
func stateFunction(fun string) (name string, of bool) {
	for one := range strings.SplitSeq(fun, ",") {
		if name, is := strings.CutPrefix(one, "state."); is && slices.Contains(runs, name) {
			return strings.Clone(one), true // not a part of a whole event
		}
	}
	return "", false
}
