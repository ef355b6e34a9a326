package cli

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/admin"
)

func keysDeleteCommand() *cli.Command {
	return &cli.Command{
		Name:      "delete",
		Usage:     "delete the key of an id in one state on this master, and no other key",
		ArgsUsage: "ID…",
		Description: "Ids are exact: no globs. salt-key -d takes globs and deletes the key of an id in each state. When an\n" +
			"accepted key is deleted, the master changes its AES key; the other states have no such effect. A key\n" +
			"that is bound to the minion stays bound: phoenix keys restore writes it again. To remove the minion for\n" +
			"good, use phoenix minions retire.",
		Flags: []cli.Flag{jsonFlag,
			&cli.StringFlag{Name: "state", Usage: "`STATE` of the key: pending, accepted, denied or rejected"}},
		Action: deleteKeys,
	}
}

func deleteKeys(c *cli.Context) error {
	cfg, err := readConfig(c)
	if err != nil {
		return err
	}
	ids := c.Args().Slice()
	if len(ids) == 0 {
		return usageError(errors.New("no minion id; see " + c.Command.HelpName + " --help"))
	}
	done, err := newAdmin(c, cfg, nil).Delete(c.Context, admin.DeleteKeys{IDs: ids, State: c.String("state")})
	switch {
	case done == nil:
	case c.Bool("json"):
		err = errors.Join(err, printJSON(c.App.Writer, done))
	default:
		for _, k := range done {
			fmt.Fprintf(c.App.Writer, "%s  %s key deleted, %s%s\n", plain(k.ID), k.State, keyShown(k.Digest),
				undoDelete(k))
		}
	}
	return err
}

// undoDelete says how the deletion of an accepted key is undone; of the others there is no
// need: they come again.
func undoDelete(k admin.DeletedKey) string {
	if k.State != "accepted" {
		return ""
	}
	return fmt.Sprintf(" (if it is bound, phoenix keys restore %s writes it again)", plain(k.ID))
}

// keyShown returns a digest for people.
func keyShown(digest string) string {
	if digest == "" {
		return "which is not an RSA public key"
	}
	return short(digest)
}
