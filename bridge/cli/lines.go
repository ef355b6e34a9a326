package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// breakLines breaks a text into lines no wider than width, the first one than first, between
// words and never within a command, which may be copied: one for which a line is begun has that
// line for itself. A word or a command that is wider is not broken. A width of 0 is no limit.
func breakLines(text string, first, width int) []string {
	if width == 0 || len([]rune(text)) <= first {
		return []string{text}
	}
	var lines []string
	limit := first
	line, begun := "", "" // and what a line after the first begins with
	for _, part := range unbreakable(text) {
		switch {
		case line == "":
			line = part
		case len([]rune(line))+1+len([]rune(part)) > limit, strings.Contains(begun, " "):
			lines = append(lines, line)
			line, begun, limit = part, part, width
		default:
			line += " " + part
		}
	}
	return append(lines, line)
}

// wrapWhole is breakLines with all lines of one width.
func wrapWhole(text string, width int) []string { return breakLines(text, width, width) }

// programs begin a command within a sentence; tools do so before a flag, a path or a function
// alone, since they are words, too. groups are those of their words that need another one.
var (
	programs = []string{"phoenix", "systemctl", "journalctl", "aws"}
	tools    = []string{"salt", "salt-call", "salt-key", "salt-run", "ls", "less", "chown"}
	groups   = []string{"minions", "masters", "keys", "highstate", "jobs", "identity", "store"}
)

// begins reports whether a command begins with a word before another one.
func begins(word, next string) bool {
	return slices.Contains(programs, word) || slices.Contains(tools, word) && strings.ContainsAny(next, "-/.")
}

// unbreakable returns the words of a text, those of a command together. A command ends at
// punctuation, or at the first plain word that neither its program, nor a group, nor a flag
// asks for.
func unbreakable(text string) (parts []string) {
	before := ""  // the last word, if it is within a command
	bare := false // that command has no word yet, only flags
	words := append(strings.Fields(text), "")
	for i, word := range words[:len(words)-1] {
		program := strings.TrimLeft(word, "(")
		switch {
		case before != "" && (bare || slices.Contains(groups, before) || strings.HasPrefix(before, "-") ||
			strings.ContainsFunc(word, notLower)):
			parts[len(parts)-1] += " " + word
			bare = bare && (strings.HasPrefix(word, "-") || strings.HasPrefix(before, "-"))
			before = word
		case begins(program, words[i+1]):
			parts = append(parts, word)
			before, bare = program, true
		default:
			parts = append(parts, word)
			before = ""
		}
		if strings.ContainsAny(word[len(word)-1:], ";,:)") {
			before = ""
		}
	}
	return parts
}

func notLower(r rune) bool { return r < 'a' || r > 'z' }

// leastColumn is the least that a column of wrapped text has: a terminal that has no more
// breaks the lines itself.
const leastColumn = 24

// facts prints names and what they are, one a line. On a terminal what is long is wrapped,
// and what is bad is coloured: the name never is.
func facts(w io.Writer, list [][2]string) error {
	left := 0
	for _, f := range list {
		left = max(left, len([]rune(f[0])))
	}
	left += 2
	width, painted := terminalWidth(w), paint(w)
	if width > 0 {
		width = max(width-left, leastColumn)
	}
	for _, f := range list {
		value := plain(f[1])
		if value == "" {
			value = "-"
		}
		for i, line := range wrapWhole(value, width) {
			name := ""
			if i == 0 {
				name = f[0]
			}
			if _, err := fmt.Fprintf(w, "%-*s", left, name); err != nil {
				return err
			}
			to := w
			if i == 0 {
				to = painted
			}
			if _, err := fmt.Fprintln(to, line); err != nil {
				return err
			}
		}
	}
	return nil
}
