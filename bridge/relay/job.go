package relay

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

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
	State   string `json:"state"` // published, nobody, unknown, refused, unreachable, sent
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

// show returns one job; whole: with the minions that returned.
func (r *records) show(jid, self string, whole bool) (Job, bool) {
	out, ok := r.read(jid, self, whole)
	// The bus does not wait for this.
	slices.SortFunc(out.Missing, func(a, b Missing) int { return cmp.Compare(a.Minion, b.Minion) })
	slices.SortFunc(out.Minions, func(a, b Seen) int { return cmp.Compare(a.Minion, b.Minion) })
	return out, ok
}

func (r *records) read(jid, self string, whole bool) (Job, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	job := r.jobs[jid]
	if job == nil {
		return Job{}, false
	}
	out := Job{JID: job.jid, Function: job.fun, Target: job.target, User: job.user, At: job.at,
		Expected: len(job.expected), Returned: len(job.returned), Peers: []AtPeer{}, Missing: []Missing{}}
	for _, name := range sorted(job.peers) {
		t := job.peers[name].combined()
		out.Peers = append(out.Peers, AtPeer{Master: name, State: t.State, Why: t.Why, Minions: t.Count})
	}
	for id := range job.expected {
		if _, ok := job.returned[id]; !ok {
			out.Missing = append(out.Missing, r.missing(job, id, self))
		}
	}
	if whole {
		for id, via := range job.returned {
			out.Minions = append(out.Minions, Seen{Minion: id, Master: cmp.Or(via, self)})
		}
	}
	return out, true
}

// missing says why a minion has not returned.
func (r *records) missing(job *record, id, self string) Missing {
	via, seen := r.lastSeen.get(id)
	m := Missing{Minion: id, Master: via}
	at := job.peers[via]
	switch {
	case !seen:
		m.Why = "it was seen on no master since this bridge started"
	case via == here:
		m.Master, m.Why = self, "it has not answered"
	case at == nil:
		m.Why = fmt.Sprintf("on %s, which this master's relay does not know now: it was retired, or has no relay", via)
	default:
		t := at.combined()
		if t.State == statePublished {
			m.Why = fmt.Sprintf("on %s, which published it: it has not answered", via)
			break
		}
		m.Why = fmt.Sprintf("on %s, where the job is %s", via, t.State)
		if t.State == stateUnreachable {
			m.Why = fmt.Sprintf("on %s, which is unreachable for this master's relay", via)
		}
		if t.Why != "" {
			m.Why += ": " + t.Why
		}
	}
	return m
}

// list returns the jobs, newest first.
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
