package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"

	"github.com/urfave/cli/v2"
	"go.yaml.in/yaml/v3"

	"phoenix/bridge/config"
	"phoenix/bridge/event"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
)

func rosterCommand() *cli.Command {
	return &cli.Command{
		Name:  "roster",
		Usage: "make a roster of the fleet's minions, for salt-ssh",
		Description: "Addresses and grains are those that this master remembers, which each minion says of itself:\n" +
			"  phoenix roster --grain role:web --user ec2-user > roster; salt-ssh --roster-file roster '*' test.ping",
		Flags: []cli.Flag{
			jsonFlag,
			&cli.StringSliceFlag{Name: "grain", Aliases: []string{"G"}, Usage: "only minions whose grains match `KEY:GLOB`, as salt -G has it; all of several"},
			&cli.StringFlag{Name: "target", Value: "*", Usage: "only minions whose id matches `GLOB`"},
			&cli.StringFlag{Name: "user", Usage: "the `USER` to log in as (default: salt-ssh's)"},
			&cli.StringFlag{Name: "host", Usage: "the `GRAIN` that names the host, as fqdn (default: the address that others reach it by)"},
		},
		Action: withStore(makeRoster),
	}
}

// entry is one host of a roster. Salt renders a roster file with Jinja, so nothing
// that a minion says may stand in it as it is: see salt.Grains.
type entry struct {
	Host string `json:"host" yaml:"host"`
	User string `json:"user,omitempty" yaml:"user,omitempty"`
}

// loginName is what useradd takes for one.
var loginName = regexp.MustCompile(`^[a-z_][a-z0-9_.-]{0,31}$`)

func makeRoster(c *cli.Context, cfg config.Config, store fleet.Store) error {
	user := c.String("user")
	if user != "" && !loginName.MatchString(user) {
		return usageError(fmt.Errorf("--user %q is no login name", user))
	}
	master, err := salt.ReadConfig(cfg.SaltConfig)
	if err != nil {
		return usageError(fmt.Errorf("salt_config: %w", err))
	}
	cache, err := salt.OpenGrains(master)
	if err != nil {
		return fmt.Errorf("make roster: %w", err)
	}
	rows, err := allMinions(c, store, string(fleet.Launch))
	bad, err := fleet.WithoutBadRows(err)
	if err != nil {
		return err
	}
	roster, left, err := rosterOf(rows, cfg.ValidID(), cache, c, user)
	if err != nil {
		return err
	}
	if c.Context.Value(heldContext{}) == nil {
		tellLeft(c.App.ErrWriter, left)
	}
	if c.Bool("json") {
		return cmp.Or(printJSON(c.App.Writer, roster), nameBad(c, bad))
	}
	text, err := yaml.Marshal(roster)
	if err != nil {
		return fmt.Errorf("make roster: %w", err)
	}
	_, err = c.App.Writer.Write(text)
	return cmp.Or(err, nameBad(c, bad))
}

// leftOut are minions that stand in no roster, by why.
type leftOut struct{ noGrains, noHost []string }

func rosterOf(rows []fleet.Minion, valid func(string) bool, cache *salt.GrainsCache, c *cli.Context, user string) (map[string]entry, leftOut, error) {
	roster, left := map[string]entry{}, leftOut{}
	wanted := event.Glob(c.String("target"))
	for _, row := range rows {
		id := row.Salt()
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
		if slices.ContainsFunc(c.StringSlice("grain"), func(expression string) bool { return !grains.Match(expression) }) {
			continue
		}
		host, ok := grains.Address()
		if grain := c.String("host"); grain != "" {
			host, ok = grains.Host(grain)
		}
		if !ok {
			left.noHost = append(left.noHost, id)
			continue
		}
		roster[id] = entry{Host: host, User: user}
	}
	return roster, left, nil
}

// tellLeft says who is missing, and why.
func tellLeft(w io.Writer, left leftOut) {
	for _, of := range []struct {
		ids []string
		why string
	}{
		{left.noGrains, "this master has no grains of them (salt -L ID,… saltutil.refresh_pillar)"},
		{left.noHost, "their grains name no address or host"},
	} {
		if len(of.ids) > 0 {
			fmt.Fprintf(w, "note: %d minions are left out, as %v: %s\n", len(of.ids), of.ids[:min(len(of.ids), shownIDs)], of.why)
		}
	}
}
