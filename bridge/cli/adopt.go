package cli

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
)

func adoptCommand() *cli.Command {
	return &cli.Command{
		Name:  "adopt",
		Usage: "take the minions that this master has accepted already into the fleet; nothing is run on them",
		Description: "Each accepted key without a row becomes an adopted minion: its key is bound and stored, so that new\n" +
			"masters know it. No highstate is run and no key is touched. Ids that do not match id_pattern are passed over.",
		Flags:  []cli.Flag{jsonFlag, &cli.BoolFlag{Name: "dry-run", Usage: "only say what would be adopted"}},
		Action: makingStore(adopt),
	}
}

// adopted is what became, or would become, of one accepted key.
type adopted struct {
	ID      string `json:"id"`
	Outcome string `json:"outcome"` // adopted, known, passed over
	Reason  string `json:"reason,omitempty"`
}

func adopt(c *cli.Context, cfg config.Config, store fleet.Store) error {
	_, keys, _, err := openSalt(cfg)
	if err != nil {
		return err
	}
	list, err := keys.List()
	if err != nil {
		return fmt.Errorf("list keys: %w", err)
	}
	bearer, rows, err := rowsOf(c, cfg, store, list.Accepted)
	bad, err := fleet.WithoutBadRows(err)
	if err != nil {
		return fmt.Errorf("adopt: %w", err)
	}
	valid, report := cfg.ValidID(), []adopted{}
	var changes []fleet.Change
	for _, id := range list.Accepted {
		row, known := rows[id]
		switch change, reason := adoption(keys, id, bearer[id], valid(id)); {
		case bad[bearer[id]] != nil:
			report = append(report, adopted{id, "passed over", bad[bearer[id]].Error()})
		case known && row.KeySHA256 != "":
			report = append(report, adopted{id, "known", "in the fleet already"})
		case change == nil:
			report = append(report, adopted{id, "passed over", reason})
		default:
			changes = append(changes, change)
		}
	}
	more, err := applyAdoption(c, cfg, store, changes)
	if err != nil {
		return err
	}
	return printAdoption(c, append(report, more...))
}

func adoption(keys *salt.Keys, id, instance string, valid bool) (fleet.Change, string) {
	if !valid {
		return nil, "the id does not match id_pattern"
	}
	text, err := keys.Read(id, salt.Accepted)
	if err != nil {
		return nil, err.Error()
	}
	digest, err := fleet.KeyDigest(text)
	if err != nil {
		return nil, err.Error()
	}
	return fleet.Adopt{InstanceID: instance, MinionID: id, KeySHA256: digest, PublicKey: string(text)}, ""
}

func applyAdoption(c *cli.Context, cfg config.Config, store fleet.Store, changes []fleet.Change) ([]adopted, error) {
	var report []adopted
	if c.Bool("dry-run") {
		for _, change := range changes {
			report = append(report, adopted{change.Instance(), "would be adopted", ""})
		}
		return report, nil
	}
	done := progress(c, fmt.Sprintf("writing %d rows", len(changes)))
	results, err := store.Apply(c.Context, changes)
	done()
	if err != nil {
		return nil, fmt.Errorf("adopt: %w", err)
	}
	var ids []string
	for i, r := range results {
		id := changes[i].Instance()
		if r.Err != nil {
			report = append(report, adopted{id, "passed over", r.Err.Error()})
			continue
		}
		ids = append(ids, id)
		report = append(report, adopted{id, "adopted", ""})
	}
	if len(ids) > 0 {
		byHand(c, cfg, "minion adopted", ids...)
		tell(c, cfg, ids...)
	}
	return report, nil
}

func printAdoption(c *cli.Context, report []adopted) error {
	if c.Bool("json") {
		return printJSON(c.App.Writer, report)
	}
	counts := map[string]int{}
	t := newTable(c.App.Writer, "MINION", "OUTCOME", "REASON")
	for _, a := range report {
		counts[a.Outcome]++
		t.row(a.ID, a.Outcome, a.Reason)
	}
	if t.rows > 0 {
		if err := t.flush(); err != nil {
			return err
		}
	}
	fmt.Fprintf(c.App.Writer, "adopted %d, would be adopted %d, known %d, passed over %d; highstates run 0, keys deleted 0\n",
		counts["adopted"], counts["would be adopted"], counts["known"], counts["passed over"])
	return nil
}
