package cli

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"phoenix/bridge/admin"
	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
)

const (
	// askAbove is how many minions are retired without a question, if they do not answer.
	askAbove = 10
	// livingWait is how long minions that are to be retired have to answer: they are
	// mostly gone.
	livingWait = 2 * time.Second
)

const retired = "retired: every master deletes its keys, within a minute or so"

func retireMinions(c *cli.Context, a admin.Admin) error {
	if c.Bool("held") {
		return retireHeld(c, a)
	}
	ids, err := operands(c)
	if err != nil {
		return err
	}
	request := admin.RetireMinions{IDs: ids, Unknown: c.Bool("unknown"), DryRun: c.Bool("dry-run")}
	if request.DryRun {
		rows, err := a.Retire(c.Context, request)
		living := livingMinions(c, a, rows)
		return printChanged(c, rows, err, func(r fleet.Minion) string {
			return fmt.Sprintf("would be retired: %s, key %s%s", decide.PhaseOf(r, r.Status != "", false),
				cmp.Or(short(r.KeySHA256), "none"), connectedTo(living[r.SaltID()]))
		})
	}
	var living map[string]string
	if !c.Bool("yes") && len(ids) <= askAbove && term.IsTerminal(int(os.Stdin.Fd())) { // a script gets no question
		preview := request
		preview.DryRun = true
		rows, err := a.Retire(c.Context, preview)
		if err == nil {
			living = livingMinions(c, a, rows)
		}
	}
	if question := retireQuestion(ids, living); question != "" {
		if err := confirm(c, question); err != nil {
			return err
		}
	}
	rows, err := a.Retire(c.Context, request)
	return printChanged(c, rows, err, func(r fleet.Minion) string {
		return fmt.Sprintf("%s (undo: phoenix minions add --again %s)", retired, plain(r.SaltID()))
	})
}

// livingMinions returns the minions that answer, and through which master.
func livingMinions(c *cli.Context, a admin.Admin, rows []fleet.Minion) map[string]string {
	if len(rows) == 0 || c.Bool("json") {
		return nil
	}
	w, err := findMinions(c, a, rows, livingWait)
	if err != nil {
		if a.Note != nil {
			a.Note(fmt.Sprintf("whether they are connected is not known: %v", err))
		}
		return nil
	}
	living := map[string]string{}
	for id, p := range w.places {
		if p.Master != "" {
			living[id] = p.Master
		}
	}
	return living
}

func connectedTo(master string) string {
	if master == "" {
		return ""
	}
	return "; it is CONNECTED: its minion answers through " + plain(master)
}

// retireQuestion is what is asked before minions are retired; empty: nothing is.
func retireQuestion(ids []string, living map[string]string) string {
	connected := ""
	switch answer := slices.Sorted(maps.Keys(living)); {
	case len(answer) == 1:
		connected = fmt.Sprintf("%s is connected: its minion answers through %s. ", answer[0], living[answer[0]])
	case len(answer) > 1:
		connected = fmt.Sprintf("%d of them are connected: %s. ", len(answer),
			strings.Join(answer[:min(len(answer), askAbove)], ", "))
	case len(ids) <= askAbove:
		return ""
	}
	who := ids[0]
	if n := len(ids); n > 1 {
		who = fmt.Sprintf("%d minions (%s, …)", n, ids[0])
	}
	return fmt.Sprintf("%sRetire %s for good, and delete the keys on every master? (undo: phoenix minions add --again)",
		connected, who)
}

func retireHeld(c *cli.Context, a admin.Admin) error {
	if c.Args().Present() {
		return usageError(errors.New("--held takes no ids"))
	}
	ids, err := a.RetireHeld(c.Context)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, ids)
	}
	for _, id := range ids {
		fmt.Fprintf(c.App.Writer, "%s  %s\n", plain(id), retired)
	}
	if len(ids) == 0 {
		fmt.Fprintln(c.App.Writer, "nothing is held")
	}
	return nil
}
