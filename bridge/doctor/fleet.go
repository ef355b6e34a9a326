package doctor

import (
	"errors"
	"io/fs"
	"slices"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/plural"
)

// maxBadRows is as many as a finding names.
const maxBadRows = 3

// clockMost is how far off a clock may be: AWS refuses requests at five minutes,
// and its Date header has whole seconds.
const clockMost = 30 * time.Second

// Fleet is what is found out with Phoenix's own configuration. What was not asked
// for is zero.
type Fleet struct {
	Config    string // its file; empty: there is none
	ConfigErr error

	Socket    string
	Bridge    *Bridge // nil: none answers
	BridgeErr error

	Store    string
	StoreErr error
	Rows     bool // the store has rows of masters or minions
	// Foreign are the accepted keys of this master that the store does not know; 0 where
	// the store cannot be read.
	Foreign int
	BadRows []error // of the store, one for each that cannot be decoded
	Tables  []Table

	Queues, Groups []Reached
	Calls          []Call
	Clock          *Clock
	Proof          *Proof

	OwnKey  string // this master's, or the one that the minion trusts; empty: not known
	Masters []MasterKey
	Follow  Follow
}

// Bridge is what a bridge on this machine says of itself.
type Bridge struct {
	Ready bool
	Why   string // it is not ready
	// Retired: its master's row says TERMINATE.
	Retired bool
	Twin    string // another bridge runs under the same instance_id
	// Unproven: the master beside it is not proven to serve.
	Unproven  bool
	Bus       string // why it is not connected; empty: it is, or bus is off
	Reach     bool   // to its store
	StoreErr  string // why its last heartbeat was not written; empty: it was
	Held      string // what delays its work
	OverLimit int    // terminations that its limit stops
	Breaker   string // why the circuit breaker of first highstates is open; empty: it is closed
	Relay     *Relay // nil: there is none
	// Removed are ids, the first of RemovedAll, whose keys were deleted here by hand.
	Removed    []string
	RemovedAll int
}

// Table is one of DynamoDB's.
type Table struct {
	Name   string
	Err    error    // it could not be looked at
	Faults []string // what it lacks
}

// Reached is a queue or a group.
type Reached struct {
	Name string
	Err  error
}

// Call is one that a bridge makes, tried so that it changes nothing.
type Call struct {
	Action string // IAM's name of it
	On     string
	Denied bool
	Err    error // something else was in the way
}

// Clock is this machine's less AWS's.
type Clock struct {
	Off    time.Duration
	Err    error
	Chrony bool // chronyc is there; else systemd-timesyncd is taken to set the clock
}

// Proof is what this instance wrote under its ARN.
type Proof struct {
	Wrote, Key string // digests; the second of the minion's own key
	Err        error
}

// MasterKey is what a master of the fleet says of its key.
type MasterKey struct {
	InstanceID string
	Digest     string
}

// ExamineFleet makes findings of what was found out with a configuration.
func ExamineFleet(f Fleet) []Finding {
	var r report
	switch {
	case f.ConfigErr != nil:
		r.add(Error, "configuration", say("correct the line that is named"), "%s", oneLine(f.ConfigErr))
		return r.findings
	case f.Config == "":
		r.add(Note, "configuration", say("see the README for /etc/phoenix/phoenix.yaml"),
			"there is none: only Salt was examined")
		return r.findings
	}
	r.ok("configuration", "%s, store %s", quote(f.Config), quote(f.Store))
	examineBridge(&r, f)
	examineRelay(&r, f.Bridge)
	examineRemoved(&r, f.Bridge)
	if errors.Is(f.StoreErr, fs.ErrNotExist) { // SQLite's, before the first start
		r.add(Note, "store", f.start(), "%s", oneLine(f.StoreErr))
	} else if f.StoreErr != nil {
		r.add(Error, "store", f.repair(), "%s", oneLine(f.StoreErr))
	} else {
		r.ok("store", "%s can be read", quote(f.Store))
	}
	if n := len(f.BadRows); n > 0 {
		r.add(Error, "store-rows", say("correct or delete what is named, then phoenix minions add or retire it"),
			"%d cannot be decoded, and are left out everywhere: %s",
			n, oneLine(errors.Join(f.BadRows[:min(n, maxBadRows)]...)))
	}
	for _, t := range f.Tables {
		switch {
		case t.Err != nil:
			r.add(Note, "tables", say("let its role do dynamodb:DescribeTable and dynamodb:DescribeTimeToLive, or see: aws dynamodb describe-table --table-name "+quote(t.Name)), "table %s was not read: %s", quote(t.Name), oneLine(t.Err))
		case len(t.Faults) > 0:
			for _, fault := range t.Faults {
				r.add(Error, "tables", say("see cloudformation/base.yaml, which makes the tables"), "table %s: %s",
					quote(t.Name), fault)
			}
		default:
			r.ok("tables", "table %s is as it must be", quote(t.Name))
		}
	}
	examineAWS(&r, f)
	examineFleetKey(&r, f)
	examineFollow(&r, f.Follow)
	return r.findings
}

