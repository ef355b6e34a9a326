package cli

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/api"
	"phoenix/bridge/config"
	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
)

func minionsCommand() *cli.Command {
	return &cli.Command{
		Name:  "minions",
		Usage: "the minions of the fleet",
		Subcommands: []*cli.Command{
			{
				Name:  "list",
				Usage: "show the fleet's minions, oldest change first",
				Flags: []cli.Flag{jsonFlag,
					&cli.StringFlag{Name: "status", Usage: "only LAUNCH or only TERMINATE"}},
				Action: withStore(listMinions),
			},
			{
				Name:      "add",
				Usage:     "expect minions: their keys are accepted when they knock, their highstate run once",
				ArgsUsage: "ID… | -",
				Description: "A minion whose key this master has accepted already is adopted: no highstate is run.\n" +
					"With - ids are read from standard input, one a line.",
				Flags: []cli.Flag{jsonFlag,
					&cli.BoolFlag{Name: "again", Usage: "revive an id that was terminated: its name has come again"},
					&cli.StringFlag{Name: "group", Usage: "Auto Scaling group, for people"}},
				Action: makingStore(addMinions),
			},
			{
				Name:      "retire",
				Usage:     "say that minions were terminated, for good: every master deletes their keys",
				ArgsUsage: "ID… | - | --held",
				Flags: []cli.Flag{jsonFlag,
					&cli.BoolFlag{Name: "held", Usage: "those whose terminations this machine's bridge holds, too many at once (see phoenix status)"},
					&cli.BoolFlag{Name: "unknown", Usage: "also ids that the fleet does not know: a launch that is told of later is then ignored"}},
				Action: makingStore(retireMinions),
			},
			{
				Name:      "explain",
				Usage:     "say what is known of a minion, each rule, which one decides, and what was decided",
				ArgsUsage: "ID",
				Flags: []cli.Flag{jsonFlag,
					&cli.IntFlag{Name: "lines", Aliases: []string{"n"}, Value: 10, Usage: "show the last `N` decisions of this machine's bridge"}},
				Action: withStore(explainMinion),
			},
		},
	}
}

// allMinions reads the rows of one status, or of both. If some cannot be decoded it
// gives all others, and an error that names those.
func allMinions(c *cli.Context, store fleet.Store, status string) ([]fleet.Minion, error) {
	statuses := []fleet.Status{fleet.Launch, fleet.Terminate}
	if status != "" {
		if statuses = []fleet.Status{fleet.Status(strings.ToUpper(status))}; statuses[0] != fleet.Launch && statuses[0] != fleet.Terminate {
			return nil, usageError(fmt.Errorf("--status %s is neither LAUNCH nor TERMINATE", status))
		}
	}
	defer progress(c, "reading the fleet")()
	rows, bad := []fleet.Minion{}, map[string]error{} // [] in JSON, not null
	for _, s := range statuses {
		more, err := fleet.WithoutBadRows(store.ByStatus(c.Context, s, "", func(page []fleet.Minion) error {
			rows = append(rows, page...)
			return nil
		}))
		if err != nil {
			return nil, err
		}
		maps.Copy(bad, more)
	}
	return rows, fleet.BadRows(bad)
}

// maxBadRows is as many as are named, one a line.
const maxBadRows = 100

// nameBad names the rows that could not be decoded, for people, and gives the error
// that a command ends with after it has told of all others: exit code 3.
func nameBad(c *cli.Context, bad map[string]error) error {
	if len(bad) == 0 {
		return nil
	}
	ids := slices.Sorted(maps.Keys(bad))
	for _, id := range ids[:min(len(ids), maxBadRows)] {
		fmt.Fprintf(c.App.ErrWriter, "left out: %s\n", plain(describeError(bad[id])))
	}
	return markedError{fleet.ErrCorrupt, fmt.Errorf("%d rows of the store cannot be decoded; the others are told above", len(bad))}
}

func listMinions(c *cli.Context, _ config.Config, store fleet.Store) error {
	rows, err := allMinions(c, store, c.String("status"))
	bad, err := fleet.WithoutBadRows(err)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return cmp.Or(printJSON(c.App.Writer, rows), nameBad(c, bad))
	}
	t := newTable(c.App.Writer, "MINION", "STATUS", "STANDING", "HIGHSTATE BY", "ATTEMPT", "RETCODE", "KEY", "MODIFIED")
	for _, r := range rows {
		t.row(r.Salt(), r.Status, decide.Stand(r, true, false), r.HighstateRunner, r.Attempt, retcode(r), short(r.KeySHA256), r.Modified)
	}
	return cmp.Or(t.flush(), nameBad(c, bad))
}

func retcode(r fleet.Minion) string {
	if r.Retcode == nil {
		return ""
	}
	return fmt.Sprint(*r.Retcode)
}

// operands gives the ids of a command, from its line or, for "-", from standard
// input. Each must match id_pattern.
func operands(c *cli.Context, cfg config.Config) ([]string, error) {
	ids := c.Args().Slice()
	if len(ids) == 1 && ids[0] == "-" {
		var err error
		if ids, err = readIDs(os.Stdin); err != nil {
			return nil, fmt.Errorf("read ids: %w", err)
		}
	}
	if len(ids) == 0 {
		return nil, usageError(errors.New("no minion id; see " + c.Command.HelpName + " --help"))
	}
	valid := cfg.ValidID()
	for _, id := range ids {
		if !valid(id) {
			return nil, usageError(fmt.Errorf("minion id %q does not match id_pattern %s", id, cfg.IDPattern))
		}
	}
	return ids, nil
}

