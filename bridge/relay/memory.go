package relay

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"

	"phoenix/bridge/salt"
)

const (
	// keptFor is longer than any job can be on its way: a peer refuses what is more
	// than lateAfter late, and a connection is given up after silentFor.
	keptFor = 10 * time.Minute
	// maxKept bounds the memory: some 150 jobs a second for ten minutes. Past that
	// no job is carried, rather than one twice.
	maxKept = 100_000
)

// Whose a job is, besides the instance of a peer.
const (
	ofMaster  = ""               // this master published it for somebody here
	ofPhoenix = "phoenix bridge" // the bridge's own
)

// memory knows the jobs that were published here lately, and whose each is: a job id
// is one master's, and each load under it is published once more by nobody. There can
// be several loads: Salt 3008's batch mode publishes all its parts under one job id,
// each for other minions. It forgets by its own clock alone.
type memory struct {
	now func() time.Time

	mu    sync.Mutex
	jobs  map[string]*kept
	order []entry
	loads int // of all jobs
}

type kept struct {
	whose string
	at    time.Time
	loads map[digest]struct{}
}

type digest [sha256.Size]byte

type entry struct {
	jid string
	at  time.Time
}

func newMemory(now func() time.Time) *memory { return &memory{now: now, jobs: map[string]*kept{}} }

// digestOfLoad distinguishes loads of one job by what is run where.
func digestOfLoad(load salt.Load) digest {
	h := sha256.New()
	for _, name := range []string{"fun", "arg", "tgt", "tgt_type"} {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(load[name]))))
		h.Write(load[name])
	}
	return digest(h.Sum(nil))
}

// verdict is what the memory says of a job.
type verdict int

const (
	fresh   verdict = iota // it was not known, and is now
	known                  // it was, or the job id is another's
	crowded                // it was not, and there is no room to know it
)

// take makes a load known, and reports whether it was before. Of several that take the
// same one, one gets fresh.
func (m *memory) take(jid, whose string, load digest) verdict {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	m.forget(now)
	job := m.jobs[jid]
	if job != nil {
		if _, seen := job.loads[load]; seen || job.whose != whose {
			return known
		}
	}
	if m.loads >= maxKept {
		return crowded
	}
	if job == nil {
		job = &kept{whose: whose, loads: map[digest]struct{}{}}
		m.jobs[jid] = job
	}
	job.loads[load] = struct{}{}
	job.at = now
	m.loads++
	m.order = append(m.order, entry{jid, now})
	return fresh
}

// knows reports whether a job was published here lately.
func (m *memory) knows(jid string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.jobs[jid] != nil
}

// forget drops the jobs of which nothing new was said for keptFor.
func (m *memory) forget(now time.Time) {
	drop := 0
	for drop < len(m.order) && now.Sub(m.order[drop].at) > keptFor {
		e := m.order[drop]
		drop++
		if job := m.jobs[e.jid]; job != nil && !job.at.After(e.at) {
			m.loads -= len(job.loads)
			delete(m.jobs, e.jid)
		}
	}
	m.order = m.order[drop:]
}
