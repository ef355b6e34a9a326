package agent

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"phoenix/bridge/fleet"
)

// Masters reads the fleet's masters: all of them, or an error.
type Masters interface {
	Masters(ctx context.Context) ([]fleet.Master, error)
}

// Minion is the minion's machine, see [Local].
type Minion interface {
	Connected(ctx context.Context, known []Master) ([]string, error)
	Answers(ctx context.Context, m Master) bool
	Process() string
	Jobs() ([]Job, error)
	TrustedKey() (string, error)
	KeyPair
	OtherKeys() ([]string, error)
	Trust(digest string) error
	Restart(ctx context.Context) error
}

// File is the drop-in with the list, see [DropIn].
type File interface {
	Read() (Listed, error)
	Write(l List, running Running, trust string) (wrote bool, err error)
	PendingRestart() (PendingRestart, error)
	ClearPending() error
	Check(l List) error
	RemoveAlive(listed []string) (removed []string, err error)
}

// Options are the parts of an agent.
type Options struct {
	MinionID   string // determines its order of masters
	Order      Order
	Follow     Follow
	Interval   time.Duration // between two reads of the masters in the steady state
	Splay      time.Duration // the longest wait before a restart that should be soon
	Settle     time.Duration // the longest wait before one that can be late
	Highstates []string      // functions that may be a first highstate
	// LeaveAlone says why the minion must not be changed; empty: it may be.
	LeaveAlone string

	Masters Masters
	Minion  Minion
	File    File
	Proof   *Proof // nil: no proof of the minion's key is written
	Log     *slog.Logger
}

// validate returns all faults of the options.
func (o Options) validate() error {
	var faults []error
	if o.MinionID == "" {
		faults = append(faults, errors.New("minion id is empty"))
	}
	if !slices.Contains(Orders(), o.Order) {
		faults = append(faults, errors.New("order is neither spread nor sorted"))
	}
	if o.Interval < MinInterval {
		faults = append(faults, errors.New("interval is shorter than "+MinInterval.String()))
	}
	if o.Splay < 0 || o.Settle < 0 {
		faults = append(faults, errors.New("splay or settle is negative"))
	}
	if o.Follow < 0 || o.Follow > maxFollow {
		faults = append(faults, errors.New("follow is out of range"))
	}
	if o.Masters == nil || o.Minion == nil || o.File == nil || o.Log == nil {
		faults = append(faults, errors.New("masters, minion, file or log is missing"))
	}
	return errors.Join(faults...)
}
