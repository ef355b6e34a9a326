package fleet

import "time"

// Change is one conditional write of one minion's row: its condition and its effect
// in one pure function.
type Change interface {
	// Instance is the key of the row.
	Instance() string
	// Apply returns the row after the change, or the reason why it does not apply.
	// found is false if there is no row; row is then the zero Minion. A returned row
	// equal to the given one means that nothing has to be written, and is a success:
	// so each change is safe to repeat, and a lost answer is harmless. The store sets
	// Modified.
	Apply(row Minion, found bool) (Minion, error)
}

// Add records that an instance launched, by a message of AutoScaling or by an
// operator. It does not revive a terminated instance, unless Revive says that the id
// is used again, which happens off AWS.
type Add struct {
	InstanceID string
	MinionID   string
	Group      string
	Revive     bool
	HookName   string // the lifecycle hook that waits until its highstate ran
	Adopted    bool   // launched before the fleet began: a new row is adopted
}

func (c Add) Instance() string { return c.InstanceID }

func (c Add) Apply(row Minion, found bool) (Minion, error) {
	switch {
	case !found:
		row = Minion{InstanceID: c.InstanceID, Status: Launch, MinionID: c.MinionID, Group: c.Group,
			HookName: c.HookName}
		if c.Adopted {
			row.HighstateRunner = RunnerAdopted
		}
		return row, nil
	case row.Status == Terminate && c.Revive:
		// The version keeps counting: a claim of the former instance must not match.
		return Minion{InstanceID: c.InstanceID, Status: Launch, MinionID: c.MinionID, Group: c.Group,
			HookName: c.HookName, ClaimVersion: row.ClaimVersion + 1}, nil
	case row.Status == Terminate:
		return row, ErrTerminated
	}
	if row.MinionID == "" {
		row.MinionID = c.MinionID
	}
	if row.Group == "" {
		row.Group = c.Group
	}
	// The greater name, so that the order of messages does not matter.
	row.HookName = max(row.HookName, c.HookName)
	return row, nil
}

// Adopt adds a minion whose key was accepted before Phoenix knew of it: the key is
// bound, and a highstate runs only on request.
type Adopt struct {
	InstanceID string
	MinionID   string
	KeySHA256  string
	PublicKey  string
}

func (c Adopt) Instance() string { return c.InstanceID }

func (c Adopt) Apply(row Minion, found bool) (Minion, error) {
	switch {
	case c.KeySHA256 == "":
		return row, ErrPrecondition
	case !found:
		row = Minion{InstanceID: c.InstanceID, Status: Launch, MinionID: c.MinionID}
	case row.Status == Terminate:
		return row, ErrTerminated
	case row.KeySHA256 == c.KeySHA256:
		return row, nil
	case row.KeySHA256 != "":
		return row, ErrOtherKey
	case row.ClaimState == Claimed:
		return row, ErrClaimed
	}
	if row.MinionID == "" {
		row.MinionID = c.MinionID
	}
	row.KeySHA256, row.PublicKey = c.KeySHA256, c.PublicKey
	if !row.HighstateRan { // the runner of one that ran is kept
		row.HighstateRunner = RunnerAdopted
	}
	return row, nil
}

// Retire records that an instance was terminated. It makes the row if there is none,
// so that a launch message that arrives late revives nothing.
type Retire struct {
	InstanceID string
	Group      string
	HookName   string // the lifecycle hook that waits until its key is deleted
	Inferred   bool   // see Minion.Inferred
}

func (c Retire) Instance() string { return c.InstanceID }

func (c Retire) Apply(row Minion, found bool) (Minion, error) {
	if row.Expires != 0 {
		return row, nil // a tombstone stays as it is
	}
	if row.Status != Terminate {
		row.InstanceID, row.Status, row.Inferred = c.InstanceID, Terminate, c.Inferred
		row.HookName = "" // the launch's hook no longer matters
	}
	if row.Group == "" {
		row.Group = c.Group // so that the order of launch and termination does not matter
	}
	row.HookName = max(row.HookName, c.HookName)
	return row, nil
}

