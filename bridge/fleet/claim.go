package fleet

import "slices"

// Claim acquires the right to run one minion's first highstate, or takes it over. The
// jid is stored here before anything is published.
type Claim struct {
	InstanceID  string
	From        int64 // the ClaimVersion that the claimer read
	Owner       string
	Incarnation string
	JID         string
	Attempt     int
}

func (c Claim) Instance() string { return c.InstanceID }

func (c Claim) Apply(row Minion, found bool) (Minion, error) {
	switch {
	case c.JID == "" || c.Owner == "":
		return row, ErrPrecondition
	case !found:
		return row, ErrNotFound
	case row.Status == Terminate:
		return row, ErrTerminated
	case row.ClaimVersion == c.From+1 && row.ClaimState == Claimed && row.ClaimJID == c.JID &&
		row.ClaimOwner == c.Owner && row.ClaimIncarnation == c.Incarnation:
		return row, nil // the same write, whose answer was lost
	case row.ClaimVersion != c.From:
		return row, ErrConflict
	case row.HighstateRan || row.ClaimState == Done || row.Adopted():
		return row, ErrPrecondition
	case row.ClaimState == Claimed && (row.ClaimJID != c.JID || row.Attempt != c.Attempt):
		return row, ErrPrecondition // a takeover keeps the jid: the minion drops a jid that it has seen
	case row.ClaimState != Claimed && (row.ClaimJID == c.JID || row.Attempt+1 != c.Attempt):
		return row, ErrPrecondition // a new attempt needs a new jid
	}
	row.ClaimVersion++
	row.ClaimState = Claimed
	row.ClaimOwner, row.ClaimIncarnation = c.Owner, c.Incarnation
	row.ClaimJID, row.Attempt = c.JID, c.Attempt
	return row, nil
}

// Rename records that the master published the claim's job under another jid, as a
// job cache that makes its own jids does. Returns and the minion's job cache have
// that jid from then on.
type Rename struct {
	InstanceID string
	From       int64 // the ClaimVersion that the claimer holds
	JID        string
	As         string
}

func (c Rename) Instance() string { return c.InstanceID }

func (c Rename) Apply(row Minion, found bool) (Minion, error) {
	switch {
	case c.JID == "" || c.As == "" || c.As == c.JID:
		return row, ErrPrecondition
	case !found:
		return row, ErrNotFound
	case row.ClaimVersion == c.From+1 && row.ClaimState == Claimed && row.ClaimJID == c.As:
		return row, nil // the same write, whose answer was lost
	case row.ClaimVersion != c.From || row.ClaimState != Claimed || row.ClaimJID != c.JID:
		return row, ErrConflict
	}
	row.ClaimVersion++
	row.ClaimJID = c.As
	return row, nil
}

// Outcome is how a job ended.
type Outcome string

const (
	Succeeded Outcome = "succeeded" // returned, retcode 0
	Erred     Outcome = "failed"    // returned, retcode not 0
	Busy      Outcome = "busy"      // returned "is running as PID": not an attempt
	Vanished  Outcome = "vanished"  // never returned, and the minion does not know the jid
)

// Finish records how the job of a claim ended. A return is a fact about its jid,
// whoever owns the claim by then. That a job vanished is a conclusion, which holds
// only for the version that it was drawn from.
type Finish struct {
	InstanceID string
	JID        string
	Outcome    Outcome
	Retcode    int
	From       int64 // for Vanished: the ClaimVersion that the claimer holds
}

func (c Finish) Instance() string { return c.InstanceID }

func (c Finish) Apply(row Minion, found bool) (Minion, error) {
	switch {
	case !slices.Contains([]Outcome{Succeeded, Erred, Busy, Vanished}, c.Outcome):
		return row, ErrPrecondition
	case !found:
		return row, ErrNotFound
	case row.ClaimJID != c.JID || c.JID == "":
		return row, ErrConflict
	case row.ClaimState == Done:
		return row, nil // success is final for its jid
	case row.ClaimState == Failed && c.Outcome != Succeeded:
		return row, nil // recorded before
	case row.ClaimState == Unclaimed && c.Outcome == Busy:
		return row, nil // recorded before: only Busy leaves the jid of an unclaimed row
	case row.ClaimState == Unclaimed:
		return row, ErrConflict
	case c.Outcome == Vanished && row.ClaimVersion != c.From:
		return row, ErrConflict
	}
	row.ClaimVersion++
	retcode := c.Retcode
	switch c.Outcome {
	case Succeeded:
		row.ClaimState, row.Retcode = Done, &retcode
		row.HighstateRan, row.HighstateRunner = true, row.ClaimOwner
	case Erred:
		row.ClaimState, row.Retcode = Failed, &retcode
	case Busy:
		row.ClaimState, row.Attempt = Unclaimed, row.Attempt-1
	case Vanished:
		row.ClaimState, row.Retcode = Failed, nil
	}
	return row, nil
}

// Rerun requests a highstate: of an adopted minion, of one whose attempts are used up,
// or of one that had its highstate already. Force gives up a highstate that counts as
// running, for an operator who knows that it is not.
type Rerun struct {
	InstanceID string
	Force      bool
}

func (c Rerun) Instance() string { return c.InstanceID }

func (c Rerun) Apply(row Minion, found bool) (Minion, error) {
	switch {
	case !found:
		return row, ErrNotFound
	case row.Status == Terminate:
		return row, ErrTerminated
	case row.ClaimState == Claimed && !c.Force:
		return row, ErrClaimed
	case row.WantsHighstate() && row.ClaimState == Unclaimed && row.Attempt == 0 && row.Requested():
		return row, nil // requested already
	}
	row = row.unclaimed()
	row.HighstateRunner = RunnerRequested
	return row, nil
}
