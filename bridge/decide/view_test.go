package decide

import (
	"testing"
	"time"

	"phoenix/bridge/fleet"
)

func unknownTo(asked time.Time) Answer { return Answer{JID: "J", Asked: asked} }

func TestAnsweredUnknown(t *testing.T) {
	c := course(published) // at noon
	late := noon.Add(time.Minute)

	c.Answered(unknownTo(noon.Add(-time.Second)), late)
	c.Answered(unknownTo(noon), late)
	if c.Unknowns != 0 {
		t.Error("an answer to a question from before the publish counts against it")
	}
	if c.ConnectedAt != late {
		t.Error("who answers is here")
	}
	c.Answered(unknownTo(noon.Add(unknownAfter-1)), late)
	if c.Unknowns != 0 || !c.Missing {
		t.Error("an answer to a question from just after the publish counts against it")
	}
	first, second := noon.Add(30*time.Second), noon.Add(50*time.Second)
	c.Answered(unknownTo(second), late)
	c.Answered(unknownTo(second), late)
	c.Answered(unknownTo(first), late)
	if c.Unknowns != 1 {
		t.Errorf("one answer, twice, and one from before count as %d", c.Unknowns)
	}
	c.PublishedAt(late, false)
	if c.Published != late || c.Unknowns != 0 || c.Resent {
		t.Errorf("after a publish in doubt: %d, %v", c.Unknowns, c.Resent)
	}
	c.Unknowns = 1
	c.PublishedAt(late, true)
	c.Answered(unknownTo(second), late)
	if c.Unknowns != 0 || !c.Resent {
		t.Errorf("after it was sent again: %d, %v", c.Unknowns, c.Resent)
	}
	third := late.Add(time.Minute)
	c.Answered(unknownTo(third), third)
	c.Answered(Answer{JID: "J", Asked: third, Running: true}, third)
	if c.Unknowns != 0 {
		t.Error("what runs is unknown")
	}
}

func TestAnsweredAboutATakenClaim(t *testing.T) {
	c := course(claimedBy("m2", "now"))
	asked := noon.Add(time.Second)
	c.AskedAt(asked)
	row := c.Row
	row.ClaimVersion, row.ClaimOwner, row.ClaimIncarnation = 2, "m1", "now"
	c.ClaimWritten(row, noon.Add(2*time.Second))
	c.Answered(unknownTo(asked), noon.Add(3*time.Second))
	if c.Unknowns != 0 || c.Taken != TakenOver || c.Asks != 0 {
		t.Errorf("an answer from before the claim was taken counts: %+v", c)
	}
}

func TestAnsweredOfAnotherJob(t *testing.T) {
	c := course(published)
	c.Answered(Answer{JID: "K", Asked: noon.Add(time.Minute), Ended: &Ended{JID: "K"}, NoCache: true},
		noon.Add(time.Hour))
	if c.Unknowns != 0 || c.Ended != nil || c.NoCache || c.ConnectedAt != noon.Add(time.Hour) {
		t.Errorf("%+v", c)
	}
}

func TestAnsweredEnded(t *testing.T) {
	c := course(published)
	end := &Ended{JID: "J", Outcome: fleet.Erred, Retcode: 2}
	c.Answered(Answer{JID: "J", Ended: end}, noon)
	if c.Ended != end {
		t.Errorf("%+v", c)
	}
}

func TestSawForgetsWhatWasOfAnotherVersion(t *testing.T) {
	c := course(published, unknown(2), func(c *HighstateView) {
		c.Resent, c.NoCache, c.Failover, c.Doubled, c.Missing = true, true, true, true, true
		c.UnknownAt, c.NotRunning, c.Traced = noon, noon, noon
	})
	c.Ended = &Ended{JID: "J"}
	before := c
	c.UpdateRow(c.Row, noon.Add(time.Minute))
	before.RowAt = noon.Add(time.Minute)
	if c != before {
		t.Errorf("the same row made a difference: %+v, %+v", before, c)
	}
	row := c.Row
	row.ClaimVersion++
	c.UpdateRow(row, noon.Add(time.Hour))
	fresh := HighstateView{Row: row, RowAt: noon.Add(time.Hour), Since: noon.Add(time.Hour), Accepted: true,
		ConnectedAt: noon, Ended: c.Ended}
	if c != fresh || c.Ended == nil {
		t.Errorf("%+v, want %+v", c, fresh)
	}
	row.ClaimJID, row.ClaimVersion = "K", 9
	if c.UpdateRow(row, noon); c.Ended != nil {
		t.Error("the end of another job is kept")
	}
}

func TestTook(t *testing.T) {
	c := course()
	row := fleet.Minion{ClaimState: fleet.Claimed, ClaimVersion: 1, ClaimJID: "J"}
	if c.ClaimWritten(row, noon); c.Taken != TakenNew {
		t.Errorf("a new claim: %d", c.Taken)
	}
	row.ClaimVersion = 2
	if c.ClaimWritten(row, noon); c.Taken != TakenOver {
		t.Errorf("a claim that was another's: %d", c.Taken)
	}
	row.ClaimVersion = 3
	if c.UpdateRow(row, noon); c.Taken != TakenNot {
		t.Errorf("a claim that was read: %d", c.Taken)
	}
}

