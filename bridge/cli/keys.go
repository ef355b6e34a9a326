package cli

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/api"
	"phoenix/bridge/config"
	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
)

func keysCommand() *cli.Command {
	return &cli.Command{
		Name:  "keys",
		Usage: "the keys that this master holds",
		Subcommands: []*cli.Command{
			{
				Name:   "list",
				Usage:  "show this master's keys, and what each is to Phoenix",
				Flags:  []cli.Flag{jsonFlag},
				Action: withStore(listKeys),
			},
			{
				Name:      "accept",
				Usage:     "accept a pending key by hand: bind it, and let its minion in",
				ArgsUsage: "ID",
				Description: "Adds the minion to the fleet if it is not there. A key that differs from the one bound to the\n" +
					"minion is accepted only with --rebind, for a machine that was rebuilt: its highstate is then run again.",
				Flags:  []cli.Flag{jsonFlag, &cli.BoolFlag{Name: "rebind", Usage: "forget the key that was bound before"}},
				Action: makingStore(acceptKey),
			},
			{
				Name:      "restore",
				Usage:     "write keys as accepted again that were deleted here by hand (salt-key -d)",
				ArgsUsage: "ID… | -",
				Description: "A key that was accepted on this master, and that somebody deleted, stays away until it is restored or\n" +
					"its minion is retired; phoenix status names such minions. The bridge of this machine writes the keys that\n" +
					"are bound to them.",
				Flags:  []cli.Flag{jsonFlag},
				Action: withStore(restoreKeys),
			},
			keysDeleteCommand(),
		},
	}
}

// heldKey is one key of this master.
type heldKey struct {
	ID       string          `json:"id"`
	State    string          `json:"state"`
	Standing decide.Standing `json:"standing"`
	Digest   string          `json:"key_sha256"`
	Bound    string          `json:"bound"` // same, other, or empty: none is bound
}

func listKeys(c *cli.Context, cfg config.Config, store fleet.Store) error {
	_, keys, _, err := openSalt(cfg)
	if err != nil {
		return err
	}
	list, err := keys.List()
	if err != nil {
		return fmt.Errorf("list keys: %w", err)
	}
	bearer, rows, err := rowsOf(c, cfg, store, slices.Concat(list.Accepted, list.Pending, list.Rejected, list.Denied))
	bad, err := fleet.WithoutBadRows(err)
	if err != nil {
		return fmt.Errorf("list keys: %w", err)
	}
	out, valid := []heldKey{}, cfg.ValidID()
	for _, s := range []struct {
		name  string
		state salt.State
		ids   []string
	}{{"accepted", salt.Accepted, list.Accepted}, {"pending", salt.Pending, list.Pending},
		{"rejected", salt.Rejected, list.Rejected}, {"denied", salt.Denied, list.Denied}} {
		for _, id := range s.ids {
			row, known := rows[id]
			k := heldKey{ID: id, State: s.name, Standing: decide.Stand(row, known, s.state == salt.Accepted)}
			if bad[bearer[id]] != nil {
				k.Standing = badRow
			}
			if valid(id) {
				k.Digest, k.Bound = digestOf(keys, id, s.state, row)
			}
			out = append(out, k)
		}
	}
	for i, name := range slices.Sorted(maps.Keys(list.Bad)) {
		if i == maxBadRows { // anybody can leave odd ones among the pending
			fmt.Fprintf(c.App.ErrWriter, "left out: %d more\n", len(list.Bad)-i)
			break
		}
		fmt.Fprintf(c.App.ErrWriter, "left out: %s\n", plain(describeError(list.Bad[name])))
	}
	if c.Bool("json") {
		return cmp.Or(printJSON(c.App.Writer, out), nameBad(c, bad))
	}
	t := newTable(c.App.Writer, "MINION", "STATE", "STANDING", "KEY", "BOUND")
	for _, k := range out {
		t.row(k.ID, k.State, k.Standing, short(k.Digest), k.Bound)
	}
	return cmp.Or(t.flush(), nameBad(c, bad))
}

// badRow stands in the place of the standing of an id whose row cannot be decoded.
const badRow decide.Standing = "bad row"

func digestOf(keys *salt.Keys, id string, state salt.State, row fleet.Minion) (digest, bound string) {
	if text, err := keys.Read(id, state); err == nil {
		digest, _ = fleet.KeyDigest(text) // no key has none
	}
	switch row.KeySHA256 {
	case "":
	case digest:
		bound = "same"
	default:
		bound = "other"
	}
	return digest, bound
}

