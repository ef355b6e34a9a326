package doctor

import (
	"strings"

	"phoenix/bridge/plural"
)

// Relay is what a bridge says of its relay.
type Relay struct {
	Deaf string   // why it does not read its master's jobs; empty: it does
	Away []string // peers that it does not reach, and why
	Data string   // why data of minions is not shared; empty: it is
	With int      // peers that it reaches
}

func examineRelay(r *report, b *Bridge) {
	if b == nil || b.Relay == nil {
		return
	}
	relay := b.Relay
	if relay.Deaf != "" {
		r.add(Error, "relay", say("phoenix status (docs/fleet-commands.md)"),
			"the master's jobs stay on this master: %s", relay.Deaf)
	}
	if len(relay.Away) > 0 {
		r.add(Error, "relay", say("phoenix status; let the masters reach each other on relay.listen"),
			"commands do not reach the minions of %s",
			strings.Join(relay.Away, ", "))
	}
	if relay.Data != "" {
		r.add(Warning, "relay", say("set minion_data_cache: True and cache: localfs in the master's configuration"),
			"targets by grains, pillar and compound wait for minions of this master only: %s", relay.Data)
	}
	if relay.Deaf == "" && len(relay.Away) == 0 && relay.Data == "" {
		r.ok("relay", "it reaches %s", plural.Of(relay.With, "other master"))
	}
}
