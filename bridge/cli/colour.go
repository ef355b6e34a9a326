package cli

import (
	"cmp"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/term"
)

// The colours of a terminal (ECMA-48, SGR).
const (
	red    = "\x1b[31m"
	yellow = "\x1b[33m"
	green  = "\x1b[32m"
	normal = "\x1b[0m"
)

// colours are the words that are coloured, where they stand alone: in a cell of a table,
// or before a colon or comma.
var colours = map[string]string{
	"NOT SAFE": red, "needed": red, "failed": red, "error": red, "STALE": red, "unreadable": red, "NOT READY": red,
	"HEARTBEAT NOT WRITTEN": red, "TWO BRIDGES": red, "ANOTHER KEY": red, "NOT SERVED": red, "KEY NOT DELETED": red,
	"ATTENTION":               red,
	"NO NEW FIRST HIGHSTATES": red,
	"warning":                 yellow, "LATE": yellow, "not known to be safe": yellow,
	"not known to be safe yet": yellow, "denied": yellow, "rejected": yellow, "draining": yellow, "pending": yellow,
	"ok": green, "ready": green, "succeeded": green, "done": green,
}

var coloured = regexp.MustCompile(`(^|\s\s|\n)(` + strings.Join(slices.SortedFunc(maps.Keys(colours), longestFirst),
	"|") + `)(\s\s|[,:]|$|\n|\s*$)`)

func longestFirst(a, b string) int { return cmp.Or(len(b)-len(a), cmp.Compare(a, b)) }

// paint returns a writer that colours words on a terminal, and w itself elsewhere, or where
// the user wants no colours (https://no-color.org, TERM=dumb).
func paint(w io.Writer) io.Writer {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" ||
		os.Getenv("TERM") == "" {
		return w
	}
	return painter{f}
}

// painter colours what is written to it. Each write has whole words.
type painter struct{ w io.Writer }

func (p painter) Write(text []byte) (int, error) {
	if _, err := p.w.Write(colour(text)); err != nil {
		return 0, err
	}
	return len(text), nil
}

func colour(text []byte) []byte {
	return coloured.ReplaceAllFunc(text, func(match []byte) []byte {
		part := coloured.FindSubmatch(match)
		if part == nil {
			return match
		}
		return append(append(append(append(append([]byte{}, part[1]...), colours[string(part[2])]...), part[2]...),
			normal...), part[3]...)
	})
}
