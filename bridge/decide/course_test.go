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
	if c.Here != late {
		t.Error("who answers is here")
	}
	first, second := noon.Add(20*time.Second), noon.Add(50*time.Second)
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
	c.Took(row, noon.Add(2*time.Second))
	c.Answered(unknownTo(asked), noon.Add(3*time.Second))
	if c.Unknowns != 0 || c.Taken != TakenOver || c.Asks != 0 {
		t.Errorf("an answer from before the claim was taken counts: %+v", c)
	}
}

func TestAnsweredOfAnotherJob(t *testing.T) {
	c := course(published)
	c.Answered(Answer{JID: "K", Asked: noon.Add(time.Minute), Ended: &Ended{JID: "K"}, Failover: true, NoCache: true}, noon.Add(time.Hour))
	if c.Unknowns != 0 || c.Ended != nil || c.Failover || c.NoCache || c.Here != noon.Add(time.Hour) {
		t.Errorf("%+v", c)
	}
}

func TestAnsweredEnded(t *testing.T) {
	c := course(published)
	end := &Ended{JID: "J", Outcome: fleet.Erred, Retcode: 2}
	c.Answered(Answer{JID: "J", Ended: end, Failover: true}, noon)
	if c.Ended != end || !c.Failover {
		t.Errorf("%+v", c)
	}
}

func TestSawForgetsWhatWasOfAnotherVersion(t *testing.T) {
	c := course(published, unknown(2), func(c *Course) { c.Resent, c.NoCache, c.Failover, c.Told = true, true, true, noon })
	c.Ended = &Ended{JID: "J"}
	before := c
	c.Saw(c.Row, noon.Add(time.Minute))
	before.RowAt = noon.Add(time.Minute)
	if c != before {
		t.Errorf("the same row made a difference: %+v, %+v", before, c)
	}
	row := c.Row
	row.ClaimVersion++
	c.Saw(row, noon.Add(time.Hour))
	fresh := Course{Row: row, RowAt: noon.Add(time.Hour), Since: noon.Add(time.Hour), Accepted: true, Here: noon, Ended: c.Ended}
	if c != fresh || c.Ended == nil {
		t.Errorf("%+v, want %+v", c, fresh)
	}
	row.ClaimJID, row.ClaimVersion = "K", 9
	if c.Saw(row, noon); c.Ended != nil {
		t.Error("the end of another job is kept")
	}
}

func TestTook(t *testing.T) {
	c := course()
	row := fleet.Minion{ClaimState: fleet.Claimed, ClaimVersion: 1, ClaimJID: "J"}
	if c.Took(row, noon); c.Taken != TakenNew {
		t.Errorf("a new claim: %d", c.Taken)
	}
	row.ClaimVersion = 2
	if c.Took(row, noon); c.Taken != TakenOver {
		t.Errorf("a claim that was another's: %d", c.Taken)
	}
	row.ClaimVersion = 3
	if c.Saw(row, noon); c.Taken != TakenNot {
		t.Errorf("a claim that was read: %d", c.Taken)
	}
}
