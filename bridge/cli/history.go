package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/admin"
	"phoenix/bridge/awsenv"
	"phoenix/bridge/files"
)

// historyOf is how long before --until history begins where nothing else is said.
const historyOf = time.Hour

func historyCommand() *cli.Command {
	return &cli.Command{
		Name:      "history",
		Usage:     "show what happened in a period, in order of time",
		ArgsUsage: "[ID…]",
		Description: "Shows the decisions in this master's audit trail, and from the store (SOURCE store) the last change of each\n" +
			"minion, by any master. Audit trails are files: those of other masters are on their machines. A time is 02:00 (within\n" +
			"the last 24 hours), 2026-11-26 02:00, 2026-11-26T02:00:00Z, or 90m (90 minutes ago). For the decisions of\n" +
			"several masters in one order: ssh salt-2 phoenix history --since 02:00 --json | phoenix history --since 02:00 --merge -",
		Flags: []cli.Flag{jsonFlag,
			&cli.StringFlag{Name: "since", Usage: "start at this `TIME`", DefaultText: "1h before --until"},
			&cli.StringFlag{Name: "until", Usage: "end before this `TIME`", DefaultText: "now"},
			&cli.StringSliceFlag{Name: "merge",
				Usage: "add what phoenix history --json printed on another master, from `FILE` or from standard input (-)"}},
		Action: withStore(performing(showHistory)),
	}
}

func showHistory(c *cli.Context, a admin.Admin) error {
	zone := newClock(time.Now())
	now := time.Now().In(zone.zone) // what is printed can be typed
	r := admin.ReadHistory{Until: now, IDs: c.Args().Slice()}
	var err error
	if r.Since, r.Until, err = period(c.String("since"), c.String("until"), now); err != nil {
		return usageError(err)
	}
	if cfg := a.Config; cfg.InstanceID == "" { // else an audit trail has the id only while its bridge answers
		if _, err := awsenv.IdentifyMaster(c.Context, &cfg, ""); err == nil {
			a.Config.InstanceID = cfg.InstanceID
		}
	}
	h, err := a.History(c.Context, r)
	if err != nil {
		return err
	}
	for _, name := range c.StringSlice("merge") {
		other, err := readHistory(name)
		if err != nil {
			return fmt.Errorf("merge history %s: %w", name, err)
		}
		h.Merge(other, r)
	}
	if c.Bool("json") {
		h.UTC()
		return cmp.Or(printJSON(c.App.Writer, h), a.CheckKnown(c.Context, "read history", h.Missing(c.Args().Slice())))
	}
	if len(h.Events) == 0 {
		fmt.Fprintf(c.App.Writer, "nothing happened from %s to %s\n", admin.Clock(r.Since), admin.Clock(r.Until))
		return finishHistory(c, a, h)
	}
	err = printFitted(c, h.WithoutRepeats(), nil, []string{zone.title("TIME"), "SOURCE", "MINION", "WHAT"},
		func(e admin.Event) []any {
			return []any{zone.at(e.Time), e.Source, e.Minion, describeEvent(e)}
		}, wrapWhole)
	if err != nil {
		return err
	}
	return finishHistory(c, a, h)
}

// describeEvent is an event in words.
func describeEvent(e admin.Event) string {
	what := e.What
	if e.Master != "" {
		what += " (" + e.Master + ")"
	}
	if len(e.More) > 0 {
		what += "  " + strings.Join(e.More, " ")
	}
	return what
}

// finishHistory prints what is left out, and names ids that nobody knows.
func finishHistory(c *cli.Context, a admin.Admin, h *admin.History) error {
	for _, note := range h.Notes {
		fmt.Fprintf(c.App.ErrWriter, "note: %s\n", plain(note))
	}
	return a.CheckKnown(c.Context, "read history", h.Missing(c.Args().Slice()))
}

// maxMerged bounds the history of another master: 20,000 events are some MB.
const maxMerged = 64 << 20

// readHistory reads what history --json printed.
func readHistory(name string) (*admin.History, error) {
	f := os.Stdin
	if name != "-" {
		var err error
		if f, err = os.Open(name); err != nil {
			return nil, err
		}
		defer f.Close()
	}
	text, err := files.ReadAll(f, maxMerged)
	if err != nil {
		return nil, err
	}
	var h admin.History
	if err := json.Unmarshal(text, &h); err != nil {
		return nil, err
	}
	return &h, nil
}

// period reads --since and --until; either may be empty. A time of day that --until names
// is the first one after --since if that is not tomorrow, and an end in the future is now.
func period(sinceText, untilText string, now time.Time) (since, until time.Time, err error) {
	until = now
	if untilText != "" {
		if until, err = pointInTime(untilText, now); err != nil {
			return since, until, fmt.Errorf("--until: %w", err)
		}
	}
	if sinceText != "" {
		if since, err = pointInTime(sinceText, now); err != nil {
			return since, until, fmt.Errorf("--since: %w", err)
		}
		if _, daily := timeOfDay(untilText, now); daily && !since.Before(until) {
			// 23:00 to 06:00 ends this morning. What would end tomorrow is mistyped: an error of History.
			if next := until.AddDate(0, 0, 1); next.YearDay() == now.YearDay() || !next.After(now.Add(ahead)) {
				until = next
			}
		}
	}
	if until.After(now) {
		until = now
	}
	if sinceText == "" {
		since = until.Add(-historyOf)
	}
	return since, until, nil
}

// ahead is how far ahead a time of day may be to be one of today: it is typed just before.
const ahead = 15 * time.Minute

// timeOfDay reads 02:00 as the last time that it was two o'clock, or as today's if that is
// just ahead.
func timeOfDay(text string, now time.Time) (at time.Time, is bool) {
	for _, layout := range []string{"15:04:05", "15:04"} {
		if at, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			at = time.Date(now.Year(), now.Month(), now.Day(), at.Hour(), at.Minute(), at.Second(), 0, now.Location())
			if at.After(now.Add(ahead)) {
				at = at.AddDate(0, 0, -1)
			}
			return at, true
		}
	}
	return time.Time{}, false
}

// pointInTime reads a time as people write it, in this machine's own zone.
func pointInTime(text string, now time.Time) (time.Time, error) {
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04",
		"2006-01-02T15:04", "2006-01-02"} {
		if at, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return at, nil
		}
	}
	if at, is := timeOfDay(text, now); is {
		return at, nil
	}
	return time.Time{}, fmt.Errorf("%q is no time (02:00, 2026-11-26 02:00, 90m)", text)
}
