package event

import (
	"fmt"
	"regexp"
	"strings"
)

// Glob returns the test of tags that Salt's own commands make of a pattern: Python's
// fnmatch, where * also takes in slashes, and nothing can be escaped but by [].
func Glob(pattern string) func(tag []byte) bool {
	if pattern == "*" {
		return func([]byte) bool { return true }
	}
	var re strings.Builder
	re.WriteString(`(?s)\A`)
	runes := []rune(pattern)
	for i := 0; i < len(runes); {
		c := runes[i]
		i++
		switch c {
		case '*':
			re.WriteString(".*")
		case '?':
			re.WriteByte('.')
		case '[':
			set, next, closed := setOf(runes, i)
			if !closed {
				re.WriteString(`\[`)
				continue
			}
			re.WriteString(set)
			i = next
		default:
			re.WriteString(regexp.QuoteMeta(string(c)))
		}
	}
	re.WriteString(`\z`)
	return regexp.MustCompile(re.String()).Match
}

// setOf makes a set of characters of what follows a [. A ] that comes first is one of its
// members, and a range that ends before it begins has none (Python's fnmatch).
func setOf(runes []rune, i int) (re string, next int, closed bool) {
	not := i < len(runes) && runes[i] == '!'
	if not {
		i++
	}
	end := i
	if end < len(runes) && runes[end] == ']' {
		end++
	}
	for end < len(runes) && runes[end] != ']' {
		end++
	}
	if end >= len(runes) {
		return "", 0, false
	}
	var members strings.Builder
	for i < end {
		low, high := runes[i], runes[i]
		if i++; i+1 < end && runes[i] == '-' {
			high = runes[i+1]
			i += 2
		}
		if low <= high {
			fmt.Fprintf(&members, `\x{%x}-\x{%x}`, low, high)
		}
	}
	end++
	switch {
	case members.Len() == 0 && not:
		return ".", end, true
	case members.Len() == 0:
		return `[^\x00-\x{10FFFF}]`, end, true
	case not:
		return "[^" + members.String() + "]", end, true
	}
	return "[" + members.String() + "]", end, true
}
