package admin

import "time"

// Clock renders a point in time for people, alone in a sentence: in this machine's own
// zone, as date, journalctl and Salt's job ids have it, with the name of the zone.
func Clock(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05 MST") }

// TimeOfDay is Clock without the date, for what is near.
func TimeOfDay(t time.Time) string { return t.Local().Format("15:04:05 MST") }
