package relay

import (
	"fmt"
	"time"
)

// Status is how the relay is doing.
type Status struct {
	Listen string `json:"listen"`
	Hears  bool   `json:"hears"` // what the master publishes
	Error  string `json:"error"` // why not
	Data   string `json:"data"`  // why data of minions is not shared; empty: it is
	Peers  []Peer `json:"peers"`
	Lost   *Lost  `json:"lost"` // the last job that did not reach a peer; null: none
	Counts
}

// Lost is a job of this master that did not reach another one.
type Lost struct {
	JID      string    `json:"jid"`
	Function string    `json:"function"`
	At       time.Time `json:"at"`
	Master   string    `json:"master"`
	State    string    `json:"state"`
	Why      string    `json:"why"`
	Minions  []string  `json:"minions"` // the first that are missing for it
	Count    int       `json:"count"`   // of all
}

// Peer is another master.
type Peer struct {
	Master    string    `json:"master"`
	Address   string    `json:"address"`
	Connected bool      `json:"connected"`
	Since     time.Time `json:"since"`
	Error     string    `json:"error,omitempty"`
	Minions   int       `json:"minions"` // that were seen there last
}

// Status may be called by any goroutine.
func (r *Relay) Status() Status {
	seen := r.records.minionsAt()
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Status{Listen: r.o.Listener.Addr().String(), Hears: r.listens, Lost: r.lastLost, Peers: []Peer{},
		Counts: r.counts}
	s.BytesSent, s.BytesReceived = r.traffic.sent.Load(), r.traffic.received.Load()
	if r.listenErr != nil {
		s.Error = r.listenErr.Error()
	}
	if s.Data = "the master keeps no data of minions in files (minion_data_cache: True, cache: localfs)"; r.share != nil {
		s.Data = r.share.status()
	}
	for _, name := range sorted(r.peers) {
		p := r.peers[name].status()
		p.Minions = seen[name]
		s.Peers = append(s.Peers, p)
	}
	return s
}

// Jobs returns the jobs of this master, newest first.
func (r *Relay) Jobs() []Job { return r.records.list(r.o.Instance, maxRecords) }

// Job returns one of them.
func (r *Relay) Job(jid string) (Job, error) {
	job, ok := r.records.show(jid, r.o.Instance, true)
	if !ok {
		return Job{}, fmt.Errorf("job %s is not among the last %d that this master published since its bridge started",
			jid, maxRecords)
	}
	return job, nil
}