// maxIDs bounds what is read from standard input.
const maxIDs = 1_000_000

func readIDs(r io.Reader) ([]string, error) {
	var ids []string
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if id := strings.TrimSpace(lines.Text()); id != "" {
			ids = append(ids, id)
		}
		if len(ids) > maxIDs {
			return nil, fmt.Errorf("more than %d ids", maxIDs)
		}
	}
	return ids, lines.Err()
}

func addMinions(c *cli.Context, cfg config.Config, store fleet.Store) error {
	ids, err := operands(c, cfg)
	if err != nil {
		return err
	}
	// Without the master's files, a bridge finds out whether a key is accepted.
	_, keys, _, err := openSalt(cfg)
	if err != nil {
		keys = nil
	}
	bearer, err := bearers(c, cfg, store, ids)
	if err != nil {
		return fmt.Errorf("add minions: %w", err)
	}
	changes := make([]fleet.Change, 0, len(ids))
	for _, id := range ids {
		changes = append(changes, add(keys, fleet.Add{InstanceID: bearer[id], MinionID: named(cfg, id),
			Group: c.String("group"), Again: c.Bool("again")}))
	}
	return applyAll(c, cfg, store, changes, "minion added", func(r fleet.Minion) string {
		if r.Adopted() {
			return "adopted: its key was accepted before; no highstate is run"
		}
		return "expected"
	})
}

// add is the change for a new minion: one whose key is accepted already is
// adopted, and so never surprised by a highstate.
func add(keys *salt.Keys, a fleet.Add) fleet.Change {
	if keys != nil && a.MinionID != "" {
		if text, err := keys.Read(a.MinionID, salt.Accepted); err == nil {
			if digest, err := fleet.KeyDigest(text); err == nil {
				return fleet.Adopt{InstanceID: a.InstanceID, MinionID: a.MinionID, KeySHA256: digest, PublicKey: string(text)}
			}
		}
	}
	return a
}

// retireHeld asks the bridge: what is held, only it knows.
func retireHeld(c *cli.Context, cfg config.Config) error {
	if c.Args().Present() {
		return usageError(errors.New("--held takes no ids"))
	}
	ids, err := api.NewClient(cfg.Socket).Release(c.Context)
	if err != nil {
		return fmt.Errorf("retire held minions: %w", err)
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, append([]string{}, ids...))
	}
	for _, id := range ids {
		fmt.Fprintf(c.App.Writer, "%s  retired: every master deletes its keys, within a minute or so\n", plain(id))
	}
	if len(ids) == 0 {
		fmt.Fprintln(c.App.Writer, "nothing is held")
	}
	return nil
}

func retireMinions(c *cli.Context, cfg config.Config, store fleet.Store) error {
	if c.Bool("held") {
		return retireHeld(c, cfg)
	}
	ids, err := operands(c, cfg)
	if err != nil {
		return err
	}
	bearer, rows, err := rowsOf(c, cfg, store, ids)
	bad, err := fleet.WithoutBadRows(err)
	if err != nil {
		return fmt.Errorf("retire minions: %w", err)
	}
	changes := make([]fleet.Change, 0, len(ids))
	for _, id := range ids {
		if _, known := rows[id]; !known && bad[bearer[id]] == nil && !c.Bool("unknown") {
			return fmt.Errorf("retire %s: %w (--unknown to retire it all the same)", id, fleet.ErrNotFound)
		}
		changes = append(changes, fleet.Retire{InstanceID: bearer[id]})
	}
	return applyAll(c, cfg, store, changes, "minion retired", func(fleet.Minion) string {
		return "retired: every master deletes its keys, within a minute or so"
	})
}

// applyAll applies changes, lets the bridge know, and tells what became of each.
func applyAll(c *cli.Context, cfg config.Config, store fleet.Store, changes []fleet.Change, what string, say func(fleet.Minion) string) error {
	done := progress(c, fmt.Sprintf("writing %d rows", len(changes)))
	results, err := store.Apply(c.Context, changes)
	done()
	if err != nil {
		return fmt.Errorf("%s: %w", c.Command.HelpName, err)
	}
	rows := []fleet.Minion{}
	var changed []string
	var faults []error
	for i, r := range results {
		id := changes[i].Instance()
		if r.Err != nil {
			faults = append(faults, fmt.Errorf("%s: %w%s", id, r.Err, hint(r.Err)))
			continue
		}
		changed = append(changed, id)
		rows = append(rows, r.Row)
		if !c.Bool("json") {
			fmt.Fprintf(c.App.Writer, "%s  %s\n", plain(id), say(r.Row))
		}
	}
	if c.Bool("json") {
		if err := printJSON(c.App.Writer, rows); err != nil {
			return err
		}
	}
	if len(changed) > 0 {
		byHand(c, cfg, what, changed...)
		tell(c, cfg, changed...)
	}
	return errors.Join(faults...)
}

// hint names the one thing to do about an error, where there is one.
func hint(err error) string {
	switch {
	case errors.Is(err, fleet.ErrTerminated):
		return " (phoenix minions add --again if its name has come again)"
	case errors.Is(err, fleet.ErrOtherKey):
		return " (phoenix keys accept --rebind if the machine was rebuilt)"
	case errors.Is(err, fleet.ErrClaimed):
		return " (phoenix minions explain tells how far it is)"
	}
	return ""
}
