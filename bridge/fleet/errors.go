package fleet

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Errors of changes and stores. A store returns the errors of a Change wrapped with
// the id, and its own errors beside them.
var (
	// ErrNotFound: there is no row for that id, and the change does not make one.
	ErrNotFound = errors.New("not in the fleet")
	// ErrTerminated: the row says TERMINATE, which is final.
	ErrTerminated = errors.New("terminated")
	// ErrOtherKey: another key is bound to the row.
	ErrOtherKey = errors.New("another key is bound to it")
	// ErrConflict: another master wrote the claim first; read the row and decide again.
	ErrConflict = errors.New("claim was written by another")
	// ErrClaimed: a highstate is under way.
	ErrClaimed = errors.New("a highstate is under way")
	// ErrPrecondition: the change does not fit the row (a highstate that has already
	// run, a jid that the row does not have).
	ErrPrecondition = errors.New("does not fit the row")

	// ErrUnavailable: the store did not answer, or was too busy; the same call may
	// succeed later. Whether a write that ended so took effect is unknown.
	ErrUnavailable = errors.New("store unavailable")
	// ErrCorrupt: the store's data is damaged; a retry does not help.
	ErrCorrupt = errors.New("store damaged")
	// ErrDenied: this user may not read or write the store.
	ErrDenied = errors.New("store access denied")
)

// BadRowsError names rows that a store could not decode. Everything else about the
// call that returned it succeeded. It is ErrCorrupt.
type BadRowsError struct {
	Rows map[string]error // by instance id
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

// WithoutBadRows returns the rows that err names if it is a *BadRowsError, and err
// otherwise.
func WithoutBadRows(err error) (bad map[string]error, rest error) {
	if e, ok := errors.AsType[*BadRowsError](err); ok {
		return e.Rows, nil
	}
	return nil, err
}
