package fleet

import "time"

// Master is one row of the masters table.
type Master struct {
	InstanceID      string `json:"instanceid"`
	Status          Status `json:"status"`
	Modified        string `json:"modified"`
	IPAddr          string `json:"ipaddr"`
	Heartbeat       int64  `json:"heartbeat"`   // counts up while the bridge lives; never a time
	Incarnation     string `json:"incarnation"` // new at each start of the bridge
	Ready           bool   `json:"ready"`       // minions may be sent here
	MasterKeySHA256 string `json:"master_key_sha256"`
	Draining        bool   `json:"draining"`               // minions move away from it; see Store.DrainMaster
	Zone            string `json:"zone,omitempty"`         // availability zone; empty: not known
	PublishPort     int    `json:"publish_port,omitempty"` // Salt's publish_port; 0: written by an older bridge
	RetPort         int    `json:"ret_port,omitempty"`     // Salt's ret_port; 0: written by an older bridge
	Relay           string `json:"relay,omitempty"`        // ADDRESS:PORT of its relay; empty: none
	Minions         int    `json:"minions,omitempty"`      // ids whose keys it has accepted; 0: not known yet
	Connected       int    `json:"connected,omitempty"`    // minions that are connected to it; 0: none, or not known
	Queued          int    `json:"queued,omitempty"`       // minions whose first highstate waits for a slot of it
	// DrainingSince is when the draining began, by the clock of who asked for it; empty: it
	// does not drain, or an older phoenix asked for it.
	DrainingSince string `json:"draining_since,omitempty"`
	// Cleared is written by bridges of older versions, and read by nothing. It stays
	// because the checksum of a row in SQLite covers it.
	Cleared int64 `json:"cleared,omitempty"`
	Expires int64 `json:"expires,omitempty"`
}

// Retired returns the row of a master whose instance was terminated. It expires as a
// minion's tombstone does.
func (m Master) Retired(instanceID string, now time.Time) Master {
	if m.Status != Terminate {
		m.InstanceID, m.Status, m.Ready = instanceID, Terminate, false
		m.Expires = now.Add(TombstoneFor).Unix()
	}
	return m
}

// Drained returns the row with its draining mark set or cleared. A master that drains
// already drains since then.
func (m Master) Drained(draining bool, now time.Time) Master {
	switch {
	case !draining:
		m.DrainingSince = ""
	case !m.Draining || m.DrainingSince == "":
		m.DrainingSince = FormatTime(now)
	}
	m.Draining = draining
	return m
}

// Beat is what a bridge writes about its own master every few seconds.
type Beat struct {
	InstanceID      string
	IPAddr          string
	Incarnation     string
	Ready           bool
	KeepReady       bool // keep the row's ready: a bridge that starts does not know yet
	MasterKeySHA256 string
	Zone            string
	PublishPort     int
	RetPort         int
	Relay           string
	Minions         int
	Connected       int
	Queued          int
}

// Apply returns the master's row after the beat: the counter goes up by one,
// across restarts of the bridge too. Draining and DrainingSince stay as they are: an operator on any
// host may set it. So does the zone of a beat that does not know it: an instance does
// not move. A master whose row says TERMINATE stays
// terminated: ErrTerminated.
func (b Beat) Apply(row Master, found bool) (Master, error) {
	if found && row.Status == Terminate {
		return row, ErrTerminated
	}
	row.InstanceID, row.Status, row.IPAddr = b.InstanceID, Launch, b.IPAddr
	row.Incarnation, row.MasterKeySHA256 = b.Incarnation, b.MasterKeySHA256
	if !b.KeepReady {
		row.Ready = b.Ready
	}
	if b.Zone != "" {
		row.Zone = b.Zone
	}
	row.PublishPort, row.RetPort, row.Relay = b.PublishPort, b.RetPort, b.Relay
	row.Minions, row.Connected, row.Queued = b.Minions, b.Connected, b.Queued
	row.Heartbeat++
	return row, nil
}
