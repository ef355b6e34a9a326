package fleet

import (
	"context"
	"encoding/json"
	"fmt"
)

// Breaker is the fleet's record of how the last first highstates ended, by which the
// circuit breaker of first highstates decides. The zero Breaker is closed.
type Breaker struct {
	Version int64           `json:"-"`              // rises by one with each write
	Writer  string          `json:"writer"`         // who wrote it last: a master, or an operator
	Last    []BreakerResult `json:"last,omitempty"` // of one minion each, oldest first; as they were when it opened
	// Opened is when it opened, see FormatTime; empty: it is closed.
	Opened   string `json:"opened,omitempty"`
	OpenedBy string `json:"opened_by,omitempty"` // the master
	Reason   string `json:"reason,omitempty"`
	// Resumed is when an operator last closed it; empty: nobody has.
	Resumed   string `json:"resumed,omitempty"`
	ResumedBy string `json:"resumed_by,omitempty"`
}

// BreakerResult is how the last first highstate of one instance ended.
type BreakerResult struct {
	InstanceID string `json:"instanceid"`
	JID        string `json:"jid"`
	Failed     bool   `json:"failed"`
}

// Open reports whether no new first highstate may begin, on any master.
func (b Breaker) Open() bool { return b.Opened != "" }

// Breakers keeps the record; each Store does. It is one small record that is read and
// written as a whole.
type Breakers interface {
	// LastBreaker reads the record, the newest there is. If it cannot be decoded,
	// the error is ErrCorrupt, and the Breaker has only the Version to write over.
	LastBreaker(ctx context.Context) (Breaker, error)

	// WriteBreaker writes next over the record if that still has the Version before
	// next's, and reports whether the record is now the caller's. If it is not, now is
	// what another wrote. A write whose answer was lost, and that the next try finds, is
	// the caller's.
	WriteBreaker(ctx context.Context, next Breaker) (now Breaker, mine bool, err error)
}

// BreakersOf returns the Breakers of a store, or of the store that it wraps; nil if
// there are none.
func BreakersOf(s Store) Breakers {
	for {
		if b, is := s.(Breakers); is {
			return b
		}
		wrapper, is := s.(interface{ Unwrap() Store })
		if !is {
			return nil
		}
		s = wrapper.Unwrap()
	}
}

// Encode returns all but the version as text, for a store to keep.
func (b Breaker) Encode() (string, error) {
	text, err := json.Marshal(b)
	return string(text), err
}

// DecodeBreaker reads what Encode returned. Empty text is the zero Breaker.
func DecodeBreaker(version int64, text string) (Breaker, error) {
	b := Breaker{Version: version}
	if text == "" {
		return b, nil
	}
	if err := json.Unmarshal([]byte(text), &b); err != nil {
		return Breaker{Version: version}, fmt.Errorf("record of the circuit breaker: %w", err)
	}
	return b, nil
}
