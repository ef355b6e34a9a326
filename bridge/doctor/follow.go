package doctor

import (
	"phoenix/bridge/fleet"
	"phoenix/bridge/plural"
)

// Follow is how many masters minions are connected to.
type Follow struct {
	fleet.Following
	Number int // how many they are to follow (agent.follow)
}

// missingMost is the share of minions, in percent, that may have only one master left
// without a warning: of a fleet some are always switched off, and each of those counts.
const missingMost = 10

func examineFollow(r *report, f Follow) {
	const check = "follow"
	missing := f.Missing(f.Number)
	switch {
	case f.Minions == 0 || f.Number < 1: // no master knows of a minion
	case f.Masters == 1 && f.Number > 1:
		r.add(Warning, check, say("phoenix masters list; start another master"),
			"minions are to follow %d masters, and one serves: each minion has only one master", f.Number)
	case f.Number == 1:
		r.ok(check, "%s to %s; each minion follows one master at a time", plural.Of(f.Connections, "connection"),
			plural.Of(f.Masters, "master"))
	case missing == 0:
		r.ok(check, "%s of %s to %s: none has only one master left", plural.Of(f.Connections, "connection"),
			plural.Of(f.Minions, "minion"), plural.Of(f.Masters, "master"))
	default:
		severity := Note
		if missing*100 > f.Minions*missingMost {
			severity = Warning
		}
		r.add(severity, check, say("phoenix masters list; on a minion: phoenix agent --dry-run"),
			"up to %d of %s have only one master left: %s to %s, and each is to follow %d",
			min(missing, f.Minions), plural.Of(f.Minions, "minion"), plural.Of(f.Connections, "connection"),
			plural.Of(f.Masters, "master"), f.Number)
	}
}
