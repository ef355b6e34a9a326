package fleet

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

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

// BadRowsError names rows that a store could not decode. The call that returned
// it is complete in everything else. It is ErrCorrupt.
type BadRowsError struct {
	Rows map[string]error // what is wrong, by instance id
}

// BadRows returns a *BadRowsError of rows, or nil if there are none.
func BadRows(rows map[string]error) error {
	if len(rows) == 0 {
		return nil
	}
	return &BadRowsError{rows}
}

// maxNamed bounds how many rows an error text names.
const maxNamed = 3

func (e *BadRowsError) Error() string {
	ids := slices.Sorted(maps.Keys(e.Rows))
	var named []string
	for _, id := range ids[:min(len(ids), maxNamed)] {
		named = append(named, e.Rows[id].Error())
	}
	if more := len(ids) - maxNamed; more > 0 {
		named = append(named, fmt.Sprintf("and %d more", more))
	}
	return "read rows: " + strings.Join(named, "; ")
}

// Is reports whether target is ErrCorrupt.
func (e *BadRowsError) Is(target error) bool { return target == ErrCorrupt }

// WithoutBadRows returns the bad rows that err names and what is left of err:
// nil if it was a *BadRowsError and nothing else.
func WithoutBadRows(err error) (bad map[string]error, rest error) {
	if e, ok := errors.AsType[*BadRowsError](err); ok {
		return e.Rows, nil
	}
	return nil, err
}
