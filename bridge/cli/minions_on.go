package cli

import (
	"fmt"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/admin"
	"phoenix/bridge/fleet"
)

// minionsOn keeps the rows of minions that answer on a master.
func minionsOn(c *cli.Context, a admin.Admin, rows []fleet.Minion, master string) ([]fleet.Minion, error) {
	masters, err := a.Masters(c.Context)
	if _, err := fleet.WithoutBadRows(err); err != nil {
		return nil, err
	}
	of := slices.IndexFunc(masters, func(m fleet.Master) bool { return m.InstanceID == master })
	if of < 0 {
		return nil, fmt.Errorf("list minions on %s: %w (phoenix masters list)", master, fleet.ErrNotFound)
	}
	w, err := findMinions(c, a, rows, c.Duration("wait"))
	if err != nil {
		return nil, err
	}
	if master != w.self && !w.relayed {
		return nil, fmt.Errorf("list minions on %s: this is %s, and no relay runs here (relay.listen): run it on %s",
			master, w.self, master)
	}
	if master != w.self && w.several && a.Note != nil {
		a.Note(fmt.Sprintf("minions that are connected to several masters and answered through another one first are left out; run on %s, this shows all of its minions", master))
	}
	rows = slices.DeleteFunc(rows, func(r fleet.Minion) bool { return w.places[r.SaltID()].Master != master })
	if text := nobodyOn(masters[of], a.Config.Highstate.Lease, time.Now()); len(rows) == 0 && text != "" &&
		a.Note != nil {
		a.Note(text)
	}
	return rows, nil
}

// nobodyOn says why no minion answers through a master; empty: it serves.
func nobodyOn(m fleet.Master, lease time.Duration, now time.Time) string {
	if m.Ready && !admin.Stale(m, lease, now) && m.Status == fleet.Launch {
		return ""
	}
	return fmt.Sprintf("%s is %s, seen %s: no minion answers through it (phoenix minions where shows where they are)",
		m.InstanceID, masterState(m, lease, now), seenAgo(m, now))
}