// acceptKey is an admin's word against the rules: only the id is still checked.
func acceptKey(c *cli.Context, cfg config.Config, store fleet.Store) error {
	ids, err := operands(c, cfg)
	if err != nil {
		return err
	}
	_, keys, master, err := openSalt(cfg)
	if err != nil {
		return err
	}
	bearer, err := bearers(c, cfg, store, ids)
	if err != nil {
		return fmt.Errorf("accept keys: %w", err)
	}
	var faults []error
	rows := []fleet.Minion{}
	for _, id := range ids {
		row, err := acceptOne(c, store, keys, master, id, bearer[id])
		if err != nil {
			faults = append(faults, fmt.Errorf("accept key %s: %w", id, err))
			continue
		}
		byHand(c, cfg, "key accepted", id)
		if rows = append(rows, row); !c.Bool("json") {
			fmt.Fprintf(c.App.Writer, "%s  accepted, key %s\n", plain(id), short(row.KeySHA256))
		}
	}
	if c.Bool("json") && len(rows) > 0 {
		faults = append(faults, printJSON(c.App.Writer, rows))
	}
	tell(c, cfg, ids...)
	return errors.Join(faults...)
}

// restoreKeys asks the bridge, which knows what was accepted here.
func restoreKeys(c *cli.Context, cfg config.Config, store fleet.Store) error {
	ids, err := operands(c, cfg)
	if err != nil {
		return err
	}
	_, rows, err := rowsOf(c, cfg, store, ids)
	if err != nil {
		return fmt.Errorf("restore keys: %w", err)
	}
	for _, id := range ids {
		switch row, known := rows[id]; {
		case !known:
			return fmt.Errorf("restore key %s: %w", id, fleet.ErrNotFound)
		case row.Status == fleet.Terminate:
			return fmt.Errorf("restore key %s: %w%s", id, fleet.ErrTerminated, hint(fleet.ErrTerminated))
		case row.PublicKey == "":
			return fmt.Errorf("restore key %s: no key is bound to it (phoenix keys accept %s when it is pending)", id, id)
		}
	}
	if err := api.NewClient(cfg.Socket).Restore(c.Context, ids); err != nil {
		return fmt.Errorf("restore keys: %w", err)
	}
	byHand(c, cfg, "key restored", ids...)
	if c.Bool("json") {
		return printJSON(c.App.Writer, ids)
	}
	for _, id := range ids {
		fmt.Fprintf(c.App.Writer, "%s  its key is written again\n", plain(id))
	}
	return nil
}

// acceptOne accepts one key, and returns the row that it is bound to.
func acceptOne(c *cli.Context, store fleet.Store, keys *salt.Keys, master *salt.Master, id, instance string) (fleet.Minion, error) {
	state := salt.Pending
	text, err := keys.Read(id, state)
	if errors.Is(err, salt.ErrNoKey) && c.Bool("rebind") {
		// Salt took another key than the bound one without us: bind that.
		state = salt.Accepted
		text, err = keys.Read(id, state)
	}
	if err != nil {
		return fleet.Minion{}, err
	}
	digest, err := fleet.KeyDigest(text)
	if err != nil {
		return fleet.Minion{}, err
	}
	row, err := fleet.ApplyOne(c.Context, store, fleet.Add{InstanceID: instance, MinionID: id})
	if err == nil {
		row, err = fleet.ApplyOne(c.Context, store, fleet.Bind{InstanceID: instance, KeySHA256: digest,
			PublicKey: string(text), Rebind: c.Bool("rebind")})
	}
	if err != nil {
		return row, fmt.Errorf("%w%s", err, hint(err))
	}
	if state == salt.Pending {
		err = acceptPending(c, keys, master, id, digest)
	}
	return row, err
}

// acceptPending accepts, and makes sure that the key which was accepted is the one
// that was looked at: between the two, another may have taken its place.
func acceptPending(c *cli.Context, keys *salt.Keys, master *salt.Master, id, digest string) error {
	if err := master.Accept(c.Context, []string{id}); err != nil {
		return err
	}
	text, err := keys.Read(id, salt.Accepted)
	if err != nil {
		return fmt.Errorf("read what was accepted: %w", err)
	}
	if got, _ := fleet.KeyDigest(text); got != digest {
		err := fmt.Errorf("another key, %s, was in its place", short(got))
		if gone := master.Delete(c.Context, map[salt.State][]string{salt.Accepted: {id}}); gone != nil {
			return errors.Join(err, fmt.Errorf("and could not be deleted: %w", gone))
		}
		return fmt.Errorf("%w; it was deleted at once", err)
	}
	return nil
}