// repair makes a store readable again.
func (f Fleet) repair() Fix {
	if errors.Is(f.StoreErr, fleet.ErrCorrupt) {
		return say("stop phoenix-bridge; phoenix store restore FILE; start it again (docs/backup.md)")
	}
	return say("remove the cause that is named, then: phoenix doctor")
}

// start starts the bridge. An existing fleet is adopted first (docs/deploy.md): then the key
// of each minion is bound before the bridge decides on any.
func (f Fleet) start() Fix {
	if f.StoreErr != nil && !errors.Is(f.StoreErr, fs.ErrNotExist) {
		return say("first repair the store: see store")
	}
	if f.Foreign > 0 {
		return say("first adopt " + plural.Of(f.Foreign, "accepted key") +
			": phoenix adopt --dry-run, then phoenix adopt; then systemctl enable --now phoenix-bridge")
	}
	return run("systemctl start phoenix-bridge")
}

func examineAWS(r *report, f Fleet) {
	for _, of := range []struct {
		check, fix string
		items      []Reached
	}{
		{"queues", "see sqs.queues, the region, and the role of this machine", f.Queues},
		{"groups", "see autoscaling.groups, the region, and the role of this machine", f.Groups},
	} {
		for _, item := range of.items {
			if item.Err != nil {
				r.add(Error, of.check, say(of.fix), "%s: %s", quote(item.Name), oneLine(item.Err))
			} else {
				r.ok(of.check, "%s answers", quote(item.Name))
			}
		}
	}
	for _, c := range f.Calls {
		switch {
		case c.Denied:
			r.add(Error, "permissions", say("allow it to the role of this machine: see cloudformation/base.yaml"),
				"IAM denies %s on %s", c.Action, quote(c.On))
		case c.Err != nil:
			r.add(Note, "permissions", Fix{}, "not known whether %s on %s is allowed: %s", c.Action, quote(c.On),
				oneLine(c.Err))
		default:
			r.ok("permissions", "%s on %s is allowed", c.Action, quote(c.On))
		}
	}
	if c := f.Clock; c != nil {
		switch {
		case c.Err != nil:
			r.add(Note, "clock", Fix{}, "AWS's clock is not known: %s", oneLine(c.Err))
		case c.Off.Abs() > clockMost:
			r.add(Error, "clock", c.step(), "this machine's clock is %v off AWS's", c.Off.Round(time.Second))
		default:
			r.ok("clock", "this machine's clock is within %v of AWS's", clockMost)
		}
	}
	if p := f.Proof; p != nil {
		switch fix := run("systemctl restart phoenix-agent").then("journalctl -u phoenix-agent"); {
		case p.Err != nil: // the agent does not learn it by a restart either
			r.add(Warning, "proof", say("let this machine reach its instance metadata (169.254.169.254); an agent that runs then writes the proof by itself"), "%s", oneLine(p.Err))
		case p.Wrote == "":
			r.add(Warning, "proof", fix, "this instance has written none")
		case p.Key != "" && p.Wrote != p.Key:
			r.add(Warning, "proof", fix, "this instance wrote the digest %.12s…, and the minion's key is %.12s…",
				p.Wrote, p.Key)
		default:
			r.ok("proof", "this instance has written its proof")
		}
	}
}

// step sets the clock at once. chronyd corrects a running clock slowly unless it is told
// otherwise; systemd-timesyncd sets it at its start if it is more than 0.4 s off.
func (c Clock) step() Fix {
	const server = "AWS's own time server is 169.254.169.123"
	if c.Chrony {
		return run("chronyc makestep").then(server)
	}
	return run("systemctl restart systemd-timesyncd").then(server)
}

func examineFleetKey(r *report, f Fleet) {
	if f.OwnKey == "" || len(f.Masters) == 0 {
		return
	}
	var others []string
	for _, m := range f.Masters {
		if m.Digest != f.OwnKey {
			others = append(others, m.InstanceID)
		}
	}
	slices.Sort(others)
	if len(others) > 0 {
		r.add(Error, "fleet-key", say("phoenix identity show (docs/identity.md: all masters share one key)"),
			"the key here is %.12s…, and another is that of %s", f.OwnKey, some(others))
	} else {
		r.ok("fleet-key", "all masters of the fleet have the key %.12s…", f.OwnKey)
	}
}

// Unread is the finding of a configuration of Salt that cannot be read.
func Unread(check, path string, err error) Finding {
	var r report
	r.add(Error, check, say("correct "+quote(path)), "%s", oneLine(err))
	return r.findings[0]
}
