package cli

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/admin"
	"phoenix/bridge/autoscaling"
	"phoenix/bridge/config"
	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/plural"
	"phoenix/bridge/service"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "show masters, minions by state, and the bridge on this machine",
		Description: "With --watch the view is refreshed every two seconds, and shows the last decisions of this machine's\n" +
			"bridge, those of one kind in one line; j, k, space and the arrows scroll, q ends it. With DynamoDB it never\n" +
			"counts the whole fleet: it counts the minions whose keys are on this master, as of the bridge's last comparison.",
		Flags: []cli.Flag{jsonFlag,
			&cli.BoolFlag{Name: "watch", Aliases: []string{"w"}, Usage: "refresh until stopped (q, Ctrl-C)"},
			&cli.BoolFlag{Name: "check", Usage: "exit 1 if a master is stale or not ready, no bridge answers here, an id has another key, a key was deleted here by hand or cannot be deleted, or the circuit breaker is open"},
			&cli.DurationFlag{Name: "interval", Value: watchEvery, Usage: "with --watch: time between refreshes"}},
		Action: withStore(showStatus),
	}
}

func showStatus(c *cli.Context, cfg config.Config, store fleet.Store) error {
	if c.Bool("watch") {
		return watchStatus(c, cfg, store)
	}
	if c.IsSet("interval") {
		return usageError(errors.New("--interval needs --watch"))
	}
	o, err := newAdmin(c, cfg, store).Status(c.Context, admin.CountAll)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		err = printJSON(c.App.Writer, o)
	} else {
		err = printStatus(c.App.Writer, cfg, o)
	}
	if err == nil && c.Bool("check") {
		// A failed first highstate is no reason for exit code 1, and is not left out either.
		if n := o.Minions[decide.PhaseFailed]; n > 0 {
			fmt.Fprintf(c.App.ErrWriter, "note: %s (phoenix highstate list)\n", plural.Of(n, "failed first highstate"))
		}
		// Nor is one heartbeat that was not written: the next may be.
		if b := o.Bridge; b != nil && b.StoreReached && b.StoreError != "" {
			fmt.Fprintf(c.App.ErrWriter, "note: the last heartbeat was not written: %s\n", plain(b.StoreError))
		}
		err = checkStatus(cfg, o)
	}
	return err
}

func printStatus(w io.Writer, cfg config.Config, o *admin.Overview) error {
	w = paint(w)
	t := newTable(w, "MASTER", "STATE", "ADDRESS", "CONNECTED", "HEARTBEAT")
	now := time.Now()
	for _, m := range o.Masters {
		t.row(m.InstanceID, masterState(m, cfg.Highstate.Lease, now), m.IPAddr, connected(m, cfg.Highstate.Lease, now),
			seenAgo(m, now))
	}
	if err := t.flush(); err != nil {
		return err
	}
	if len(o.Masters) == 0 {
		fmt.Fprintln(w, "none yet: a master joins when its bridge starts (phoenix bridge)")
	}
	if text := describeFollowing(o.Follow, cfg.Agent.Follow); text != "" {
		fmt.Fprintln(w, text)
	}
	fmt.Fprintln(w)
	t = newTable(w, "MINIONS", "COUNT", "MEANING")
	for _, s := range slices.Sorted(maps.Keys(o.Minions)) {
		t.row(s, o.Minions[s], meaning[s])
	}
	if err := t.flush(); err != nil {
		return err
	}
	if o.Counted != "" {
		fmt.Fprintln(w, o.Counted)
	}
	if n := len(o.Failed); n > 0 {
		more := ""
		if all := max(o.Minions[decide.PhaseFailed], n); all > shownIDs {
			more = fmt.Sprintf(" and %d more (phoenix minions list --phase failed)", all-shownIDs)
		}
		fmt.Fprintf(w, "failed: %s%s\n", plain(strings.Join(o.Failed[:min(n, shownIDs)], " ")), more)
	}
	printBreaker(w, o)
	for _, why := range o.BadRows[:min(len(o.BadRows), shownProblems)] {
		fmt.Fprintf(w, "left out: %s\n", plain(why))
	}
	if more := len(o.BadRows) - shownProblems; more > 0 {
		fmt.Fprintf(w, "left out: %d more%s\n", more, allByJSON)
	}
	for _, k := range o.OtherKeys[:min(len(o.OtherKeys), shownProblems)] {
		fmt.Fprintf(w, "ANOTHER KEY: %s: %s (phoenix keys accept --rebind %s, or phoenix keys delete %s --state %s)\n",
			plain(k.ID), k, plain(k.ID), plain(k.ID), k.State)
	}
	if more := len(o.OtherKeys) - shownProblems; more > 0 {
		fmt.Fprintf(w, "ANOTHER KEY: %d more%s\n", more, allByJSON)
	}
	if n := o.OtherKeysUnread; n > 0 {
		fmt.Fprintf(w, "ANOTHER KEY: %s not examined, since there are so many (phoenix keys list --state denied)\n",
			plural.Of(n, "key"))
	}
	if o.Keys != "" {
		fmt.Fprintf(w, "foreign and unlisted keys were not counted: %s\n", o.Keys)
	}
	fmt.Fprintln(w)
	if o.Bridge == nil {
		_, err := fmt.Fprintf(w, "bridge: none answers on %s (systemctl status phoenix-bridge)\n", cfg.Socket)
		return err
	}
	return printBridge(w, *o.Bridge)
}

