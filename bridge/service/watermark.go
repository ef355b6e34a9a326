package service

import (
	"time"

	"phoenix/bridge/fleet"
)

const (
	// overlap: rows are read again for that long behind the watermark, since other
	// hosts' clocks write Modified and an index may lag.
	overlap = 15 * time.Minute
	// ahead: a row stamped further ahead of our clock than that is stamped wrongly,
	// by its clock or ours.
	ahead = 10 * time.Minute
	// fullEvery: from time to time all rows are read.
	fullEvery = time.Hour
)

// watermark says from when on rows that say TERMINATE are to be read again. No
// clock is trusted alone: the newest stamp seen may be of a clock that is ahead,
// and the time of our own reading may be, too. The earlier of the two is taken.
type watermark struct {
	newest time.Time // of the stamps seen that are not ahead of our clock
	readAt time.Time // begin of the last reading, by our clock
}

// saw records the stamp of a row.
func (w *watermark) saw(row fleet.Minion, wall time.Time) {
	if at, err := fleet.ParseTime(row.Modified); err == nil && at.After(w.newest) && !future(row, wall) {
		w.newest = at
	}
}

// future reports whether a row is stamped ahead of our clock.
func future(row fleet.Minion, wall time.Time) bool {
	at, err := fleet.ParseTime(row.Modified)
	return err == nil && at.Sub(wall) > ahead
}

// since returns the first Modified to read; empty: all.
func (w *watermark) since() string {
	at := w.newest
	if w.readAt.Before(at) {
		at = w.readAt
	}
	if at.IsZero() {
		return ""
	}
	return fleet.FormatTime(at.Add(-overlap))
}

// clockWatch finds that the time of day was set.
type clockWatch struct{ now, wall time.Time }

// mostDrift is more than a clock that is corrected slowly drifts between two polls.
const mostDrift = time.Minute

// stepped reports whether the wall clock has gone on by another time than now,
// which is monotonic, since the last call.
func (s *clockWatch) stepped(now, wall time.Time) bool {
	wall = wall.Round(0) // without the monotonic reading
	before := *s
	s.now, s.wall = now, wall
	if before.now.IsZero() {
		return false
	}
	return (wall.Sub(before.wall) - now.Sub(before.now)).Abs() > mostDrift
}
