package cli

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/user"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/audit"
	"phoenix/bridge/config"
)

// byHand adds an admin's word to the audit trail: what was done, and by whom.
// That it cannot be written undoes nothing, and is said.
func byHand(c *cli.Context, cfg config.Config, what string, ids ...string) {
	var lines bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&lines, nil))
	by := admin(c)
	for _, id := range ids {
		log.Info(what+" by hand", "minion", id, "by", by)
	}
	err := audit.Append(cfg.Audit.File, lines.Bytes(), audit.MaxFile)
	if err == nil || errors.Is(err, fs.ErrNotExist) { // without its folder no bridge ever ran here
		return
	}
	if !c.Bool("json") {
		fmt.Fprintf(c.App.ErrWriter, "note: %v\n", err)
	}
}

// admin is who typed the command, as far as this machine knows.
func admin(c *cli.Context) string {
	if _, ok := c.Context.Value(heldContext{}).(held); ok {
		return "socket" // Salt's runner, or whoever else may use it
	}
	name := fmt.Sprint(os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return cmp.Or(os.Getenv("SUDO_USER"), name)
}
