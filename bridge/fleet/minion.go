package fleet

import "time"

// Status is what AutoScaling or an operator last reported about an instance.
// Launch < Terminate: termination is final, in whatever order messages arrive.
type Status string

const (
	Launch    Status = "LAUNCH"
	Terminate Status = "TERMINATE"
)

// InstanceIDPattern is the form of every instance id that EC2 has given since 2006, as a
// regular expression.
const InstanceIDPattern = `^i-([0-9a-f]{8}|[0-9a-f]{17})$`

// ClaimState is the state of a minion's first highstate.
type ClaimState string

const (
	Unclaimed ClaimState = ""        // no master runs it
	Claimed   ClaimState = "claimed" // ClaimOwner runs ClaimJID, or is about to
	Done      ClaimState = "done"    // ClaimJID returned success
	Failed    ClaimState = "failed"  // attempt number Attempt failed, or its job was lost
)

// RunnerAdopted in HighstateRunner marks a minion that was there before Phoenix: its
// key is known, and Phoenix does not run its first highstate.
const RunnerAdopted = "adopted"

// RunnerRequested in HighstateRunner marks a minion whose highstate an operator asked
// for: it runs though the circuit breaker is open.
const RunnerRequested = "requested"

// Minion is one row of the minions table. The attribute names are the table's;
// those that the Phoenix of 2015 had keep the names it gave them.
type Minion struct {
	InstanceID       string     `json:"instanceid"`
	Status           Status     `json:"status"`
	Modified         string     `json:"modified"` // see FormatTime
	HighstateRan     bool       `json:"highstate_ran"`
	HighstateRunner  string     `json:"highstate_runner"` // the master that ran it, RunnerAdopted or RunnerRequested
	MinionID         string     `json:"minion_id"`
	Group            string     `json:"group"`      // Auto Scaling group
	KeySHA256        string     `json:"key_sha256"` // see KeyDigest; empty: no key bound yet
	PublicKey        string     `json:"public_key"` // PEM, byte for byte as the minion sent it
	ClaimVersion     int64      `json:"claim_version"`
	ClaimOwner       string     `json:"claim_owner"`
	ClaimIncarnation string     `json:"claim_incarnation"`
	ClaimJID         string     `json:"claim_jid"`
	ClaimState       ClaimState `json:"claim_state"`
	Attempt          int        `json:"attempt"` // number of the last attempt, from 1
	// of the last attempt that ended; nil: none did, or its job was lost
	Retcode *int  `json:"retcode"`
	Expires int64 `json:"expires,omitempty"` // Unix seconds (TTL); 0: never
	// lifecycle hook that waits, of the launch or of the termination
	HookName       string `json:"hook_name"`
	Inferred       bool   `json:"inferred"`        // TERMINATE was concluded from EC2; there was no message
	ReplacedSHA256 string `json:"replaced_sha256"` // of the key that KeySHA256 replaced; see Bind.Rebound
}

// Adopted reports whether Phoenix does not run the minion's first highstate.
func (m Minion) Adopted() bool { return m.HighstateRunner == RunnerAdopted }

// Requested reports whether an operator asked for the highstate that is wanted.
func (m Minion) Requested() bool { return m.HighstateRunner == RunnerRequested }

// WantsHighstate reports whether the first highstate is still to be run, or running.
// Package decide decides what to do about it.
func (m Minion) WantsHighstate() bool {
	return m.Status == Launch && !m.HighstateRan && !m.Adopted()
}

// SaltID returns the Salt minion id: MinionID where the row has one, and the
// instance id otherwise.
func (m Minion) SaltID() string {
	if m.MinionID != "" {
		return m.MinionID
	}
	return m.InstanceID
}

// timeLayout is UTC, of fixed width, in milliseconds, so that strings sort as times
// do: the index by-status is ordered by it.
const timeLayout = "2006-01-02T15:04:05.000Z"

// FormatTime renders t as the attribute "modified" does.
func FormatTime(t time.Time) string { return t.UTC().Format(timeLayout) }

// ParseTime reads what FormatTime wrote.
func ParseTime(s string) (time.Time, error) { return time.Parse(timeLayout, s) }
