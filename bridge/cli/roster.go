package cli

import (
	"cmp"
	"fmt"

	"github.com/urfave/cli/v2"
	"go.yaml.in/yaml/v3"

	"phoenix/bridge/admin"
	"phoenix/bridge/fleet"
)

func rosterCommand() *cli.Command {
	return &cli.Command{
		Name:  "roster",
		Usage: "print a roster of the fleet's minions, for salt-ssh",
		Description: "Addresses and grains are those that each minion reported to this master:\n" +
			"  phoenix roster --grain role:web --user ec2-user > roster; salt-ssh --roster-file roster '*' test.ping",
		Flags: []cli.Flag{
			jsonFlag,
			&cli.StringSliceFlag{Name: "grain", Aliases: []string{"G"},
				Usage: "only minions whose grains match `KEY:GLOB`, as for salt -G; if given several times, all must match"},
			&cli.StringFlag{Name: "target", Value: "*", Usage: "only minions whose id matches `GLOB`"},
			&cli.StringFlag{Name: "user", Usage: "the `USER` to log in as (default: salt-ssh's)"},
			&cli.StringFlag{Name: "host", Usage: "the `GRAIN` that names the host, such as fqdn (default: the address at which others reach it)"},
		},
		Action: withStore(performing(makeRoster)),
	}
}

func makeRoster(c *cli.Context, a admin.Admin) error {
	roster, err := a.Roster(c.Context, admin.MakeRoster{Grain: c.StringSlice("grain"), Target: c.String("target"),
		User: c.String("user"), Host: c.String("host")})
	bad, err := fleet.WithoutBadRows(err)
	if err != nil {
		return err
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
