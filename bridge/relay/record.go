package relay

import (
	"slices"
	"sync"
	"time"
)

const (
	// maxRecords is how many jobs of this master are remembered for people.
	maxRecords = 1000
	// maxRecorded bounds the ids in them, all together, and maxOfJob those of one, in
	// bytes with what goes around them: 100,000 ids of EC2 instances that are expected,
	// and have returned. An accepted minion can forge as many as it likes.
	maxRecorded = 32 << 20
	maxOfJob    = 18 << 20
	// maxAnnounced, maxAhead bound the jobs whose minions were announced and which were
	// not read from the publish port yet, milliseconds later, and their ids.
	maxAnnounced = 64
	maxAhead     = 16 << 20
)

// weight is about what an id takes in a map.
func weight(id string) int { return len(id) + 64 }

// here stands for this master, among those that minions were seen on.
const here = ""

// record is one job that this master published.
type record struct {
	jid, fun, target, user string
	at                     time.Time
	expected               map[string]struct{}  // by the event salt/job/<jid>/new; for people only
	returned               map[string]string    // by which master each minion returned; here: this one
	weight                 int                  // of the ids in both
	peers                  map[string]*outcomes // what became of it at the others, by instance
}

// ahead are the minions of a job that was announced and not read yet.
type ahead struct {
	minions []string
	weight  int
}

// records remembers the jobs that this master published lately, and which minion was
// seen on which master. It decides nothing about what is carried. What it takes from the bus
// costs no more than the event is long.
type records struct {
	now func() time.Time

	mu        sync.Mutex
	jobs      map[string]*record
	order     []string
	weight    int // of the ids in all jobs
	announced map[string]ahead
	waiting   []string // keys of announced, oldest first
	before    int      // the weight of all that is announced
	lastSeen  lastSeen
}

func newRecords(now func() time.Time) *records {
	return &records{now: now, jobs: map[string]*record{}, announced: map[string]ahead{}}
}

// announce takes in whom the master expects answers of. It comes a moment before the
// job itself. A minion can forge it, so it is only shown.
func (r *records) announce(jid string, minions []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if job := r.jobs[jid]; job != nil {
		r.expect(job, minions)
		r.trim()
		return
	}
	a := ahead{minions: minions}
	for _, id := range minions {
		a.weight += weight(id)
	}
	if a.weight > maxAhead {
		return
	}
	if old, ok := r.announced[jid]; ok {
		r.before -= old.weight
	} else {
		r.waiting = append(r.waiting, jid)
	}
	r.announced[jid] = a
	r.before += a.weight
	for len(r.waiting) > maxAnnounced || r.before > maxAhead {
		r.before -= r.announced[r.waiting[0]].weight
		delete(r.announced, r.waiting[0])
		r.waiting = r.waiting[1:]
	}
}

func (r *records) expect(job *record, minions []string) {
	if job.expected == nil {
		job.expected = make(map[string]struct{}, len(minions))
	}
	for _, id := range minions { // perhaps of a part of a batch
		if _, ok := job.expected[id]; !ok && r.room(job, id) {
			job.expected[id] = struct{}{}
		}
	}
}

// room takes an id's weight into account, if the job may have it.
func (r *records) room(job *record, id string) bool {
	w := weight(id)
	if job.weight+w > maxOfJob {
		return false
	}
	job.weight += w
	r.weight += w
	return true
}

// add begins the record of a job, or of one more part of it.
func (r *records) add(jid, fun, target, user string, peers []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	job := r.jobs[jid]
	if job == nil {
		job = &record{jid: jid, fun: fun, target: target, user: user, at: r.now(), returned: map[string]string{},
			peers: map[string]*outcomes{}}
		r.jobs[jid] = job
		r.order = append(r.order, jid)
	}
	for _, name := range peers {
		if job.peers[name] == nil {
			job.peers[name] = &outcomes{}
		}
		job.peers[name].pending++
	}
	if a, ok := r.announced[jid]; ok {
		r.expect(job, a.minions)
		r.before -= a.weight
		delete(r.announced, jid)
		r.waiting = slices.DeleteFunc(r.waiting, func(w string) bool { return w == jid })
	}
	r.trim()
}

func (r *records) trim() {
	for len(r.order) > 1 && (len(r.order) > maxRecords || r.weight > maxRecorded) {
		r.weight -= r.jobs[r.order[0]].weight
		delete(r.jobs, r.order[0])
		r.order = r.order[1:]
	}
}

// ack takes in what a peer, or the way to it, made of a job, or of a part of it.
func (r *records) ack(jid, peer string, t outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if job := r.jobs[jid]; job != nil && job.peers[peer] != nil {
		job.peers[peer].take(t)
	}
}

// came takes in that a minion returned by a master.
func (r *records) came(jid, id, master string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastSeen.set(id, master)
	job := r.jobs[jid]
	if job == nil {
		return
	}
	if _, ok := job.returned[id]; !ok && r.room(job, id) {
		job.returned[id] = master
		r.trim()
	}
}

// seenOn notes on which master a minion was seen.
func (r *records) seenOn(id, master string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastSeen.set(id, master)
}

// seen reports whether a minion was seen anywhere.
func (r *records) seen(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.lastSeen.get(id)
	return ok
}

// minionsAt is how many minions were seen on each master last.
func (r *records) minionsAt() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lastSeen.count()
}

// divide divides minions into those that were seen here last, and the others.
func (r *records) divide(stamps map[string]int64) (mine, others map[string]int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	mine, others = map[string]int64{}, map[string]int64{}
	for id, stamp := range stamps {
		if at, ok := r.lastSeen.get(id); ok && at == here {
			mine[id] = stamp
		} else {
			others[id] = stamp
		}
	}
	return mine, others
}
