package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/admin"
	"phoenix/bridge/api"
	"phoenix/bridge/plural"
	"phoenix/bridge/relay"
)

func jobsCommand() *cli.Command {
	return &cli.Command{
		Name:  "jobs",
		Usage: "jobs of this master that the relay carried to the others",
		Subcommands: []*cli.Command{
			{
				Name:  "list",
				Usage: "show the last jobs of this master, and how many minions returned",
				Description: "Asks the bridge on this machine, which remembers the last 1000 since it started. Without --all it leaves\n" +
					"out saltutil.find_job, by which the salt command asks for running jobs.",
				Flags:  []cli.Flag{jsonFlag, &cli.BoolFlag{Name: "all", Usage: "also show saltutil.find_job"}},
				Action: listJobs,
			},
			{
				Name:      "show",
				Usage:     "show one job: through which master each minion returned, which are missing, and why",
				ArgsUsage: "JID",
				Flags:     []cli.Flag{jsonFlag},
				Action:    showJob,
			},
		},
	}
}

func listJobs(c *cli.Context) error {
	cfg, err := readConfig(c)
	if err != nil {
		return err
	}
	var all []relay.Job
	if err := api.NewClient(cfg.Socket).Jobs(c.Context, "", &all); err != nil {
		return err
	}
	jobs := []relay.Job{}
	for _, j := range all {
		if c.Bool("all") || j.Function != "saltutil.find_job" {
			jobs = append(jobs, j)
		}
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, jobs)
	}
	t := newTable(c.App.Writer, "JID", "FUNCTION", "TARGET", "USER", "RETURNED", "MISSING", "NOT REACHED")
	for _, j := range jobs {
		away := ""
		for _, p := range j.Peers {
			if !reached(p) {
				away += p.Master + " "
			}
		}
		t.row(j.JID, j.Function, j.Target, j.User, fmt.Sprintf("%d of %d", j.Returned, max(j.Expected, j.Returned)),
			len(j.Missing), away)
	}
	return t.flush()
}

func reached(p relay.AtPeer) bool { return p.State == "published" || p.State == "nobody" }

func showJob(c *cli.Context) error {
	if c.NArg() != 1 {
		return usageError(errors.New("which job? jobs show JID"))
	}
	cfg, err := readConfig(c)
	if err != nil {
		return err
	}
	var j relay.Job
	if err := api.NewClient(cfg.Socket).Jobs(c.Context, c.Args().First(), &j); err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, j)
	}
	w := c.App.Writer
	fmt.Fprintf(w, "%s: %s on %s, by %s, %s\n\n", j.JID, plain(j.Function), plain(j.Target), plain(j.User),
		admin.Clock(j.At))
	t := newTable(w, "MASTER", "STATE", "ITS MINIONS", "WHY")
	for _, p := range j.Peers {
		t.row(p.Master, p.State, p.Minions, p.Why)
	}
	if err := t.flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	t = newTable(w, "MINION", "RETURNED", "BY", "WHY NOT")
	for _, m := range j.Minions {
		t.row(m.Minion, "yes", m.Master, "")
	}
	for _, m := range j.Missing {
		t.row(m.Minion, "no", m.Master, m.Why)
	}
	return t.flush()
}

// printRelay prints the state of the other masters.
func printRelay(w io.Writer, r *relay.Status) {
	if r == nil {
		return
	}
	state := "reads the master's jobs"
	if !r.Hears {
		state = "does NOT read the master's jobs, which stay here: " + cmp.Or(r.Error, "not yet")
	} else if r.Error != "" {
		state += ", but the last one stays here: " + r.Error
	}
	fmt.Fprintf(w, "relay: on %s, %s; %s carried, %d published for others, %s came, %d went, %d dropped, %s refused\n",
		r.Listen, state, plural.Of(r.Carried, "job"), r.Published, plural.Of(r.Returns, "return"), r.Sent, r.Dropped,
		plural.Of(r.Refused, "connection"))
	for _, p := range r.Peers {
		state := "connected"
		if !p.Connected {
			state = "NOT connected: " + cmp.Or(p.Error, "not yet tried")
		}
		fmt.Fprintf(w, "  %s at %s: %s; seen there last: %s\n", p.Master, p.Address, plain(state),
			plural.Of(p.Minions, "minion"))
	}
	if r.Data != "" {
		fmt.Fprintf(w, "  data of minions is not shared: %s\n", plain(r.Data))
	}
	if l := r.Lost; l != nil && time.Since(l.At) < shownLost {
		fmt.Fprintln(w, "  "+lostJob(*l, r.Peers, time.Now()))
	}
}

// lostJob says which job did not reach a master, and that it is over if it is.
func lostJob(l relay.Lost, peers []relay.Peer, now time.Time) string {
	text := fmt.Sprintf("%s ago job %s (%s) did not reach %s", age(now.Sub(l.At)), l.JID, plain(l.Function),
		plain(l.Master))
	if slices.ContainsFunc(peers, func(p relay.Peer) bool { return p.Master == l.Master && p.Connected }) {
		text += ", which is connected now"
	} else {
		text += ": " + clip(plain(l.Why), shownWhy)
	}
	return text + "; missing: " + missingOf(l)
}

const (
	// shownLost is for how long status shows a job that did not reach a master.
	shownLost = 10 * time.Minute
	// shownWhy is how much of the reason it shows.
	shownWhy = 120
	// shownMissing is how many of its minions it names.
	shownMissing = 5
)

func missingOf(l relay.Lost) string {
	if l.Count == 0 {
		return "no minion that is known"
	}
	text := plain(strings.Join(l.Minions[:min(len(l.Minions), shownMissing)], " "))
	if more := l.Count - shownMissing; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
