package autoscaling

import (
	"testing"
	"testing/synctest"
	"time"

	"phoenix/bridge/fleet"
)

// TestBrakeOfMessagesIsShared: what another master ended, or an operator, counts; so
// does what this one did, though its rows bear another host's time; and for an hour.
func TestBrakeOfMessagesIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		room := func(b *terminationLimit) int {
			t.Helper()
			n, err := b.room(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		one, two := &terminationLimit{store: store}, &terminationLimit{store: store}
		two.resize(400)
		if room(one) != 10 || room(two) != 20 {
			t.Errorf("at first %d, %d", room(one), room(two))
		}
		for i := range 6 {
			if _, err := store.Apply(t.Context(),
				[]fleet.Change{fleet.Retire{InstanceID: instance(i), Inferred: i == 0}}); err != nil {
				t.Fatal(err)
			}
		}
		one.wrote(8) // two of them with a host's clock that is a day late
		if room(one) != 2 || room(two) != 14 {
			t.Errorf("after six and eight: %d, %d", room(one), room(two))
		}
		time.Sleep(limitWindow + time.Second)
		if room(one) != 10 || room(two) != 20 {
			t.Errorf("after an hour %d, %d", room(one), room(two))
		}
	})
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		row  fleet.Minion
		want bool
	}{
		"now":              {fleet.Minion{Modified: fleet.FormatTime(now)}, true},
		"a clock ahead":    {fleet.Minion{Modified: fleet.FormatTime(now.Add(10 * time.Minute))}, true},
		"from the future":  {fleet.Minion{Modified: "2099-01-01T00:00:00.000Z"}, false},
		"no time":          {fleet.Minion{Modified: "soon"}, false},
		"a tombstone":      {fleet.Minion{Modified: fleet.FormatTime(now), Expires: 1}, false},
		"two hours ahead":  {fleet.Minion{Modified: fleet.FormatTime(now.Add(2 * time.Hour))}, false},
		"half an hour ago": {fleet.Minion{Modified: fleet.FormatTime(now.Add(-30 * time.Minute))}, true},
	} {
		if got := endedLately(c.row, now); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
