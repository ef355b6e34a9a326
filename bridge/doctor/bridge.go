package doctor

import (
	"cmp"

	"phoenix/bridge/plural"
)

func examineBridge(r *report, f Fleet) {
	b := f.Bridge
	switch {
	case f.Socket == "": // beside a minion
	case b == nil:
		severity := Note // nothing has begun
		if f.Rows {
			severity = Warning
		}
		r.add(severity, "bridge", f.start(), "none answers on %s: %s", quote(f.Socket), oneLine(f.BridgeErr))
	case !b.Reach:
		r.add(Error, "bridge", say("remove the cause that is named; the bridge writes again within seconds, without a restart"), "it does not reach its store: %s", cmp.Or(b.StoreErr, "it has just started"))
	case b.Retired:
		r.add(Error, "bridge", say("set another instance_id in the configuration, then systemctl restart phoenix-bridge"), "%s", b.Why)
	case b.StoreErr != "":
		r.add(Warning, "bridge", say("remove the cause that is named, if phoenix status still names it"),
			"its last heartbeat was not written: %s", b.StoreErr)
	case !b.Ready && b.Unproven:
		r.add(Error, "bridge", run(restartMaster), "its master does not serve: %s", b.Why)
	case b.Bus != "":
		r.add(Warning, "bridge", say("phoenix status; journalctl -u phoenix-bridge"),
			"it does not receive events: %s", b.Bus)
	case b.Twin != "":
		r.add(Error, "bridge", say("phoenix masters list; give each master its own instance_id"), "%s", b.Twin)
	case b.Held != "":
		r.add(Warning, "bridge", say("journalctl -u phoenix-bridge"), "its work is delayed: %s", b.Held)
	case b.OverLimit > 0:
		r.add(Warning, "bridge", say("phoenix minions retire --held, if they are right"), "%s wait: too many at once",
			plural.Of(b.OverLimit, "termination"))
	case b.Breaker != "":
		r.add(Warning, "bridge", say("repair the states, then phoenix highstate resume"),
			"no new first highstate starts: %s", b.Breaker)
	case !b.Ready:
		r.add(Warning, "bridge", say("phoenix status; journalctl -u phoenix-bridge"), "it is not ready: %s", b.Why)
	default:
		r.ok("bridge", "it answers on %s, and is ready", quote(f.Socket))
	}
}

// examineRemoved names keys that the bridge does not write again, since an administrator
// has deleted them.
func examineRemoved(r *report, b *Bridge) {
	switch {
	case b == nil:
	case b.RemovedAll == 0:
		r.ok("removed-keys", "no accepted key was deleted by hand")
	default:
		ids := b.Removed[:min(len(b.Removed), shown)]
		fix := say("phoenix keys restore ID, or, if it is gone for good: phoenix minions retire ID")
		if list, ok := words(ids); ok {
			fix = run("phoenix keys restore " + list).then("or, if they are gone for good: phoenix minions retire ID")
		}
		r.add(Warning, "removed-keys", fix, "%s deleted by hand on this master: %s",
			plural.Of(b.RemovedAll, "accepted key"), some(b.Removed))
	}
}
