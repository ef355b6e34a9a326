package fleettest

import "phoenix/bridge/fleet"

// Two keys that differ. Stores do not look into a key.
const (
	keyA     = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	keyB     = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	keyOther = "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
	// pem has the line ends, the quote and the letter that a store might spoil.
	pem = "-----BEGIN PUBLIC KEY-----\r\nMIIB'\"é\r\n-----END PUBLIC KEY-----"
)

// State is a kind of row, and the changes that lead to it from no row at all.
type State struct {
	Name    string
	Changes func(id string) []fleet.Change
}

// States returns every kind of row that differs in what changes may do to it.
func States() []State {
	add := func(id string) fleet.Change {
		return fleet.Add{InstanceID: id, MinionID: "salt-" + id, Group: "web"}
	}
	bind := func(id string) fleet.Change {
		return fleet.Bind{InstanceID: id, KeySHA256: keyA, PublicKey: pem}
	}
	claim := func(from int64, owner, jid string, attempt int) func(string) fleet.Change {
		return func(id string) fleet.Change {
			return fleet.Claim{InstanceID: id, From: from, Owner: owner, Incarnation: owner + "-1", JID: jid,
				Attempt: attempt}
		}
	}
	finish := func(o fleet.Outcome, jid string, retcode int, from int64) func(string) fleet.Change {
		return func(id string) fleet.Change {
			return fleet.Finish{InstanceID: id, JID: jid, Outcome: o, Retcode: retcode, From: from}
		}
	}
	rebind := func(id string) fleet.Change {
		return fleet.Bind{InstanceID: id, KeySHA256: keyB, PublicKey: pem, Replaces: keyA}
	}
	everywhere := func(id string) fleet.Change {
		return fleet.Bind{InstanceID: id, KeySHA256: keyB, PublicKey: pem, Replaces: keyA, Rebound: keyA}
	}
	adopt := func(id string) fleet.Change {
		return fleet.Adopt{InstanceID: id, MinionID: "salt-" + id, KeySHA256: keyA, PublicKey: pem}
	}
	again := func(id string) fleet.Change { return fleet.Rerun{InstanceID: id} }
	retire := func(id string) fleet.Change { return fleet.Retire{InstanceID: id} }
	hooked := func(id string) fleet.Change {
		return fleet.Add{InstanceID: id, Group: "web", HookName: "launching"}
	}
	leaving := func(id string) fleet.Change { return fleet.Retire{InstanceID: id, HookName: "terminating"} }
	inferred := func(id string) fleet.Change { return fleet.Retire{InstanceID: id, Inferred: true} }
	strip := func(id string) fleet.Change { return fleet.Tombstone{InstanceID: id, Expires: 4102444800} }
	reborn := func(id string) fleet.Change { return fleet.Add{InstanceID: id, Group: "web", Revive: true} }

	first := claim(0, "m1", "j1", 1)
	done := finish(fleet.Succeeded, "j1", 0, 0)
	return []State{
		state("absent"),
		state("listed", add),
		state("hooked", hooked),
		state("bound", add, bind),
		state("claimed", add, bind, first),
		state("taken", add, bind, first, claim(1, "m2", "j1", 1)),
		state("busy", add, bind, first, finish(fleet.Busy, "j1", 0, 0)),
		state("failed", add, bind, first, finish(fleet.Erred, "j1", 2, 0)),
		state("vanished", add, bind, first, finish(fleet.Vanished, "j1", 0, 1)),
		state("second", add, bind, first, finish(fleet.Erred, "j1", 2, 0), claim(2, "m1", "j2", 2)),
		state("done", add, bind, first, done),
		state("again", add, bind, first, done, again),
		state("rebound", add, bind, first, done, rebind),
		state("rebound-everywhere", add, bind, first, done, everywhere),
		state("adopted", adopt),
		state("asked", adopt, again),
		state("retired", add, bind, retire),
		state("retired-claimed", add, bind, first, retire),
		state("retired-unknown", retire),
		state("retired-hooked", hooked, leaving),
		state("retired-inferred", add, inferred),
		state("stripped", add, bind, first, done, retire, strip),
		state("stripped-rebound", add, bind, everywhere, retire, strip),
		state("reborn", add, bind, first, done, retire, strip, reborn),
	}
}

