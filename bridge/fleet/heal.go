package fleet

import "context"

// Heal is a fleet's one record of masters that had themselves replaced. Its zero
// value says that none ever had.
type Heal struct {
	Count      int64  // goes up by one with each
	InstanceID string // the last
}

// Heals keeps that record; each Store does. Between two of them some time must
// pass, which no host's clock tells another: whoever wants to be next must have
// seen the record unchanged for that long, on its own clock, and may then write
// over what it saw.
type Heals interface {
	// LastHeal reads the record, the newest there is.
	LastHeal(ctx context.Context) (Heal, error)

	// ClaimHeal writes over the record, if its count is still seen, and says
	// whether the record is now the caller's. If it is not, the record is another's,
	// as it stands now. A write whose answer was lost and that is found when it is
	// tried again is the caller's.
	ClaimHeal(ctx context.Context, instanceID string, seen int64) (now Heal, mine bool, err error)
}