// printBreaker says that no new first highstate begins, and why.
func printBreaker(w io.Writer, o *admin.Overview) {
	b := o.Breaker
	if b == nil || !b.Open {
		return
	}
	fmt.Fprintf(w, "NO NEW FIRST HIGHSTATES: the circuit breaker is open: %s (phoenix highstate resume)\n",
		plain(b.Reason))
	if b.Opened != "" {
		fmt.Fprintf(w, "  since %s, by %s; failed: %s\n", plain(stamped(b.Opened)), plain(b.OpenedBy),
			plain(firstIDs(b.Failed)))
	}
	if o.Bridge != nil && o.Bridge.Engine.Halted > 0 {
		fmt.Fprintf(w, "  minions of this master that wait: %d\n", o.Bridge.Engine.Halted)
	}
}

func printBridge(w io.Writer, r service.Report) error {
	e := r.Engine
	fmt.Fprintf(w, "bridge: %s, up %v; store %s\n", r.InstanceID, time.Since(r.Started).Round(time.Second),
		map[bool]string{true: "reached", false: "NOT reached"}[r.StoreReached])
	if r.Twin != "" {
		fmt.Fprintf(w, "TWO BRIDGES: %s\n", plain(r.Twin))
	}
	if r.NotReady != "" {
		fmt.Fprintf(w, "NOT READY: %s\n", plain(r.NotReady))
	}
	if r.StoreError != "" && !strings.Contains(r.NotReady, r.StoreError) {
		fmt.Fprintf(w, "HEARTBEAT NOT WRITTEN: %s\n", plain(r.StoreError))
	}
	fmt.Fprintf(w, "bus: %s\n", plain(busOf(r.Bus)))
	fmt.Fprintf(w, "work: %s\n", workOf(e))
	printQueue(w, r.Queue)
	printRelay(w, r.Relay)
	for _, stage := range slices.Sorted(maps.Keys(e.Stages)) {
		fmt.Fprintf(w, "held up: %s: %s\n", stage, plain(e.Stages[stage]))
	}
	printProblems(w, e)
	return nil
}

// busOf says in words how the event bus is doing.
func busOf(b service.BusReport) string {
	words := []string{"connected"}
	if !b.Connected {
		words[0] = "NOT connected: " + b.Error
	}
	switch {
	case b.Events > 0:
		words = append(words, plural.Of(b.Events, "event")+" read")
	case b.Connected:
		words = append(words, "no event yet")
	}
	if gaps := int(b.Gaps) - 1; gaps > 0 { // the first connection is none
		words = append(words, plural.Of(gaps, "gap")+", after which keys and fleet were compared")
	}
	return strings.Join(words, "; ")
}

