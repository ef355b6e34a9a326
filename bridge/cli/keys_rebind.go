package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/admin"
)

// rebindWait is how long keys accept --rebind waits for an auth request, and then for
// the minion: one that was denied asks again every 10 s, or must be started.
const rebindWait = 2 * time.Minute

var acceptFlags = []cli.Flag{
	&cli.BoolFlag{Name: "rebind", Usage: "replace the bound key"},
	&cli.StringFlag{Name: "key-sha256", Usage: "accept only the key with this `DIGEST` of 64 hexadecimal digits (keys list --json); it takes one minion id"},
	&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "with --rebind: do not ask for confirmation"},
	&cli.DurationFlag{Name: "wait", Value: rebindWait, Usage: "with --rebind: wait this long for the minion's next auth request, and for its answer"},
}

// rebindKey replaces the key of one minion: it shows both keys, asks, and ends when the
// minion answers.
func rebindKey(c *cli.Context, a admin.Admin, id string) error {
	ctx, cancel := context.WithTimeout(c.Context, c.Duration("wait"))
	r, err := a.FindRebinding(ctx, id, c.String("key-sha256"))
	cancel()
	if errors.Is(err, admin.ErrNoOtherKey) {
		return fmt.Errorf("%w within %v (on the machine: systemctl restart salt-minion)", err, c.Duration("wait"))
	}
	if err != nil {
		return err
	}
	if !c.Bool("json") {
		old := "none"
		if r.Old != "" {
			old = r.Old
		}
		fmt.Fprintf(c.App.Writer, "%s  bound: %s\n%s  new:   %s (%s", plain(id), old, plain(id), r.New, r.State)
		if r.Since != nil {
			fmt.Fprintf(c.App.Writer, " since %s", admin.Clock(*r.Since))
		}
		fmt.Fprintln(c.App.Writer, ")")
	}
	if err := confirm(c, fmt.Sprintf("Accept the new key for %s, and delete the old one?", id)); err != nil {
		return err
	}
	row, err := a.Rebind(c.Context, r)
	if err != nil {
		return err
	}
	if !c.Bool("json") {
		fmt.Fprintf(c.App.Writer, "%s  bound to the new key\n", plain(id))
	}
	if row.Adopted() || !a.Config.Highstate.Enabled { // nothing tells when it answers
		if c.Bool("json") {
			return printJSON(c.App.Writer, rebindResult{Rebinding: r})
		}
		_, err = fmt.Fprintf(c.App.Writer, "%s  no highstate is run again; phoenix minions where %s asks whether it answers\n", plain(id), plain(id))
		return err
	}
	ctx, cancel = context.WithTimeout(c.Context, c.Duration("wait"))
	defer cancel()
	answered, err := a.AwaitHighstate(ctx, r)
	if err != nil {
		return fmt.Errorf("the new key is bound: %w", err)
	}
	switch {
	case c.Bool("json"):
		err = printJSON(c.App.Writer, rebindResult{r, &answered})
	case answered:
		_, err = fmt.Fprintf(c.App.Writer, "%s  answers: its first highstate is run again\n", plain(id))
	}
	if err == nil && !answered {
		err = markedError{admin.ErrAwaited, fmt.Errorf("await %s: the new key is bound, and the minion has not answered within %v. "+
			"If it is up, on the machine: systemctl restart salt-minion; then phoenix minions explain %s", id, c.Duration("wait"), id)}
	}
	return err
}

// rebindResult is what keys accept --rebind --json prints.
type rebindResult struct {
	*admin.Rebinding
	Answered *bool `json:"answered,omitempty"` // absent: no highstate is run, so nobody waits
}
