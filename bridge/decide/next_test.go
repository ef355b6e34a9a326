package decide

import (
	"math/rand/v2"
	"testing"
	"time"

	"phoenix/bridge/fleet"
)

// courses is how many random courses each property is tried on.
const courses = 200_000

// random draws a course that a row can have, and whoever looks at it.
func random(rng *rand.Rand) (Self, Liveness, HighstateView) {
	pick := func(n int) int { return rng.IntN(n) }
	coin := func() bool { return pick(2) == 0 }
	mostly := func() bool { return pick(8) != 0 }
	at := func() time.Time { // never, or some time up to now
		ago := []time.Duration{-1, 0, 1, time.Second, askFirst, rereadEvery, pingEvery, connectedFor,
			time.Hour}[pick(9)]
		if ago < 0 {
			return time.Time{}
		}
		return noon.Add(-ago)
	}
	row := fleet.Minion{InstanceID: "i-1", Status: fleet.Launch, KeySHA256: "A", ClaimVersion: int64(pick(5))}
	if !mostly() {
		row.Status = fleet.Terminate
	}
	switch row.ClaimState = []fleet.ClaimState{fleet.Unclaimed, fleet.Claimed, fleet.Claimed, fleet.Failed,
		fleet.Done}[pick(5)]; row.ClaimState {
	case fleet.Unclaimed:
		row.ClaimJID, row.Attempt = []string{"", "J"}[pick(2)], pick(3)
	default:
		row.ClaimJID, row.Attempt = "J", 1+pick(3)
		row.ClaimOwner = []string{"m1", "m2"}[pick(2)]
		row.ClaimIncarnation = []string{"now", "before"}[pick(2)]
		row.HighstateRan = row.ClaimState == fleet.Done
	}
	if !row.HighstateRan && row.ClaimState != fleet.Claimed && !mostly() {
		row.HighstateRunner = fleet.RunnerAdopted
	}
	c := HighstateView{Row: row, RowAt: at(), Since: at(), Accepted: mostly(), ConnectedAt: at(), Pinged: at(),
		Taken: Taken(pick(3)), Published: at(), Resent: coin(), Asked: at(), Asks: pick(4), Unknowns: pick(4),
		NoCache: !mostly(), Doubled: !mostly(), Failover: pick(4) == 0, Traced: at(), Busies: pick(4), BusyAt: at(),
		Free: at(), KindAsked: at(), KindAsks: pick(3), Hot: at()}
	if pick(3) == 0 {
		c.NotRunning = at()
	}
	if !mostly() {
		c.SentAs, c.SentFor = "K", []string{"J", "I"}[pick(2)]
	}
	if pick(3) == 0 {
		c.Ended = &Ended{JID: []string{"J", "K"}[pick(2)],
			Outcome: []fleet.Outcome{fleet.Succeeded, fleet.Erred, fleet.Busy}[pick(3)]}
	}
	return Self{ID: "m1", Incarnation: "now", Beating: mostly(), Slots: pick(3) - 1}, Liveness(pick(4)), c
}

