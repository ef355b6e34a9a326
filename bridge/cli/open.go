package cli

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/user"
	"slices"
	"sync"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/admin"
	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
	"phoenix/bridge/open"
	"phoenix/bridge/plural"
)

// action is a command that needs a store.
type action func(c *cli.Context, cfg config.Config, store fleet.Store) error

// withStore runs do with configuration and store. There must be one.
func withStore(do action) cli.ActionFunc { return openFor(open.Fail, do) }

// makingStore is withStore for what may come first on a machine. In a dry run it
// makes nothing.
func makingStore(do action) cli.ActionFunc { return openFor(open.Create, do) }

// orEmptyFleet is withStore for what also tells something before there is a store: the
// fleet is then empty.
func orEmptyFleet(do action) cli.ActionFunc { return openFor(open.Pretend, do) }

func openFor(missing open.Missing, do action) cli.ActionFunc {
	return func(c *cli.Context) error {
		missing := missing
		if c.Bool("dry-run") {
			missing = open.Pretend
		}
		cfg, err := readConfig(c)
		if err != nil {
			return err
		}
		var waits func(error)
		if c.Command.Name != bridgeName { // which has a log
			var once sync.Once
			waits = func(err error) {
				once.Do(func() { fmt.Fprintf(c.App.ErrWriter, "note: %s; trying on\n", describeError(err)) })
			}
		}
		store, err := open.Store(c.Context, cfg, missing, waits)
		if err != nil {
			return err
		}
		defer store.Close()
		if open.IsTemporary(store) {
			fmt.Fprintf(c.App.ErrWriter, "note: there is no store %s yet (phoenix adopt or phoenix bridge creates it): this shows an empty fleet\n", cfg.Store)
		}
		return do(c, cfg, store)
	}
}

// operation is a command of package admin.
type operation func(c *cli.Context, a admin.Admin) error

// performing runs do with an Admin for its configuration and store.
func performing(do operation) action {
	return func(c *cli.Context, cfg config.Config, store fleet.Store) error {
		return do(c, newAdmin(c, cfg, store))
	}
}

func newAdmin(c *cli.Context, cfg config.Config, store fleet.Store) admin.Admin {
	a := admin.Admin{Config: cfg, Store: store, By: userName(),
		Log:      slog.New(slog.NewTextHandler(c.App.ErrWriter, nil)),
		Progress: func(what string) func() { return progress(c, what) },
		Warn:     func(text string) { fmt.Fprintln(c.App.ErrWriter, plain(text)) }}
	if !c.Bool("json") {
		a.Note = func(text string) { fmt.Fprintf(c.App.ErrWriter, "note: %s\n", plain(text)) }
	}
	return a
}

// userName returns who runs the command, as far as this machine knows.
func userName() string {
	name := fmt.Sprint(os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return cmp.Or(os.Getenv("SUDO_USER"), name)
}

// maxBadRows is how many rows that cannot be decoded are named, one a line.
const maxBadRows = 100

// nameBad names the rows that could not be decoded, and returns the error that a
// command ends with after it has printed all others: exit code 3.
func nameBad(c *cli.Context, bad map[string]error) error {
	if len(bad) == 0 {
		return nil
	}
	ids := slices.Sorted(maps.Keys(bad))
	for _, id := range ids[:min(len(ids), maxBadRows)] {
		fmt.Fprintf(c.App.ErrWriter, "left out: %s\n", plain(describeError(bad[id])))
	}
	return markedError{fleet.ErrCorrupt,
		fmt.Errorf("the store has %s that cannot be decoded; the others are shown above", plural.Of(len(bad), "row"))}
}

// printRows prints the rows of a result as JSON or as a table, and then names those
// that err leaves out.
func printRows[R any](c *cli.Context, rows []R, err error, columns []string, cells func(R) []any) error {
	bad, err := fleet.WithoutBadRows(err)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return cmp.Or(printJSON(c.App.Writer, rows), nameBad(c, bad))
	}
	t := newTable(c.App.Writer, columns...)
	for _, row := range rows {
		t.row(cells(row)...)
	}
	return cmp.Or(t.flush(), nameBad(c, bad))
}

// printFitted is printRows with a last column that is fitted into the width of a terminal:
// fit returns the lines of a cell.
func printFitted[R any](c *cli.Context, rows []R, err error, columns []string, cells func(R) []any,
	fit func(text string, width int) []string) error {
	if c.Bool("json") || terminalWidth(c.App.Writer) == 0 {
		return printRows(c, rows, err, columns, cells)
	}
	all := make([][]any, len(rows))
	for i, row := range rows {
		all[i] = cells(row)
	}
	width, last := lastColumn(c.App.Writer, columns, all), len(columns)-1
	bad, err := fleet.WithoutBadRows(err)
	if err != nil {
		return err
	}
	t := newTable(c.App.Writer, columns...)
	for _, row := range all {
		for i, line := range fit(fmt.Sprint(row[last]), width) {
			if i > 0 {
				row = slices.Repeat([]any{goesOn{}}, len(columns))
			}
			row[last] = line
			t.row(row...)
		}
	}
	return cmp.Or(t.flush(), nameBad(c, bad))
}
