package cli

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/config"
	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
)

func highstateCommand() *cli.Command {
	return &cli.Command{
		Name:  "highstate",
		Usage: "first highstates",
		Subcommands: []*cli.Command{
			{
				Name:   "list",
				Usage:  "show the highstates that are wanted, run or failed (--all: those that are done too)",
				Flags:  []cli.Flag{jsonFlag, &cli.BoolFlag{Name: "all", Usage: "those that are done too"}},
				Action: withStore(listHighstates),
			},
			{
				Name:      "run",
				Usage:     "ask for a highstate by hand: of an adopted minion, or once more",
				ArgsUsage: "ID… | -",
				Flags: []cli.Flag{jsonFlag,
					&cli.BoolFlag{Name: "force", Usage: "give up one that is under way"},
					&cli.DurationFlag{Name: "wait", Usage: "wait so long for it to end"}},
				Action: withStore(runHighstate),
			},
		},
	}
}

func listHighstates(c *cli.Context, _ config.Config, store fleet.Store) error {
	all, err := allMinions(c, store, string(fleet.Launch))
	bad, err := fleet.WithoutBadRows(err)
	if err != nil {
		return err
	}
	rows := []fleet.Minion{}
	for _, r := range all {
		if r.WantsHighstate() || c.Bool("all") && r.HighstateRan {
			rows = append(rows, r)
		}
	}
	if c.Bool("json") {
		return cmp.Or(printJSON(c.App.Writer, rows), nameBad(c, bad))
	}
	t := newTable(c.App.Writer, "MINION", "STANDING", "ATTEMPT", "JOB", "BY", "RETCODE", "CHANGED")
	for _, r := range rows {
		t.row(r.Salt(), decide.Stand(r, true, false), r.Attempt, r.ClaimJID, r.ClaimOwner, retcode(r), r.Modified)
	}
	return cmp.Or(t.flush(), nameBad(c, bad))
}

func runHighstate(c *cli.Context, cfg config.Config, store fleet.Store) error {
	ids, err := operands(c, cfg)
	if err != nil {
		return err
	}
	bearer, err := bearers(c, cfg, store, ids)
	if err != nil {
		return fmt.Errorf("ask for highstates: %w", err)
	}
	changes := make([]fleet.Change, len(ids))
	for i, id := range ids {
		changes[i] = fleet.Again{InstanceID: bearer[id], Force: c.Bool("force")}
	}
	if err := applyAll(c, cfg, store, changes, "highstate asked for", func(fleet.Minion) string {
		return "asked for: it starts when a master sees the minion connected"
	}); err != nil || c.Duration("wait") == 0 {
		return err
	}
	return awaitHighstates(c, store, ids, bearer)
}

// awaitEvery: how often rows are read while somebody waits.
const awaitEvery = time.Second

func awaitHighstates(c *cli.Context, store fleet.Store, ids []string, bearer map[string]string) error {
	deadline := time.Now().Add(c.Duration("wait"))
	told := map[string]decide.Standing{}
	for {
		rows, err := store.Minions(c.Context, slices.Collect(maps.Values(bearer)))
		bad, err := fleet.WithoutBadRows(err)
		if err != nil {
			return fmt.Errorf("await highstates: %w", err)
		}
		open, failed := 0, 0
		for _, id := range ids {
			if bad[bearer[id]] != nil { // no other waits for it
				failed++
				continue
			}
			standing := decide.Stand(rows[bearer[id]], true, false)
			if told[id] != standing && !c.Bool("json") {
				fmt.Fprintf(c.App.Writer, "%s  %s\n", plain(id), standing)
				told[id] = standing
			}
			switch {
			case standing == decide.Broken:
				failed++
			case standing != decide.Ran:
				open++
			}
		}
		switch {
		case open == 0 && failed > 0:
			return fmt.Errorf("%d of %d highstates failed", failed, len(ids))
		case open == 0:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("%d of %d highstates have not ended within %v", open, len(ids), c.Duration("wait"))
		}
		select {
		case <-c.Context.Done():
			return c.Context.Err()
		case <-time.After(awaitEvery):
		}
	}
}