// workOf says what an engine has to do.
func workOf(e service.Status) string {
	var words []string
	for _, of := range []struct {
		n          int
		noun, rest string
	}{{e.Waiting, "minion", "to check"}, {e.Running, "first highstate", "under way here"},
		{e.Queued, "first highstate", "queued"},
		{e.Later, "first highstate", "not begun, or to be tried again (phoenix highstate list)"},
		{e.Deletes, "minion", "whose keys are to be deleted"}} {
		if of.n > 0 {
			words = append(words, plural.Of(of.n, of.noun)+" "+of.rest)
		}
	}
	if len(words) == 0 {
		return "nothing waits"
	}
	return strings.Join(words, ", ")
}

// printQueue prints the counts of messages and the findings of reconciling.
func printQueue(w io.Writer, q *autoscaling.Status) {
	if q == nil {
		return
	}
	if m := q.Messages; m != nil {
		fmt.Fprintf(w, "queues: %s: %d applied, %d passed over, %d refuted, %d malformed, %d to come again; hooks that wait: %d\n",
			plural.Of(m.Received, "message"), m.Applied, m.Ignored, m.Refuted, m.Malformed, m.Transient, q.Hooks)
	}
	list := func(what string, ids []string) {
		if len(ids) > 0 {
			fmt.Fprintf(w, "  %s: %d: %s\n", what, len(ids), plain(firstIDs(ids)))
		}
	}
	list("terminations HELD, reported by messages, not confirmed by EC2 (phoenix minions retire --held)", q.Held)
	list("launches KEPT though their first highstate failed (autoscaling.launch_failures)", q.Kept)
	list("reported as terminated, but running according to EC2", q.Refuted)
	r := q.Reconcile
	if r == nil {
		return
	}
	passed := "not yet"
	if !r.Passed.IsZero() {
		passed = time.Since(r.Passed).Round(time.Second).String() + " ago"
	}
	fmt.Fprintf(w, "compared with AutoScaling: %s\n", passed)
	if r.Error != "" {
		fmt.Fprintf(w, "  NOT compared: %s\n", r.Error)
	}
	list("terminations HELD, too many at once (phoenix minions retire --held)", r.Held)
	list("groups that AutoScaling does not know", r.Missing)
	list("instances that EC2 does not know", r.Unknown)
	list("in service, though called terminated", r.Revived)
	list("passed over: their rows cannot be read or written", r.Bad)
}

// shownIDs is as many as fit a line.
const shownIDs = 10

// allByJSON says where to find what is left out of a screen.
const allByJSON = " (phoenix status --json names all)"

// firstIDs lists ids on one line.
func firstIDs(ids []string) string {
	text := strings.Join(ids[:min(len(ids), shownIDs)], " ")
	if more := len(ids) - shownIDs; more > 0 {
		text += fmt.Sprintf(" and %d more%s", more, allByJSON)
	}
	return text
}

// meaning says each standing in a few words.
var meaning = map[decide.Phase]string{
	decide.PhaseForeign:    "accepted here, not in the fleet: never touched",
	decide.PhaseUnlisted:   "sends auth requests here, not in the fleet: stays pending",
	decide.PhaseAdopted:    "its key was accepted before Phoenix managed it: no highstate is run",
	decide.PhaseTerminated: "its instance is gone; so are its keys",
	decide.PhaseListed:     "in the fleet, has not sent an auth request yet",
	decide.PhaseAccepted:   "its key is bound; its highstate has not begun",
	decide.PhaseRunning:    "its highstate runs",
	decide.PhaseDone:       "its highstate succeeded",
	decide.PhaseFailed:     "its last highstate failed",
	decide.PhaseUnreadable: "its row cannot be decoded: it is skipped",
}