func TestNextNeverOversteps(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	seen := map[Act]int{}
	for range courses {
		s, owner, c := random(rng)
		r := c.Row
		step := Highstate(policy, s, owner, c, noon)
		seen[step.Act]++
		bad := func(why string) { t.Errorf("%s: %+v\nfor %+v\nby %+v, owner %d", why, step, c, s, owner) }
		own := r.ClaimState == fleet.Claimed && r.ClaimOwner == s.ID && r.ClaimIncarnation == s.Incarnation
		if step.Reason == "" {
			bad("no reason")
		}
		switch step.Act {
		case Publish, Take, Ask, Trace, Kind, Ping, Rename:
			if r.Status != fleet.Launch || r.HighstateRan || r.Adopted() || !c.Accepted || !s.Beating {
				bad("acts where it has no business")
			}
		}
		switch step.Act {
		case Publish:
			switch first := c.Published.IsZero() && c.Taken == TakenNew; {
			case !own:
				bad("publishes what it has not claimed")
			case c.SentAs != "":
				bad("publishes what the master makes another job of")
			case !first && (c.Unknowns < unknownsToAct || c.NoCache || c.Resent):
				bad("publishes again what the minion may know")
			}
		case Take:
			fresh := r.ClaimState != fleet.Claimed
			switch {
			case own:
				bad("takes what it has")
			case fresh && c.SentAs != "":
				bad("begins an attempt where the master makes another job of it")
			case fresh && (!c.connected(noon) || s.Slots <= 0 || r.Attempt >= policy.Attempts):
				bad("begins an attempt out of turn")
			case !fresh && r.ClaimOwner != s.ID && (!c.connected(noon) ||
				owner < Stopped && !c.Failover && (c.Unknowns < unknownsToAct || c.NoCache)):
				bad("takes from a master that may live")
			}
			if _, err := claim(s, c).Apply(r, true); err != nil {
				bad("takes what the row refuses: " + err.Error())
			}
		case Finish:
			if step.Ended.JID != r.ClaimJID || step.Ended.Outcome == fleet.Vanished && !own {
				bad("ends another's job")
			}
			if after, err := finish(step, c).Apply(r, true); err != nil || after == r {
				bad("records what is no news to the row")
			}
		case Wait:
			if !step.At.After(noon) {
				bad("waits for the past")
			}
		}
		if again := Highstate(policy, s, owner, c, noon); again != step {
			bad("decides otherwise when asked again")
		}
	}
	for _, act := range []Act{Rest, Wait, Queue, Read, Ping, Take, Publish, Ask, Trace, Kind, Rename, Finish} {
		if seen[act] < courses/4000 {
			t.Errorf("%s was decided %d times", act, seen[act])
		}
	}
}

// The engine does what Next says until there is nothing to do; that must end,
// whatever is answered meanwhile, without time passing.
func TestNextComesToAnEnd(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range courses {
		s, owner, c := random(rng)
		first := c
		var acts []Act
		for len(acts) < 7 {
			step := Highstate(policy, s, owner, c, noon)
			acts = append(acts, step.Act)
			if step.Act == Rest || step.Act == Wait || step.Act == Queue {
				break
			}
			perform(t, s, &c, step)
		}
		if len(acts) == 7 {
			t.Fatalf("%v\nfor %+v\nby %+v, owner %d", acts, first, s, owner)
		}
	}
}

func claim(s Self, c HighstateView) fleet.Claim {
	r := c.Row
	claim := fleet.Claim{InstanceID: r.InstanceID, From: r.ClaimVersion, Owner: s.ID, Incarnation: s.Incarnation,
		JID: "new", Attempt: r.Attempt + 1}
	if r.ClaimState == fleet.Claimed {
		claim.JID, claim.Attempt = r.ClaimJID, r.Attempt
	}
	return claim
}

func finish(step Step, c HighstateView) fleet.Finish {
	return fleet.Finish{InstanceID: c.Row.InstanceID, JID: step.Ended.JID, Outcome: step.Ended.Outcome,
		From: c.Row.ClaimVersion}
}

// perform does to c what a successful step does.
func perform(t *testing.T, s Self, c *HighstateView, step Step) {
	t.Helper()
	apply := func(change fleet.Change) fleet.Minion {
		row, err := change.Apply(c.Row, true)
		if err != nil {
			t.Fatalf("%T: %v, on %+v", change, err, c.Row)
		}
		return row
	}
	switch step.Act {
	case Read:
		c.UpdateRow(c.Row, noon)
	case Ping:
		c.Pinged = noon
	case Take:
		c.ClaimWritten(apply(claim(s, *c)), noon)
	case Publish:
		c.PublishedAt(noon, true)
	case Ask:
		c.AskedAt(noon)
	case Trace:
		c.TracedAt(noon)
	case Kind:
		c.KindAskedAt(noon)
	case Rename:
		c.Renamed(apply(fleet.Rename{InstanceID: "i-1", From: c.Row.ClaimVersion, JID: c.Row.ClaimJID, As: c.SentAs}),
			noon)
	case Finish:
		row := apply(finish(step, *c))
		c.Ended = nil
		c.UpdateRow(row, noon)
	}
}
