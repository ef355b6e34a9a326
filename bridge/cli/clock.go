package cli

import (
	"time"

	"phoenix/bridge/admin"
	"phoenix/bridge/fleet"
)

// clock prints and reads the times of one table, all in one zone, which its title names
// once: this machine's own, with the offset that it has now. Local time may jump within a
// table, and one hour of the year is there twice.
type clock struct{ zone *time.Location }

func newClock(now time.Time) clock {
	name, offset := now.Zone()
	return clock{time.FixedZone(name, offset)}
}

// title is the title of a column of times: "CHANGED (CET)".
func (c clock) title(column string) string { return column + " (" + c.zone.String() + ")" }

// at is a point in time in a column.
func (c clock) at(t time.Time) string { return t.In(c.zone).Format(time.DateTime) }

// stamp is at of a time as the store has it; what is none is shown as it is.
func (c clock) stamp(text string) string {
	t, err := fleet.ParseTime(text)
	if err != nil {
		return text
	}
	return c.at(t)
}

// stamped is a time as the store has it, alone in a sentence.
func stamped(text string) string {
	t, err := fleet.ParseTime(text)
	if err != nil {
		return text
	}
	return admin.Clock(t)
}
