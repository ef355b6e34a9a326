package fleet

import "context"

// Heal is the fleet's record of masters that had themselves replaced. The zero Heal
// means that none has.
type Heal struct {
	Count      int64  // rises by one with each
	InstanceID string // the last
}

// Heals keeps that record; each Store does. Some time must pass between two
// replacements, and hosts' clocks are not compared: a master that wants to be next
// must have observed the record unchanged for that long, on its own clock, and may
// then overwrite what it read.
type Heals interface {
	// LastHeal reads the record, the newest there is.
	LastHeal(ctx context.Context) (Heal, error)

	// ClaimHeal overwrites the record if its count is still seen, and reports whether
	// the record is now the caller's. If it is not, now is another master's record.
	// A write whose answer was lost, and that the next try finds, is the caller's.
	ClaimHeal(ctx context.Context, instanceID string, seen int64) (now Heal, mine bool, err error)
}
