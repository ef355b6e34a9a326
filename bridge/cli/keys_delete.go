package cli

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/salt"
)

func keysDeleteCommand() *cli.Command {
	return &cli.Command{
		Name:      "delete",
		Usage:     "delete the key of an id in one state on this master, and no other key",
		ArgsUsage: "ID…",
		Description: "Ids are exact: no globs. salt-key -d takes globs and deletes the key of an id in each state. To delete an\n" +
			"accepted key makes the master change its AES key; the other states change nothing else. A key that is\n" +
			"bound to the minion stays bound: phoenix keys restore writes it again, phoenix minions retire ends the minion.",
		Flags: []cli.Flag{jsonFlag,
			&cli.StringFlag{Name: "state", Usage: "`STATE` of the key: pending, accepted, denied or rejected"}},
		Action: deleteKeys,
	}
}

// deletedKey is a key that was deleted.
type deletedKey struct {
	ID     string `json:"id"`
	State  string `json:"state"`
	Digest string `json:"key_sha256"`
}

// deleteKeys needs no store: a key may belong to nobody whom the store knows. An id
// that does not match id_pattern is taken as well, since Salt lets anybody leave
// such keys; package salt refuses what is no name of a file.
func deleteKeys(c *cli.Context) error {
	cfg, err := readConfig(c)
	if h, ok := c.Context.Value(heldContext{}).(held); ok {
		cfg, err = h.cfg, nil
	}
	if err != nil {
		return err
	}
	state, ok := salt.States[c.String("state")]
	if !ok {
		return usageError(fmt.Errorf("--state %q is none of %s", c.String("state"), strings.Join(slices.Sorted(maps.Keys(salt.States)), ", ")))
	}
	ids := c.Args().Slice()
	if len(ids) == 0 {
		return usageError(errors.New("no minion id; see " + c.Command.HelpName + " --help"))
	}
	_, keys, master, err := openSalt(cfg)
	if err != nil {
		return err
	}
	var faults []error
	done := []deletedKey{}
	for _, id := range ids {
		digest, err := salt.DeleteKey(c.Context, keys, master, id, state)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		byHand(c, cfg, c.String("state")+" key deleted", id)
		done = append(done, deletedKey{id, c.String("state"), digest})
		if !c.Bool("json") {
			fmt.Fprintf(c.App.Writer, "%s  %s key deleted, %s\n", plain(id), c.String("state"), keyShown(digest))
		}
	}
	if c.Bool("json") {
		faults = append(faults, printJSON(c.App.Writer, done))
	}
	if len(done) > 0 {
		names := make([]string, len(done))
		for i, k := range done {
			names[i] = k.ID
		}
		tell(c, cfg, names...)
	}
	return errors.Join(faults...)
}

// keyShown is a digest for people.
func keyShown(digest string) string {
	if digest == "" {
		return "which is no RSA public key"
	}
	return short(digest)
}
