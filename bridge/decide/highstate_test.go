package decide

import (
	"testing"
	"time"

	"phoenix/bridge/fleet"
)

var (
	noon   = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	policy = Policy{Enabled: true, Attempts: 3, Lease: lease}
	self   = Self{ID: "m1", Incarnation: "now", Beating: true, Slots: 1}
)

// course is that of an accepted minion that is connected here, seen long ago.
func course(change ...func(*HighstateView)) HighstateView {
	c := HighstateView{Row: fleet.Minion{InstanceID: "i-1", Status: fleet.Launch, KeySHA256: "A"},
		RowAt: noon, Since: noon.Add(-time.Hour), Accepted: true, ConnectedAt: noon}
	for _, f := range change {
		f(&c)
	}
	return c
}

func claimedBy(owner, incarnation string) func(*HighstateView) {
	return func(c *HighstateView) {
		c.Row.ClaimState, c.Row.ClaimOwner, c.Row.ClaimIncarnation = fleet.Claimed, owner, incarnation
		c.Row.ClaimJID, c.Row.Attempt, c.Row.ClaimVersion = "J", 1, 1
	}
}

func failed(attempt int) func(*HighstateView) {
	return func(c *HighstateView) {
		claimedBy("m1", "now")(c)
		c.Row.ClaimState, c.Row.Attempt = fleet.Failed, attempt
	}
}

func mine(c *HighstateView)      { claimedBy("m1", "now")(c); c.Taken = TakenNew }
func published(c *HighstateView) { mine(c); c.Published, c.Since = noon, noon }
func gone(c *HighstateView)      { c.ConnectedAt = time.Time{} }
func unknown(n int) change       { return func(c *HighstateView) { c.Asks, c.Unknowns = max(c.Asks, 1), n } }
func taken(how Taken) change     { return func(c *HighstateView) { c.Taken = how } }

func hot(c *HighstateView) { c.Hot = noon }

func busy(times int) change {
	return func(c *HighstateView) { c.Row.ClaimJID, c.Busies = "J", times }
}

type change = func(*HighstateView)

