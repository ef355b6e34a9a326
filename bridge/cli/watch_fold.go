package cli

import (
	"fmt"
	"strings"
	"time"

	"phoenix/bridge/audit"
)

const (
	// foldWithin is how far apart decisions of the same kind may be to be one line: an act
	// on many minions takes some seconds.
	foldWithin = time.Minute
	// foldNamed is how many minions such a line names.
	foldNamed = 3
)

// folded is one line of the view: the same decision about one minion or many, in a row.
type folded struct {
	first, last audit.Line
	count       int
	named       []string
}

// fold makes one line of decisions that follow each other and differ in minion, key and
// job alone. The oldest is first.
func fold(lines []audit.Line) []folded {
	var out []folded
	for _, line := range lines {
		if n := len(out) - 1; n >= 0 && kind(out[n].last) == kind(line) &&
			line.Time.Sub(out[n].last.Time) <= foldWithin {
			f := &out[n]
			f.last = line
			f.count++
			if len(f.named) < foldNamed && line.Minion != "" {
				f.named = append(f.named, line.Minion)
			}
			continue
		}
		out = append(out, folded{line, line, 1, []string{line.Minion}})
	}
	return out
}

// kind is what a line says, without what belongs to one minion alone.
func kind(line audit.Line) string {
	words := []string{line.Text}
	for _, more := range line.More {
		switch name, _, _ := strings.Cut(more, "="); name {
		case "rule", "reason", "by", "outcome", "retcode":
			words = append(words, more)
		}
	}
	return strings.Join(words, "\x00")
}

// line says it as decided does a line.
func (f folded) line(zone clock) string {
	line := f.last
	if f.count == 1 {
		if line.Minion != "" { // else it is about no id, as the start of a bridge
			line.Text = line.Minion + ": " + line.Text
		}
		return zone.decided(line)
	}
	more := ""
	if f.count > len(f.named) {
		more = ", …"
	}
	words := strings.Split(kind(line), "\x00")
	line.Text = fmt.Sprintf("%d times: %s", f.count, strings.Join(words, " "))
	if f.named[0] != "" {
		line.Text += fmt.Sprintf(" (%s%s)", strings.Join(f.named, ", "), more)
	}
	line.More = nil
	return zone.decided(line)
}
