package fleet

import "time"

// Change is one conditional write of one minion's row: condition and effect in
// one pure function.
type Change interface {
	// Instance is the key of the row.
	Instance() string
	// Apply gives the row after the change, or says why it does not apply.
	// found is false if there is no row; row is then the zero Minion. A row that
	// comes back equal to the one given means "already so": nothing is written,
	// and it is a success. That makes each change safe to repeat, and an answer
	// that was lost on the way harmless. Modified is the store's to set.
	Apply(row Minion, found bool) (Minion, error)
}

// Add says that an instance launched, by a message of AutoScaling or by an
// operator. It never revives a terminated instance, unless Again says that the
// name has come again, as names do off AWS.
type Add struct {
	InstanceID string
	MinionID   string
	Group      string
	Again      bool
	HookName   string // a lifecycle hook holds the instance until its highstate ran
	Adopted    bool   // launched before the fleet began: a row that this makes is adopted
}

func (c Add) Instance() string { return c.InstanceID }

func (c Add) Apply(row Minion, found bool) (Minion, error) {
	switch {
	case !found:
		row = Minion{InstanceID: c.InstanceID, Status: Launch, MinionID: c.MinionID, Group: c.Group, HookName: c.HookName}
		if c.Adopted {
			row.HighstateRunner = RunnerAdopted
		}
		return row, nil
	case row.Status == Terminate && c.Again:
		// The version goes on counting: a claim of the former life must not fit.
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
	// The greater name, so that messages in any order end alike.
	row.HookName = max(row.HookName, c.HookName)
	return row, nil
}

// Adopt takes a minion whose key was accepted before Phoenix knew of it into
// the fleet: the key is bound, and no highstate is ever run unasked.
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
		return row, ErrAsked
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
	if !row.HighstateRan { // one that ran stays as it is told
		row.HighstateRunner = RunnerAdopted
	}
	return row, nil
}

// Retire says that an instance was terminated. It makes the row if there is
// none, so that a launch that comes late revives nobody.
type Retire struct {
	InstanceID string
	Group      string
	HookName   string // a lifecycle hook holds the instance until its key is gone
	Inferred   bool   // see Minion.Inferred
}

func (c Retire) Instance() string { return c.InstanceID }

func (c Retire) Apply(row Minion, found bool) (Minion, error) {
	if row.Expires != 0 {
		return row, nil // a tombstone stays as it is
	}
	if row.Status != Terminate {
		row.InstanceID, row.Status, row.Inferred = c.InstanceID, Terminate, c.Inferred
		row.HookName = "" // the launch's hook is moot
	}
	if row.Group == "" {
		row.Group = c.Group // so that a launch told before or after makes no difference
	}
	row.HookName = max(row.HookName, c.HookName)
	return row, nil
}

const (
	// StripAfter: so long a terminated row stays whole, for people who look into
	// what happened.
	StripAfter = 24 * time.Hour
	// TombstoneFor is longer than any queue keeps a message (SQS: 14 days): a
	// launch that comes later than that needs EC2's own word.
	TombstoneFor = 30 * 24 * time.Hour
)

// ToStrip gives the change that makes a tombstone of a row whose instance ended
// so long ago, if it is due. A row whose Modified nobody can read is due.
func ToStrip(row Minion, after time.Duration, now time.Time) (c Strip, due bool) {
	ended, err := ParseTime(row.Modified)
	due = row.Status == Terminate && row.Expires == 0 && (err != nil || now.Sub(ended) >= after)
	return Strip{InstanceID: row.InstanceID, Expires: now.Add(TombstoneFor).Unix()}, due
}

// Strip reduces a terminated row to a tombstone that expires.
type Strip struct {
	InstanceID string
	Expires    int64 // Unix seconds
}

func (c Strip) Instance() string { return c.InstanceID }

func (c Strip) Apply(row Minion, found bool) (Minion, error) {
	switch {
	case !found:
		return row, ErrNotFound
	case row.Status != Terminate:
		return row, ErrAsked
	case row.Expires != 0:
		return row, nil
	}
	// The claim's version stays, see Add.Again; and the key's digest, by which a
	// master that was away knows whose key it holds, where names come again.
	return Minion{InstanceID: row.InstanceID, Status: Terminate, MinionID: row.MinionID,
		KeySHA256: row.KeySHA256, ClaimVersion: row.ClaimVersion, Expires: c.Expires}, nil
}

// Bind ties a key to a row that has none. The first to bind wins; the same key
// again is a success. Rebind, an admin's word, ties another key and begins a
// new life: the highstate is wanted again (unless the minion was adopted).
type Bind struct {
	InstanceID string
	MinionID   string // the Salt minion id, where it is not the instance id
	KeySHA256  string
	PublicKey  string
	Rebind     bool
}

func (c Bind) Instance() string { return c.InstanceID }

func (c Bind) Apply(row Minion, found bool) (Minion, error) {
	switch {
	case c.KeySHA256 == "":
		return row, ErrAsked // no key would make room for any key
	case !found:
		return row, ErrNotFound
	case row.Status == Terminate:
		return row, ErrTerminated
	case row.KeySHA256 == c.KeySHA256:
		return row, nil
	case row.KeySHA256 != "" && !c.Rebind:
		return row, ErrOtherKey
	}
	if row.KeySHA256 != "" {
		row = row.unclaimed()
	}
	if row.MinionID == "" {
		row.MinionID = c.MinionID
	}
	row.KeySHA256, row.PublicKey = c.KeySHA256, c.PublicKey
	return row, nil
}

// unclaimed forgets how the highstate went, and outdates every claim on it.
func (m Minion) unclaimed() Minion {
	m.ClaimVersion++
	m.ClaimState, m.ClaimOwner, m.ClaimIncarnation, m.ClaimJID = Unclaimed, "", "", ""
	m.Attempt, m.Retcode = 0, nil
	if m.HighstateRan = false; !m.Adopted() {
		m.HighstateRunner = ""
	}
	return m
}
