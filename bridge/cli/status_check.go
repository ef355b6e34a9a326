package cli

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"phoenix/bridge/admin"
	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
	"phoenix/bridge/plural"
	"phoenix/bridge/service"
)

// errUnwell ends status --check with exit code 1.
var errUnwell = errors.New("problems found")

// checkStatus returns an error that names what is dead, stale or not ready.
func checkStatus(cfg config.Config, o *admin.Overview) error {
	var why []string
	now := time.Now()
	for _, m := range o.Masters {
		if m.Status == fleet.Launch && !m.Draining && (admin.Stale(m, cfg.Highstate.Lease, now) || !m.Ready) {
			why = append(why, fmt.Sprintf("master %s is %s, last heartbeat %s", m.InstanceID,
				masterState(m, cfg.Highstate.Lease, now), seenAgo(m, now)))
		}
	}
	switch b := o.Bridge; {
	case b == nil:
		why = append(why, "no bridge answers on this machine")
	case b.NotReady != "":
		why = append(why, "the bridge of this machine is not ready: "+b.NotReady)
	case b.Engine.Fault != "":
		why = append(why, "work is delayed: "+b.Engine.Fault)
	}
	if b := o.Breaker; b != nil && b.Open {
		why = append(why, "no new first highstate begins: "+b.Reason)
	}
	if n := otherKeys(o); n > 0 {
		why = append(why, plural.Of(n, "id")+" with another key")
	}
	if n := notServed(o); n > 0 {
		why = append(why, plural.Of(n, "minion")+
			" whose key here was deleted by hand, or cannot be deleted (phoenix status names them)")
	}
	if n := len(o.BadRows); n > 0 {
		why = append(why, plural.Of(n, "row")+" that cannot be decoded")
	}
	if len(why) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", errUnwell, strings.Join(why, "; "))
}

// notServed counts the minions whose keys were deleted by hand, or cannot be deleted. Rows
// and other keys are counted by themselves, and keys that cannot be read may be a stranger's.
func notServed(o *admin.Overview) (n int) {
	if o.Bridge == nil {
		return 0
	}
	for _, kind := range []service.ProblemKind{service.KeyRemoved, service.Undeletable} {
		n += o.Bridge.Engine.Problem[kind]
	}
	return n
}

// otherKeys counts the ids with another key. A bridge counts accepted ones, and names some.
func otherKeys(o *admin.Overview) int {
	ids, accepted := map[string]bool{}, 0
	for _, k := range o.OtherKeys {
		ids[k.ID] = true
	}
	if o.Bridge != nil {
		accepted = o.Bridge.Engine.Problem[service.OtherKey]
	}
	return max(len(ids), accepted)
}
