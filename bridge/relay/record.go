package relay

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// maxRecords is how many jobs of this master are remembered for people.
	maxRecords = 1000
	// maxRecordedIDs bounds the ids in them, all together: 16 MiB.
	maxRecordedIDs = 1 << 18
	// maxVia bounds how many minions are known to be on which master.
	maxVia = 100_000
	// maxAnnounced bounds the jobs whose minions were announced and which were not
	// heard on the publish port yet, milliseconds later.
	maxAnnounced = 64
)

// here stands for this master, among those that minions were seen on.
const here = ""

// record is one job that this master published.
type record struct {
	jid, fun, target, user string
	at                     time.Time
	expected               []string          // by the event salt/job/<jid>/new; for people only
	returned               map[string]string // by which master each minion returned; here: this one
	peers                  map[string]*told  // what became of it at the others, by instance
}

// told is what became of a job at a peer.
type told struct {
	State string // "sent" until the peer says; see stateOf
	Why   string
	Count int // minions that the peer's master has keys of
}

const (
	stateSent        = "sent"
	stateUnreachable = "unreachable"
)

// records remembers the jobs that this master published lately, and which minion was
// seen on which master. It decides nothing about what is carried.
type records struct {
	now func() time.Time

	mu        sync.Mutex
	jobs      map[string]*record
	order     []string
	ids       int
	announced map[string][]string
	waiting   []string // keys of announced, oldest first
	via       map[string]string
}

func newRecords(now func() time.Time) *records {
	return &records{now: now, jobs: map[string]*record{}, announced: map[string][]string{}, via: map[string]string{}}
}

// announce takes in whom the master expects answers of. It comes a moment before the
// job itself. A minion can forge it, so it is only shown.
func (r *records) announce(jid string, minions []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if job := r.jobs[jid]; job != nil {
		r.expect(job, minions)
		return
	}
	if _, ok := r.announced[jid]; !ok {
		if len(r.waiting) >= maxAnnounced {
			delete(r.announced, r.waiting[0])
			r.waiting = r.waiting[1:]
		}
		r.waiting = append(r.waiting, jid)
	}
	r.announced[jid] = minions
}

func (r *records) expect(job *record, minions []string) {
	had := len(job.expected)
	if had == 0 {
		job.expected = minions
	} else { // a part of a batch
		known := make(map[string]bool, had)
		for _, id := range job.expected {
			known[id] = true
		}
		for _, id := range minions {
			if !known[id] {
				job.expected = append(job.expected, id)
			}
		}
	}
	r.ids += len(job.expected) - had
}

// add begins the record of a job, or of one more part of it.
func (r *records) add(jid, fun, target, user string, peers map[string]*told) {
	r.mu.Lock()
	defer r.mu.Unlock()
	job := r.jobs[jid]
	if job == nil {
		job = &record{jid: jid, fun: fun, target: target, user: user, at: r.now(), returned: map[string]string{}}
		r.jobs[jid] = job
		r.order = append(r.order, jid)
	}
	job.peers = peers
	if minions, ok := r.announced[jid]; ok {
		r.expect(job, minions)
		delete(r.announced, jid)
		r.waiting = slices.DeleteFunc(r.waiting, func(w string) bool { return w == jid })
	}
	r.trim()
}

func (r *records) trim() {
	for len(r.order) > 1 && (len(r.order) > maxRecords || r.ids > maxRecordedIDs) {
		old := r.jobs[r.order[0]]
		r.ids -= len(old.expected) + len(old.returned)
		delete(r.jobs, r.order[0])
		r.order = r.order[1:]
	}
}

// ack takes in what a peer, or the way to it, made of a job.
func (r *records) ack(jid, peer string, t told) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if job := r.jobs[jid]; job != nil && job.peers[peer] != nil {
		*job.peers[peer] = t
	}
}

