package decide

import (
	"testing"
	"time"

	"phoenix/bridge/fleet"
)

// TestClaimWithoutAKeyIsTakenOver: a master claims the highstate of a minion that follows
// several masters, and before it publishes somebody deletes the minion's key there
// (salt-key -d). It sends heartbeats and can do nothing; another master, where the minion is
// connected, runs the highstate within an hour.
func TestClaimWithoutAKeyIsTakenOver(t *testing.T) {
	row := fleet.Minion{InstanceID: "i-1", Status: fleet.Launch, KeySHA256: "k", ClaimState: fleet.Claimed,
		ClaimOwner:       "m2",
		ClaimIncarnation: "now", ClaimJID: "J", Attempt: 1, ClaimVersion: 1}
	owner := HighstateView{Accepted: false, Taken: TakenNew, ConnectedAt: noon}
	owner.UpdateRow(row, noon)
	peer := HighstateView{Accepted: true, ConnectedAt: noon}
	peer.UpdateRow(row, noon)
	ownerSelf := self
	ownerSelf.ID, ownerSelf.Incarnation = "m2", "now"
	published := false
	for now := noon; now.Before(noon.Add(2 * time.Hour)); now = now.Add(5 * time.Second) {
		if step := Highstate(policy, ownerSelf, Beating, owner, now); step.Act != Rest && step.Act != Wait &&
			step.Act != Read && step.Act != Ping {
			t.Fatalf("its owner: %+v", step)
		}
		switch step := Highstate(policy, self, Beating, peer, now); step.Act {
		case Kind:
			peer.KindAskedAt(now)
			peer.MasterTypeIs(false, now, now)
		case Ping:
			peer.Pinged, peer.ConnectedAt = now, now
		case Read:
			peer.UpdateRow(peer.Row, now)
		case Ask:
			peer.AskedAt(now)
			peer.JobsRunning(false, nil, now, now)
		case Trace:
			peer.TracedAt(now)
			peer.Answered(Answer{JID: "J", Asked: now}, now)
		case Take:
			after, err := claim(self, peer).Apply(peer.Row, true)
			if err != nil || after.ClaimJID != "J" {
				t.Fatalf("%+v, %v", after, err)
			}
			peer.UpdateRow(after, now)
			peer.Taken = TakenOver
			owner.UpdateRow(after, now)
		case Publish:
			t.Logf("published after %v", now.Sub(noon))
			if published = true; now.Sub(noon) > time.Hour {
				t.Errorf("published after %v", now.Sub(noon))
			}
		}
		if published {
			return
		}
	}
	t.Errorf("it waits for ever: %+v", Highstate(policy, self, Beating, peer, noon.Add(2*time.Hour)))
}
