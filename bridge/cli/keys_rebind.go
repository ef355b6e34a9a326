package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/admin"
	"phoenix/bridge/fleet"
)

// rebindWait is how long keys accept --rebind waits for an auth request, and then for
// the minion: one that was denied asks again every 10 s, or must be started.
const rebindWait = 2 * time.Minute

var acceptFlags = []cli.Flag{
	&cli.BoolFlag{Name: "rebind", Usage: "replace the bound key"},
	&cli.StringFlag{Name: "key-sha256",
		Usage: "accept only the key with this `DIGEST` of 64 hexadecimal digits (keys list --json); it takes one minion id"},
	&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "with --rebind: do not ask for confirmation"},
	&cli.DurationFlag{Name: "wait", Value: rebindWait,
		Usage: "with --rebind: wait this long for the minion's next auth request, and for its answer"},
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
	if errors.Is(err, fleet.ErrNotFound) {
		return fmt.Errorf("%w%s", err, isThere(nearID(id, a.KnownIDs(c.Context))))
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
	if a.Note != nil {
		a.Note(awaiting(r))
	}
	ctx, cancel = context.WithTimeout(c.Context, c.Duration("wait"))
	defer cancel()
	done := progress(c, "waiting for "+plain(id)+" to answer")
	answered, fault := awaitAnswer(ctx, a, r, func(k admin.OtherKey) {
		if a.Warn != nil {
			a.Warn(besides(r, k))
		}
	})
	done()
	if !answered {
		err = notAnswered(c, r, fault)
	}
	if c.Bool("json") {
		return errors.Join(printJSON(c.App.Writer, rebindResult{r, answered}), err)
	}
	if err != nil {
		return err
	}
	what := ranAgain(row, a.Config.Highstate.Enabled, func() bool { return awaitBegin(c.Context, a, r) })
	_, err = fmt.Fprintf(c.App.Writer, "%s  answers: %s\n", plain(id), what)
	return err
}

// ranAgain says what becomes of the highstate of a minion whose key was rebound.
func ranAgain(row fleet.Minion, enabled bool, begun func() bool) string {
	switch {
	case row.Adopted():
		return "it was adopted, so no highstate is run; if the machine is empty: phoenix highstate run " +
			plain(row.SaltID())
	case !enabled:
		return "no highstate is run (highstate.enabled is false)"
	case !begun():
		return fmt.Sprintf("its first highstate has not begun (phoenix minions explain %s)", plain(row.SaltID()))
	}
	return "its first highstate is run again"
}

// awaiting says what is waited for once the key is bound. A minion whose key is denied
// exits after 10 to 20 s (salt/crypt.py, 3006 to 3008).
func awaiting(r *admin.Rebinding) string {
	switch r.State {
	case "denied":
		return fmt.Sprintf("waiting for %s to answer; its key was denied, so its minion has exited or is about to, unless it has rejected_retry: True: on the machine, systemctl restart salt-minion", r.ID)
	case admin.Unlinked, "pending":
		return fmt.Sprintf("waiting for %s to answer: a minion whose key is pending asks again within seconds (acceptance_wait_time)", r.ID)
	}
	return fmt.Sprintf("waiting for %s to answer", r.ID)
}

// besides says what to do about another key that comes while the minion is awaited.
func besides(r *admin.Rebinding, k admin.OtherKey) string {
	if k.Key == r.Old {
		return fmt.Sprintf("the former key of %s is %s since %s: %s; the machine that has it still runs: stop it", r.ID,
			k.State, admin.Clock(k.Since), k.Key)
	}
	return fmt.Sprintf("another key of %s is %s since %s: %s, and bound is now %s; if the machine that you await has that one: phoenix keys accept --rebind --key-sha256 %s %s",
		r.ID, k.State, admin.Clock(k.Since), k.Key, k.Known, k.Key, r.ID)
}

func notAnswered(c *cli.Context, r *admin.Rebinding, fault error) error {
	err := fmt.Errorf("await %s: the new key is bound, and the minion has not answered within %v. "+
		"If it is up, on the machine: systemctl restart salt-minion; then phoenix minions explain %s", r.ID,
		c.Duration("wait"), r.ID)
	if fault != nil {
		err = fmt.Errorf("%w (it could not be asked: %v)", err, fault)
	}
	return markedError{admin.ErrAwaited, err}
}

// rebindResult is what keys accept --rebind --json prints.
type rebindResult struct {
	*admin.Rebinding
	Answered bool `json:"answered"`
}
