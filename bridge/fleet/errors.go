package fleet

import "errors"

// What a Change may say no with. A store hands these on as they are (wrapped
// with the id), and beside them whatever it has to say of itself.
var (
	// ErrNotFound: there is no row for that id, and the change does not make one.
	ErrNotFound = errors.New("not in the fleet")
	// ErrTerminated: the row says TERMINATE, which is final.
	ErrTerminated = errors.New("terminated")
	// ErrOtherKey: another key is bound to the row.
	ErrOtherKey = errors.New("another key is bound to it")
	// ErrLost: somebody else wrote the claim first; read the row and think again.
	ErrLost = errors.New("claim was written by another")
	// ErrClaimed: a highstate is under way.
	ErrClaimed = errors.New("a highstate is under way")
	// ErrAsked: the change makes no sense for that row (a highstate that has
	// already run, a jid that the row does not know).
	ErrAsked = errors.New("does not fit the row")

	// ErrUnavailable: the store did not answer, or was too busy; the same call
	// may go through later. The effect of a write that ended so is unknown.
	ErrUnavailable = errors.New("store unavailable")
	// ErrCorrupt: the store's data is damaged; waiting does not help.
	ErrCorrupt = errors.New("store damaged")
	// ErrDenied: the store may not be read or written by this user.
	ErrDenied = errors.New("store access denied")
)