// What a minion says of what it runs, and when it was asked.
func TestRuns(t *testing.T) {
	after := func(d time.Duration) time.Time { return noon.Add(d) }
	at := after(time.Minute)
	t.Run("of before the publish", func(t *testing.T) {
		c := course(published) // at noon
		if c.JobsRunning(false, nil, after(-time.Second), at); c.notRunning() || c.ConnectedAt != at {
			t.Errorf("%+v", c)
		}
	})
	t.Run("it does not run it", func(t *testing.T) {
		c := course(published)
		if c.JobsRunning(false, nil, after(20*time.Second), at); c.NotRunning != after(20*time.Second) ||
			c.Unknowns != 0 {
			t.Errorf("%+v", c)
		}
		if c.JobsRunning(true, nil, after(30*time.Second), at); c.notRunning() {
			t.Error("what runs is looked for elsewhere")
		}
	})
	t.Run("of before it was traced", func(t *testing.T) {
		c := course(published)
		c.TracedAt(after(40 * time.Second))
		if c.JobsRunning(false, nil, after(20*time.Second), at); c.notRunning() {
			t.Error("it is traced twice for one answer")
		}
	})
	t.Run("twice", func(t *testing.T) {
		c := course(published, unknown(2))
		if c.PublishedTwice(at); c.Unknowns != 0 || !c.Doubled || c.Occupies("m1", noon) {
			t.Errorf("%+v", c)
		}
	})
}

// A minion that is busy with another state run is asked at growing intervals, and the
// state run is reported.
func TestBusyBacksOff(t *testing.T) {
	now := noon
	row := course(claimedBy("m1", "now")).Row
	c := HighstateView{Row: row, Accepted: true, ConnectedAt: now}
	c.ClaimWritten(row, now)
	by := Blocker{JID: "K", Fun: "state.apply", PID: 7, Started: "12:00"}
	c.Ended = &Ended{JID: "J", Outcome: fleet.Busy, By: by}
	row.ClaimVersion, row.ClaimState, row.Attempt = row.ClaimVersion+1, fleet.Unclaimed, 0
	c.UpdateRow(row, now)
	c.Ended = nil
	var asked []time.Duration
	for now.Sub(noon) < 2*time.Hour {
		c.ConnectedAt = now
		step := Highstate(policy, self, Unseen, c, now)
		if step.Reason != "blocked by state.apply, PID 7 since 12:00 (jid K)" {
			t.Fatalf("%+v", step)
		}
		switch step.Act {
		case Wait:
			now = step.At
			continue
		case Ask:
		default:
			t.Fatalf("after %v: %+v", now.Sub(noon), step)
		}
		asked = append(asked, now.Sub(noon))
		c.AskedAt(now)
		c.JobsRunning(false, &by, now, now)
	}
	s := time.Second
	for i, want := range []time.Duration{10 * s, 30 * s, 70 * s, 150 * s, 310 * s, 630 * s, 1230 * s} {
		if asked[i] != want {
			t.Errorf("asked after %v, want %v", asked[i], want)
		}
	}
	if got, blocked := c.Blocked(); got != by || !blocked {
		t.Errorf("%+v, %v", got, blocked)
	}
	c.AskedAt(now)
	c.JobsRunning(false, nil, now, now)
	if step := Highstate(policy, self, Unseen, c, now); step.Act != Take {
		t.Errorf("nothing runs there any more: %+v", step)
	}
}

// One that says nothing of what it runs is tried all the same, in the end.
func TestBusyAndMute(t *testing.T) {
	now := noon
	c := course(func(c *HighstateView) { c.Row.ClaimJID, c.Since, c.Busies = "J", noon, 1 })
	asks := 0
	for now.Sub(noon) < 10*time.Minute {
		c.ConnectedAt = now
		switch step := Highstate(policy, self, Unseen, c, now); step.Act {
		case Ask:
			asks++
			c.AskedAt(now)
		case Wait:
			now = step.At
		case Take:
			if asks != freeAsks {
				t.Errorf("%d questions", asks)
			}
			return
		default:
			t.Fatalf("%+v", step)
		}
	}
	t.Error("it waits for ever")
}

func TestIs(t *testing.T) {
	c := course(claimedBy("m2", "now"))
	if c.MasterTypeIs(true, noon.Add(-2*time.Hour), noon); c.Failover {
		t.Error("an answer of before the claim says where it is now")
	}
	if c.MasterTypeIs(true, noon, noon); !c.Failover {
		t.Error("it is not believed")
	}
	if c.MasterTypeIs(false, noon, noon); c.Failover || c.Hot != noon {
		t.Errorf("%+v", c)
	}
}

// A master whose job cache makes jids of its own has sent the highstate: the row
// gets that jid, and nothing is sent to that minion again.
func TestSentAsAnother(t *testing.T) {
	c := course(mine)
	c.PublishedAs("K", noon)
	step := Highstate(policy, self, Unseen, c, noon)
	if step.Act != Rename {
		t.Fatalf("%+v", step)
	}
	row, err := fleet.Rename{InstanceID: "i-1", From: c.Row.ClaimVersion, JID: c.Row.ClaimJID,
		As: c.SentAs}.Apply(c.Row, true)
	if err != nil || row.ClaimJID != "K" {
		t.Fatal(row, err)
	}
	c.Renamed(row, noon)
	now := noon
	for now.Sub(noon) < time.Hour { // nobody knows that jid
		step := Highstate(policy, self, Unseen, c, now)
		switch step.Act {
		case Wait:
			now = step.At
		case Ask:
			c.AskedAt(now)
			c.JobsRunning(false, nil, now, now)
		case Trace:
			c.TracedAt(now)
			c.Answered(Answer{JID: "K", Asked: now}, now)
		default:
			t.Fatalf("%+v", step)
		}
	}
	c.Row.ClaimState, c.Row.ClaimVersion = fleet.Failed, 9
	if step := Highstate(policy, self, Unseen, c, now); step.Act != Rest {
		t.Errorf("another attempt: %+v", step)
	}
	c.Row.ClaimState, c.Row.ClaimJID = fleet.Unclaimed, ""
	row = c.Row
	row.ClaimVersion++
	if c.UpdateRow(row, now); c.SentAs != "" {
		t.Error("asked for by hand, it is not sent either")
	}
}