const (
	// TombstoneAfter: for so long a terminated row keeps all attributes, for people
	// who investigate.
	TombstoneAfter = 24 * time.Hour
	// TombstoneFor is longer than any queue keeps a message (SQS: 14 days). A launch
	// message that arrives later is checked with EC2.
	TombstoneFor = 30 * 24 * time.Hour
)

// ToTombstone returns the change that makes a tombstone of a row whose instance ended
// that long ago, and reports whether it is due. A row whose Modified cannot be
// parsed is due.
func ToTombstone(row Minion, after time.Duration, now time.Time) (c Tombstone, due bool) {
	ended, err := ParseTime(row.Modified)
	due = row.Status == Terminate && row.Expires == 0 && (err != nil || now.Sub(ended) >= after)
	return Tombstone{InstanceID: row.InstanceID, Expires: now.Add(TombstoneFor).Unix()}, due
}

// Tombstone reduces a terminated row to what must be remembered until it expires.
type Tombstone struct {
	InstanceID string
	Expires    int64 // Unix seconds
}

func (c Tombstone) Instance() string { return c.InstanceID }

func (c Tombstone) Apply(row Minion, found bool) (Minion, error) {
	switch {
	case !found:
		return row, ErrNotFound
	case row.Status != Terminate:
		return row, ErrPrecondition
	case row.Expires != 0:
		return row, nil
	}
	// The claim's version stays, see Add.Revive, and so does the key's digest, by
	// which a master that was down recognises the key, where ids are used again; and that
	// of the key which it replaced, which such a master may still have accepted.
	return Minion{InstanceID: row.InstanceID, Status: Terminate, MinionID: row.MinionID, KeySHA256: row.KeySHA256,
		ReplacedSHA256: row.ReplacedSHA256, ClaimVersion: row.ClaimVersion, Expires: c.Expires}, nil
}

// Bind binds a key to a row that has none. The first to bind wins; the same key again
// is a success. Replaces, an administrator's decision, is the digest of the bound key
// that the new one takes the place of: whoever decided saw that one, so a row that is
// bound to another by now, or to none, refuses. The first highstate is then needed
// again, unless the minion is adopted.
//
// Rebound is the digest of the key that every master is to replace where it has it
// accepted, which is an administrator's decision, too: also of a row that has the new key
// already. The row keeps it until another key is bound, or another one is named so.
type Bind struct {
	InstanceID string
	MinionID   string // the Salt minion id, where it is not the instance id
	KeySHA256  string
	PublicKey  string
	Replaces   string
	Rebound    string
}

func (c Bind) Instance() string { return c.InstanceID }

func (c Bind) Apply(row Minion, found bool) (Minion, error) {
	switch {
	case c.KeySHA256 == "":
		return row, ErrPrecondition // an empty key would admit any key
	case !found:
		return row, ErrNotFound
	case row.Status == Terminate:
		return row, ErrTerminated
	case row.KeySHA256 == c.KeySHA256:
		if c.Rebound != "" && c.Rebound != c.KeySHA256 {
			row.ReplacedSHA256 = c.Rebound // one more key that masters may have accepted
		}
		return row, nil
	case row.KeySHA256 != c.Replaces:
		return row, ErrOtherKey
	}
	if row.KeySHA256 != "" {
		row = row.unclaimed()
	}
	if row.MinionID == "" {
		row.MinionID = c.MinionID
	}
	row.KeySHA256, row.PublicKey, row.ReplacedSHA256 = c.KeySHA256, c.PublicKey, ""
	if c.Rebound != c.KeySHA256 {
		row.ReplacedSHA256 = c.Rebound
	}
	return row, nil
}

// unclaimed returns the row without the outcome of its highstate; no earlier claim
// matches it.
func (m Minion) unclaimed() Minion {
	m.ClaimVersion++
	m.ClaimState, m.ClaimOwner, m.ClaimIncarnation, m.ClaimJID = Unclaimed, "", "", ""
	m.Attempt, m.Retcode = 0, nil
	if m.HighstateRan = false; !m.Adopted() {
		m.HighstateRunner = ""
	}
	return m
}
