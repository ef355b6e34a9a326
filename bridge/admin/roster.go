package admin

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"phoenix/bridge/config"
	"phoenix/bridge/event"
	"phoenix/bridge/fleet"
	"phoenix/bridge/plural"
	"phoenix/bridge/salt"
)

// MakeRoster is the request of Roster.
type MakeRoster struct {
	Grain  Texts  `json:"grain"`  // KEY:GLOB each; minions whose grains match all
	Target string `json:"target"` // a glob of minion ids; empty: all
	User   string `json:"user"`   // to log in as
	Host   string `json:"host"`   // the grain that names the host; empty: the address
}

// Host is one host of a roster. Salt renders a roster file with Jinja, so nothing
// that a minion says may stand in it as it is: see salt.Grains.
type Host struct {
	Host string `json:"host" yaml:"host"`
	User string `json:"user,omitempty" yaml:"user,omitempty"`
}

// loginName is what useradd takes for one.
var loginName = regexp.MustCompile(`^[a-z_][a-z0-9_.-]{0,31}$`)

// Roster returns a roster of the fleet's minions for salt-ssh, by the grains that
// this master remembers.
func (a Admin) Roster(ctx context.Context, r MakeRoster) (map[string]Host, error) {
	if r.User != "" && !loginName.MatchString(r.User) {
		return nil, config.Invalid(fmt.Errorf("--user %q is no login name", r.User))
	}
	master, err := salt.ReadConfig(a.Config.SaltConfig)
	if err != nil {
		return nil, config.Invalid(fmt.Errorf("salt_config: %w", err))
	}
	cache, err := salt.OpenGrains(master)
	if err != nil {
		return nil, fmt.Errorf("make roster: %w", err)
	}
	rows, err := a.minions(ctx, fleet.Launch)
	bad, err := fleet.WithoutBadRows(err)
	if err != nil {
		return nil, err
	}
	roster, left, err := rosterOf(rows, a.Config.ValidID(), cache, r)
	if err != nil {
		return nil, err
	}
	for _, of := range []struct {
		ids []string
		why string
	}{
		{left.noGrains, "this master has no grains of them (salt -L ID,… saltutil.refresh_pillar)"},
		{left.noHost, "their grains name no address or host"},
	} {
		if len(of.ids) > 0 {
			a.warn("note: left out: %s %v: %s", plural.Of(len(of.ids), "minion"),
				of.ids[:min(len(of.ids), maxNamedIDs)], of.why)
		}
	}
	return roster, fleet.BadRows(bad)
}

// maxNamedIDs is how many ids a note names.
const maxNamedIDs = 10

// leftOut are the minions that stand in no roster, by why.
type leftOut struct{ noGrains, noHost []string }

func rosterOf(rows []fleet.Minion, valid func(string) bool, cache *salt.GrainsCache,
	r MakeRoster) (map[string]Host, leftOut, error) {
	roster, left := map[string]Host{}, leftOut{}
	wanted := func([]byte) bool { return true }
	if r.Target != "" {
		wanted = event.Glob(r.Target)
	}
	for _, row := range rows {
		id := row.SaltID()
		if !valid(id) || !wanted([]byte(id)) {
			continue
		}
		grains, err := cache.Read(id)
		if errors.Is(err, salt.ErrNoGrains) {
			left.noGrains = append(left.noGrains, id)
			continue
		}
		if err != nil {
			return nil, left, fmt.Errorf("make roster: %w", err)
		}
		if slices.ContainsFunc(r.Grain, func(expression string) bool { return !grains.Match(expression) }) {
			continue
		}
		host, ok := grains.Address()
		if r.Host != "" {
			host, ok = grains.Host(r.Host)
		}
		if !ok {
			left.noHost = append(left.noHost, id)
			continue
		}
		roster[id] = Host{Host: host, User: r.User}
	}
	return roster, left, nil
}
