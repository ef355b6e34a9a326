package service

import (
	"errors"
	"time"

	"phoenix/bridge/autoscaling"
	"phoenix/bridge/fleet"
	"phoenix/bridge/relay"
)

// Report is all that a bridge says of itself. Service.Report knows nothing of the parts
// beside it: Version, Bus, Queue and Relay are left to whoever runs them.
type Report struct {
	InstanceID   string              `json:"instanceid"`
	Incarnation  string              `json:"incarnation"`
	Started      time.Time           `json:"started"`
	Master       fleet.Master        `json:"master"`
	Version      string              `json:"version"`
	Ready        bool                `json:"ready"`         // minions may be sent here
	NotReady     string              `json:"not_ready"`     // why not; empty: they may
	Proven       time.Time           `json:"proven"`        // when the master was last proven to serve; zero: never
	Unproven     bool                `json:"unproven"`      // it is not proven to serve now
	Retired      bool                `json:"retired"`       // the master's row says TERMINATE
	Twin         string              `json:"twin"`          // another bridge runs under this instance_id; empty: none
	StoreReached bool                `json:"store_reached"` // by the heartbeat, lately
	StoreError   string              `json:"store_error"`   // why the last heartbeat was not written; empty: it was
	Beat         time.Time           `json:"beat"`          // the last that reached the store; zero: none
	Counts       Counts              `json:"counts"`
	Bus          BusReport           `json:"bus"`
	Engine       Status              `json:"engine"`
	Queue        *autoscaling.Status `json:"queue"` // null: neither queue nor group is named
	Relay        *relay.Status       `json:"relay"` // null: there is none (relay.listen)
}

// BusReport is how the master's event bus is doing.
type BusReport struct {
	Connected bool   `json:"connected"`
	Framing   string `json:"framing"`
	Events    uint64 `json:"events"`
	Malformed uint64 `json:"malformed"`
	Gaps      uint64 `json:"gaps"`
	Error     string `json:"error"` // why it is not connected, or was not before
}

// LastStep is when the engine's loop last came round, or when it began.
func (s *Service) LastStep() time.Time {
	if at := s.engine.Status().At; at.After(s.started) {
		return at
	}
	return s.started
}

// Brief returns the report with the first problems of each kind only, as somebody who asks
// every few seconds wants it.
func (r Report) Brief() Report {
	r.Engine.Problems = brief(r.Engine.Problems)
	return r
}

// Report may be called by any goroutine. See the type for what it leaves out.
func (s *Service) Report() Report {
	r := Report{InstanceID: s.cfg.InstanceID, Incarnation: s.cfg.Incarnation, Started: s.started,
		Master: s.beats.Row(), StoreReached: s.beats.StoreReached(time.Now()), Engine: s.engine.Status(),
		Counts: s.audit.counters.Counts()}
	_, r.Beat = s.beats.last()
	r.Proven, r.Unproven = s.health.Proven(), s.health.Fault() != nil
	if err := s.Ready(); err != nil {
		r.NotReady = err.Error()
	}
	r.Ready = r.NotReady == ""
	if err := s.beats.Fault(); err != nil {
		r.StoreError, r.Retired = err.Error(), errors.Is(err, ErrRetired)
	}
	if err := s.beats.Twin(); err != nil {
		r.Twin = err.Error()
	}
	return r
}
