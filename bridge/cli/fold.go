package cli

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"golang.org/x/term"
)

// terminalWidth is the width of the terminal that w writes to; 0: it is none, and nothing
// is fitted into a width.
func terminalWidth(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0
	}
	if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
		return width
	}
	return helpWidth
}

// leastWidth is the narrowest that anything is fitted into.
const leastWidth = 40

// label is what stands before the text of a line, in columns of its own.
var label = regexp.MustCompile(`^\s+|^(?:\S+(?: \S+)*\s{2,})+`)

// foldLines breaks the lines of a text that are longer than width at their spaces, and indents
// what follows to the column in which the text begins. With a width of 0 it changes nothing.
func foldLines(text string, width int) string {
	if width <= 0 {
		return text
	}
	width = max(width, leastWidth)
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if len([]rune(line)) <= width {
			b.WriteString(line + "\n")
			continue
		}
		head := label.FindString(string([]rune(line)[:width/2]))
		rest := strings.TrimPrefix(line, head)
		longest := 0
		for _, word := range strings.Fields(rest) {
			longest = max(longest, len([]rune(word)))
		}
		margin := min(len([]rune(head)), max(width-longest, 2))
		lines := breakLines(strings.Join(strings.Fields(rest), " "), width-len([]rune(head)), width-margin)
		b.WriteString(head + strings.Join(lines, "\n"+strings.Repeat(" ", margin)) + "\n")
	}
	return b.String()
}

// lastColumn is the width that a terminal has for the last column of a table, beside the
// others; 0: it is no terminal.
func lastColumn(w io.Writer, columns []string, rows [][]any) int {
	width := terminalWidth(w)
	if width == 0 {
		return 0
	}
	for i, column := range columns[:len(columns)-1] {
		widest := len([]rune(column))
		for _, cells := range rows {
			widest = max(widest, len([]rune(plain(fmt.Sprint(cells[i])))))
		}
		width -= widest + 2
	}
	return max(width, leastWidth/2)
}
