package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"
)

var jsonFlag = &cli.BoolFlag{Name: "json", Usage: "print JSON, for programs"}

// printJSON prints v; a nil list as [].
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// table prints rows in columns, for people.
type table struct {
	w    *tabwriter.Writer
	rows int
}

func newTable(w io.Writer, columns ...string) *table {
	t := &table{w: tabwriter.NewWriter(paint(w), 0, 0, 2, ' ', 0)}
	t.row(toAny(columns)...)
	t.rows = 0
	return t
}

// goesOn is a cell that goes on from the row above.
type goesOn struct{}

func (t *table) row(cells ...any) {
	for i, cell := range cells {
		text := plain(fmt.Sprint(cell))
		switch _, more := cell.(goesOn); {
		case more:
			text = ""
		case text == "":
			text = "-"
		}
		if i > 0 {
			fmt.Fprint(t.w, "\t")
		}
		fmt.Fprint(t.w, text)
	}
	fmt.Fprintln(t.w)
	t.rows++
}

func (t *table) flush() error { return t.w.Flush() }

// plain keeps a hostile id from moving the cursor or breaking a line.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x202e {
			return '\ufffd'
		}
		return r
	}, text)
}

func toAny(s []string) []any {
	out := make([]any, len(s))
	for i, v := range s {
		out[i] = v
	}
	return out
}

// short is enough of a digest for people to compare.
func short(digest string) string {
	if len(digest) > 12 {
		return digest[:12]
	}
	return digest
}