// came takes in that a minion returned by a master.
func (r *records) came(jid, id, master string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.via[id]; ok || len(r.via) < maxVia {
		r.via[id] = master
	}
	job := r.jobs[jid]
	if job == nil {
		return
	}
	if _, ok := job.returned[id]; ok || r.ids >= maxRecordedIDs {
		return
	}
	job.returned[id] = master
	r.ids++
}

// Job is a job of this master's, as people see it.
type Job struct {
	JID      string    `json:"jid"`
	Function string    `json:"function"`
	Target   string    `json:"target"`
	User     string    `json:"user"`
	At       time.Time `json:"at"`
	Expected int       `json:"expected"` // minions that the master has keys of
	Returned int       `json:"returned"`
	Peers    []AtPeer  `json:"peers"`
	Missing  []Missing `json:"missing"`           // who has not returned
	Minions  []Seen    `json:"minions,omitempty"` // who has; of one job only
}

// AtPeer is what became of a job at another master.
type AtPeer struct {
	Master  string `json:"master"`
	State   string `json:"state"` // published, nobody, refused, unreachable, sent
	Why     string `json:"why,omitempty"`
	Minions int    `json:"minions"` // that its master has keys of
}

// Missing is a minion that has not returned, and why, as far as that is known.
type Missing struct {
	Minion string `json:"minion"`
	Master string `json:"master,omitempty"` // where it was seen last; empty: nowhere yet
	Why    string `json:"why"`
}

// Seen is a minion that returned.
type Seen struct {
	Minion string `json:"minion"`
	Master string `json:"master"` // by which
}

// show gives one job; whole: with the minions that returned.
func (r *records) show(jid, self string, whole bool) (Job, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	job := r.jobs[jid]
	if job == nil {
		return Job{}, false
	}
	out := Job{JID: job.jid, Function: job.fun, Target: job.target, User: job.user, At: job.at,
		Expected: len(job.expected), Returned: len(job.returned), Peers: []AtPeer{}, Missing: []Missing{}}
	for name, t := range job.peers {
		out.Peers = append(out.Peers, AtPeer{Master: name, State: t.State, Why: t.Why, Minions: t.Count})
	}
	slices.SortFunc(out.Peers, func(a, b AtPeer) int { return cmp.Compare(a.Master, b.Master) })
	for _, id := range job.expected {
		if _, ok := job.returned[id]; !ok {
			out.Missing = append(out.Missing, r.missing(job, id, self))
		}
	}
	if whole {
		for id, via := range job.returned {
			out.Minions = append(out.Minions, Seen{Minion: id, Master: cmp.Or(via, self)})
		}
		slices.SortFunc(out.Minions, func(a, b Seen) int { return cmp.Compare(a.Minion, b.Minion) })
	}
	return out, true
}

// missing says why a minion has not returned.
func (r *records) missing(job *record, id, self string) Missing {
	via, seen := r.via[id]
	m := Missing{Minion: id, Master: via}
	t := job.peers[via]
	switch {
	case !seen:
		m.Why = "it was seen on no master since this bridge started"
	case via == here:
		m.Master, m.Why = self, "it has not answered"
	case t == nil:
		m.Why = fmt.Sprintf("on %s, which is no peer now", via)
	case t.State == statePublished:
		m.Why = fmt.Sprintf("on %s, which published it: it has not answered", via)
	default:
		m.Why = fmt.Sprintf("on %s, where it is %s", via, t.State)
		if t.Why != "" {
			m.Why += ": " + t.Why
		}
	}
	return m
}

// list gives the jobs, newest first.
func (r *records) list(self string, most int) []Job {
	r.mu.Lock()
	jids := slices.Clone(r.order)
	r.mu.Unlock()
	slices.Reverse(jids)
	jobs := []Job{}
	for _, jid := range jids[:min(len(jids), most)] {
		if job, ok := r.show(jid, self, false); ok {
			jobs = append(jobs, job)
		}
	}
	return jobs
}