func TestNext(t *testing.T) {
	for _, test := range []struct {
		name   string
		owner  Liveness
		policy func(*Policy)
		self   func(*Self)
		course []change
		want   Act
		in     time.Duration // for Wait: from noon
	}{
		{name: "terminated", course: []change{func(c *HighstateView) { c.Row.Status = fleet.Terminate }}, want: Rest},
		{name: "ran", course: []change{func(c *HighstateView) { c.Row.HighstateRan = true }}, want: Rest},
		{name: "adopted", course: []change{func(c *HighstateView) { c.Row.HighstateRunner = fleet.RunnerAdopted }},
			want: Rest},
		{name: "switched off", policy: func(p *Policy) { p.Enabled = false }, want: Rest},
		{name: "key not accepted here", course: []change{func(c *HighstateView) { c.Accepted = false }}, want: Rest},
		{name: "own beats fail", self: func(s *Self) { s.Beating = false }, want: Wait, in: unreadyWait},

		{name: "wanted", want: Take},
		{name: "wanted, no slot", self: func(s *Self) { s.Slots = 0 }, want: Queue},
		{name: "wanted, not seen here", course: []change{gone}, want: Ping},
		{name: "wanted, seen here too long ago",
			course: []change{func(c *HighstateView) { c.ConnectedAt = noon.Add(-connectedFor) }}, want: Ping},
		{name: "wanted, pinged just now", course: []change{gone, func(c *HighstateView) { c.Pinged = noon }},
			want: Wait, in: pingEvery},
		{name: "wanted, pinged long ago",
			course: []change{gone, func(c *HighstateView) { c.Pinged = noon.Add(-pingEvery) }}, want: Ping},

		{name: "failed just now", course: []change{failed(1), func(c *HighstateView) { c.Since = noon }}, want: Wait,
			in: retryFirst},
		{name: "failed twice just now", course: []change{failed(2), func(c *HighstateView) { c.Since = noon }},
			want: Wait, in: 4 * retryFirst},
		{name: "failed a while ago", course: []change{failed(2)}, want: Take},
		{name: "failed for good", course: []change{failed(3)}, want: Rest},
		{name: "busy just now", course: []change{busy(1), func(c *HighstateView) { c.Since = noon }}, want: Wait,
			in: busyFirst},
		{name: "busy again", course: []change{busy(3), func(c *HighstateView) { c.BusyAt = noon }}, want: Wait,
			in: 4 * busyFirst},
		{name: "busy for long", course: []change{busy(30), func(c *HighstateView) { c.BusyAt = noon }}, want: Wait,
			in: busyMost},
		{name: "busy a while ago", course: []change{busy(1)}, want: Ask},
		{name: "busy, and asked", course: []change{busy(1), func(c *HighstateView) { c.Asked, c.Asks = noon, 1 }},
			want: Wait, in: askFirst},
		{name: "busy, and mute", course: []change{busy(1), func(c *HighstateView) { c.Asks = freeAsks }}, want: Take},
		{name: "busy, not seen here", course: []change{busy(1), gone}, want: Ask},
		{name: "busy, mute, not seen here",
			course: []change{busy(1), gone, func(c *HighstateView) { c.Asks = freeAsks }}, want: Ping},
		{name: "free again", course: []change{busy(2), func(c *HighstateView) { c.Free = noon }}, want: Take},
		{name: "free before it was busy",
			course: []change{busy(1), func(c *HighstateView) { c.Free = noon.Add(-2 * time.Hour) }}, want: Ask},

		{name: "claimed", course: []change{mine}, want: Publish},
		{name: "claimed, no slot left", course: []change{mine}, self: func(s *Self) { s.Slots = 0 }, want: Publish},
		{name: "published", course: []change{published}, want: Wait, in: askFirst},
		{name: "return overdue", course: []change{published,
			func(c *HighstateView) { c.Published, c.Since = noon.Add(-askFirst), noon.Add(-askFirst) }}, want: Ask},
		{name: "asked once", course: []change{published, func(c *HighstateView) { c.Asked, c.Asks = noon, 1 }},
			want: Wait, in: 2 * askFirst},
		{name: "asked often", course: []change{published, func(c *HighstateView) { c.Asked, c.Asks = noon, 20 }},
			want: Wait, in: askMost},
		{name: "not run by the minion", course: []change{published, func(c *HighstateView) { c.NotRunning = noon }},
			want: Trace},
		{name: "unknown once", course: []change{published, unknown(1)}, want: Wait, in: 2 * askFirst},
		{name: "unknown, and soon asked again",
			course: []change{published, unknown(1), func(c *HighstateView) { c.Missing = true }}, want: Wait,
			in: askFirst},
		{name: "unknown to the minion", course: []change{published, unknown(2)}, want: Publish},
		{name: "came to the minion twice", course: []change{published, func(c *HighstateView) { c.Doubled = true }},
			want: Wait, in: askFirst},
		{name: "sent again", course: []change{published, unknown(0), func(c *HighstateView) { c.Resent = true }},
			want: Wait, in: 2 * askFirst},
		{name: "sent again, unknown", course: []change{published, unknown(1),
			func(c *HighstateView) { c.Resent = true }}, want: Wait, in: 2 * askFirst},
		{name: "lost", course: []change{published, unknown(2), func(c *HighstateView) { c.Resent = true }},
			want: Finish},
		{name: "unknown, and keeps no jobs",
			course: []change{published, unknown(2), func(c *HighstateView) { c.NoCache = true }}, want: Wait,
			in: rereadEvery},
		{name: "sent again, and keeps no jobs",
			course: []change{published, unknown(3), func(c *HighstateView) { c.NoCache, c.Resent = true, true }},
			want:   Wait, in: rereadEvery},
		{name: "taken over, and keeps no jobs",
			course: []change{published, unknown(3), taken(TakenOver), func(c *HighstateView) { c.NoCache = true }},
			want:   Wait, in: rereadEvery},

		{name: "taken over", course: []change{mine, taken(TakenOver)}, want: Ask},
		{name: "taken over, asked", course: []change{mine, taken(TakenOver),
			func(c *HighstateView) { c.Asked, c.Asks = noon, 1 }}, want: Wait, in: 2 * askFirst},
		{name: "taken over, unknown", course: []change{mine, taken(TakenOver), unknown(2)}, want: Publish},
		{name: "taken over, unknown once",
			course: []change{mine, taken(TakenOver), unknown(1), func(c *HighstateView) { c.Asked = noon }}, want: Wait,
			in: 2 * askFirst},
		{name: "found to be mine", course: []change{mine, taken(TakenNot)}, want: Ask},
		{name: "mine, of a former life", course: []change{claimedBy("m1", "before")}, want: Take},
		{name: "mine, of a former life, not seen here", course: []change{claimedBy("m1", "before"), gone}, want: Take},

		{name: "another's", owner: Beating,
			course: []change{claimedBy("m2", "now"), func(c *HighstateView) { c.Since = noon }}, want: Wait,
			in: rereadEvery},
		{name: "another's, since long", owner: Beating, course: []change{claimedBy("m2", "now")}, want: Kind},
		{name: "another's, and nobody says whose", owner: Beating,
			course: []change{claimedBy("m2", "now"), func(c *HighstateView) { c.KindAsked, c.KindAsks = noon, 1 }},
			want:   Ask},
		{name: "another's, and everybody's", owner: Beating,
			course: []change{claimedBy("m2", "now"), hot, func(c *HighstateView) { c.Since = noon.Add(-time.Minute) }},
			want:   Wait, in: rereadEvery},
		{name: "another's, and everybody's, since long", owner: Beating,
			course: []change{claimedBy("m2", "now"), hot}, want: Ask},
		{name: "another's, and everybody's, asked", owner: Beating,
			course: []change{claimedBy("m2", "now"), hot,
				func(c *HighstateView) { c.Asked, c.Asks = noon.Add(-19*time.Minute), 1 }}, want: Wait,
			in: rereadEvery},
		{name: "another's, and everybody's, not run", owner: Beating,
			course: []change{claimedBy("m2", "now"), hot, func(c *HighstateView) { c.NotRunning = noon }}, want: Trace},
		{name: "another's, and once unknown to the minion", owner: Beating,
			course: []change{claimedBy("m2", "now"), hot, unknown(1), func(c *HighstateView) { c.Asked = noon }},
			want:   Wait, in: rereadEvery},
		{name: "another's, and unknown to the minion", owner: Beating,
			course: []change{claimedBy("m2", "now"), hot, unknown(unknownsToAct)}, want: Take},
		{name: "another's, unknown to the minion, and sent here under another jid", owner: Beating,
			course: []change{claimedBy("m2", "now"), hot, unknown(unknownsToAct),
				func(c *HighstateView) { c.SentAs, c.Asked = "X", noon }}, want: Wait, in: rereadEvery},
		{name: "another's, which may have ended", owner: Beating,
			course: []change{claimedBy("m2", "now"), hot, unknown(unknownsToAct),
				func(c *HighstateView) { c.NoCache, c.Asked = true, noon }}, want: Wait, in: rereadEvery},
		{name: "another's, not seen for long", owner: Unseen,
			course: []change{claimedBy("m2", "now"), func(c *HighstateView) { c.RowAt = noon.Add(-rereadEvery) }},
			want:   Read},
		{name: "another's, which stopped", owner: Stopped, course: []change{claimedBy("m2", "now")}, want: Take},
		{name: "another's, which stopped, no slot", owner: Stopped, course: []change{claimedBy("m2", "now")},
			self: func(s *Self) { s.Slots = 0 }, want: Take},
		{name: "another's, which stopped, not here", owner: Stopped,
			course: []change{claimedBy("m2", "now"), gone}, want: Ping},
		{name: "another's, which was retired", owner: Retired, course: []change{claimedBy("m2", "now")}, want: Take},
		{name: "another's, but it moved here", owner: Beating,
			course: []change{claimedBy("m2", "now"), func(c *HighstateView) { c.Failover = true }}, want: Take},
		{name: "another's, not seen here", owner: Beating, course: []change{claimedBy("m2", "now"), gone}, want: Ping},
		{name: "another's, and it moved away", owner: Beating,
			course: []change{claimedBy("m2", "now"), gone,
				func(c *HighstateView) { c.Failover, c.Pinged = true, noon }}, want: Wait, in: rereadEvery},

		{name: "returned", course: []change{published, returned("J", fleet.Succeeded)}, want: Finish},
		{name: "returned to another", owner: Beating,
			course: []change{claimedBy("m2", "now"), returned("J", fleet.Erred)}, want: Finish},
		{name: "returned while own beats fail", self: func(s *Self) { s.Beating = false },
			course: []change{published, returned("J", fleet.Succeeded)}, want: Finish},
		{name: "returned after it was given up", course: []change{failed(1), returned("J", fleet.Succeeded)},
			want: Finish},
		{name: "failed after it was given up", course: []change{failed(3), returned("J", fleet.Erred)}, want: Rest},
		{name: "another job returned", course: []change{published, returned("K", fleet.Succeeded)}, want: Wait,
			in: askFirst},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, s := policy, self
			if test.policy != nil {
				test.policy(&p)
			}
			if test.self != nil {
				test.self(&s)
			}
			step := Highstate(p, s, test.owner, course(test.course...), noon)
			if step.Act != test.want || step.Reason == "" {
				t.Fatalf("%+v, want %s", step, test.want)
			}
			if test.want == Wait && step.At.Sub(noon) != test.in {
				t.Errorf("waits for %v, want %v", step.At.Sub(noon), test.in)
			}
		})
	}
}