func state(name string, makers ...func(id string) fleet.Change) State {
	return State{name, func(id string) []fleet.Change {
		changes := make([]fleet.Change, len(makers))
		for i, m := range makers {
			changes[i] = m(id)
		}
		return changes
	}}
}

// Input is a kind of change, made by somebody who has just read row.
type Input struct {
	Name   string
	Change func(id string, row fleet.Minion) fleet.Change
}

// Inputs returns every kind of change, the senseless ones included.
func Inputs() []Input {
	finish := func(o fleet.Outcome, retcode int, back int64) func(string, fleet.Minion) fleet.Change {
		return func(id string, row fleet.Minion) fleet.Change {
			return fleet.Finish{InstanceID: id, JID: row.ClaimJID, Outcome: o, Retcode: retcode,
				From: row.ClaimVersion - back}
		}
	}
	bind := func(digest string, rebind bool) func(string, fleet.Minion) fleet.Change {
		return func(id string, row fleet.Minion) fleet.Change {
			c := fleet.Bind{InstanceID: id, KeySHA256: digest, PublicKey: pem + digest}
			if rebind {
				c.Replaces = row.KeySHA256
			}
			return c
		}
	}
	adopt := func(digest string) func(string, fleet.Minion) fleet.Change {
		return func(id string, _ fleet.Minion) fleet.Change {
			return fleet.Adopt{InstanceID: id, MinionID: "adopted-" + id, KeySHA256: digest, PublicKey: pem + digest}
		}
	}
	// claim differs from the claim of a new attempt by what edit does to it.
	claim := func(edit func(*fleet.Claim, fleet.Minion)) func(string, fleet.Minion) fleet.Change {
		return func(id string, row fleet.Minion) fleet.Change {
			c := fleet.Claim{InstanceID: id, From: row.ClaimVersion, Owner: "m3", Incarnation: "m3-1", JID: "j3",
				Attempt: row.Attempt + 1}
			edit(&c, row)
			return c
		}
	}
	return []Input{
		{"add", func(id string, _ fleet.Minion) fleet.Change {
			return fleet.Add{InstanceID: id, MinionID: "other-" + id, Group: "db"}
		}},
		{"add again", func(id string, _ fleet.Minion) fleet.Change {
			return fleet.Add{InstanceID: id, MinionID: "other-" + id, Group: "db", Revive: true}
		}},
		{"add with hook", func(id string, _ fleet.Minion) fleet.Change {
			return fleet.Add{InstanceID: id, Group: "db", HookName: "launching"}
		}},
		{"add adopted", func(id string, _ fleet.Minion) fleet.Change {
			return fleet.Add{InstanceID: id, Group: "db", Adopted: true}
		}},
		{"adopt A", adopt(keyA)},
		{"adopt B", adopt(keyB)},
		{"adopt none", adopt("")},
		{"retire", func(id string, _ fleet.Minion) fleet.Change { return fleet.Retire{InstanceID: id} }},
		{"retire with hook", func(id string, _ fleet.Minion) fleet.Change {
			return fleet.Retire{InstanceID: id, Group: "db", HookName: "terminating"}
		}},
		{"retire inferred", func(id string, _ fleet.Minion) fleet.Change {
			return fleet.Retire{InstanceID: id, Inferred: true}
		}},
		{"strip", func(id string, _ fleet.Minion) fleet.Change {
			return fleet.Tombstone{InstanceID: id, Expires: 4102444801}
		}},
		{"bind A", bind(keyA, false)},
		{"bind B", bind(keyB, false)},
		{"bind A by name", func(id string, _ fleet.Minion) fleet.Change {
			return fleet.Bind{InstanceID: id, MinionID: "named-" + id, KeySHA256: keyA, PublicKey: pem}
		}},
		{"bind none", bind("", false)},
		{"rebind A", bind(keyA, true)},
		{"rebind B", bind(keyB, true)},
		{"rebind none", bind("", true)},
		{"rebind A everywhere", func(id string, row fleet.Minion) fleet.Change {
			return fleet.Bind{InstanceID: id, KeySHA256: keyA, PublicKey: pem, Replaces: row.KeySHA256,
				Rebound: row.KeySHA256}
		}},
		{"rebind B once more", func(id string, row fleet.Minion) fleet.Change {
			return fleet.Bind{InstanceID: id, KeySHA256: keyB, PublicKey: pem, Replaces: row.KeySHA256,
				Rebound: keyOther}
		}},
		{"bind B in the place of an accepted key", func(id string, _ fleet.Minion) fleet.Change {
			return fleet.Bind{InstanceID: id, KeySHA256: keyB, PublicKey: pem, Rebound: keyOther}
		}},
		{"rebind B, another seen", func(id string, _ fleet.Minion) fleet.Change {
			return fleet.Bind{InstanceID: id, KeySHA256: keyB, PublicKey: pem, Replaces: keyOther}
		}},
		{"claim", claim(func(*fleet.Claim, fleet.Minion) {})},
		{"claim over", claim(func(c *fleet.Claim, row fleet.Minion) { c.JID, c.Attempt = row.ClaimJID, row.Attempt })},
		{"claim over, new jid", claim(func(c *fleet.Claim, row fleet.Minion) { c.Attempt = row.Attempt })},
		{"claim late", claim(func(c *fleet.Claim, _ fleet.Minion) { c.From-- })},
		{"claim told twice", claim(func(c *fleet.Claim, row fleet.Minion) {
			*c = fleet.Claim{InstanceID: c.InstanceID, From: row.ClaimVersion - 1, Owner: row.ClaimOwner,
				Incarnation: row.ClaimIncarnation, JID: row.ClaimJID, Attempt: row.Attempt}
		})},
		{"claim skipping", claim(func(c *fleet.Claim, _ fleet.Minion) { c.Attempt++ })},
		{"claim old jid", claim(func(c *fleet.Claim, row fleet.Minion) { c.JID = row.ClaimJID })},
		{"claim no jid", claim(func(c *fleet.Claim, _ fleet.Minion) { c.JID = "" })},
		{"claim no owner", claim(func(c *fleet.Claim, _ fleet.Minion) { c.Owner = "" })},
		{"succeeded", finish(fleet.Succeeded, 0, 0)},
		{"failed", finish(fleet.Erred, 1, 0)},
		{"busy", finish(fleet.Busy, 0, 0)},
		{"vanished", finish(fleet.Vanished, 0, 0)},
		{"vanished late", finish(fleet.Vanished, 0, 1)},
		{"odd outcome", finish("odd", 0, 0)},
		{"other job", func(id string, _ fleet.Minion) fleet.Change {
			return fleet.Finish{InstanceID: id, JID: "j9", Outcome: fleet.Succeeded}
		}},
		{"rename", func(id string, row fleet.Minion) fleet.Change {
			return fleet.Rename{InstanceID: id, From: row.ClaimVersion, JID: row.ClaimJID, As: "j8"}
		}},
		{"rename late", func(id string, row fleet.Minion) fleet.Change {
			return fleet.Rename{InstanceID: id, From: row.ClaimVersion - 1, JID: row.ClaimJID, As: "j8"}
		}},
		{"rename told twice", func(id string, row fleet.Minion) fleet.Change {
			return fleet.Rename{InstanceID: id, From: row.ClaimVersion - 1, JID: "j0", As: row.ClaimJID}
		}},
		{"rename another", func(id string, row fleet.Minion) fleet.Change {
			return fleet.Rename{InstanceID: id, From: row.ClaimVersion, JID: "j9", As: "j8"}
		}},
		{"rename to nothing", func(id string, row fleet.Minion) fleet.Change {
			return fleet.Rename{InstanceID: id, From: row.ClaimVersion, JID: row.ClaimJID}
		}},
		{"run again", func(id string, _ fleet.Minion) fleet.Change { return fleet.Rerun{InstanceID: id} }},
	}
}