func returned(jid string, how fleet.Outcome) change {
	return func(c *HighstateView) { c.Ended = &Ended{JID: jid, Outcome: how} }
}

func TestOccupies(t *testing.T) {
	long := func(c *HighstateView) {
		c.Since, c.Published, c.ConnectedAt = noon.Add(-time.Hour), noon.Add(-time.Hour), noon.Add(-time.Hour)
	}
	for name, test := range map[string]struct {
		course []change
		want   bool
	}{
		"unclaimed":              {[]change{}, false},
		"failed":                 {[]change{failed(1)}, false},
		"another's":              {[]change{claimedBy("m2", "now")}, false},
		"claimed":                {[]change{mine}, true},
		"published":              {[]change{published}, true},
		"runs long":              {[]change{published, long, func(c *HighstateView) { c.ConnectedAt = noon }}, true},
		"silent":                 {[]change{published, long}, false},
		"silent, just published": {[]change{published, long, func(c *HighstateView) { c.Published = noon }}, true},
		"nobody knows its end":   {[]change{published, func(c *HighstateView) { c.NoCache = true }}, false},
	} {
		if got := course(test.course...).Occupies("m1", noon); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestBackoffGrowsAndEnds(t *testing.T) {
	for attempt, want := range map[int]time.Duration{0: retryFirst, 1: retryFirst, 2: 4 * retryFirst,
		3: 16 * retryFirst, 4: retryMost, 1000: retryMost} {
		if got := backoff(attempt); got != want {
			t.Errorf("after attempt %d: %v, want %v", attempt, got, want)
		}
	}
}
