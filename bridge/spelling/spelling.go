// Package spelling finds the word that was perhaps meant by one that is misspelt.
package spelling

import (
	"slices"
	"strings"
)

// Near reports whether word is perhaps a misspelling of known: fewer than half of its letters
// are amiss.
func Near(word, known string) bool { return 2*Distance(word, known) < len(word) }

// Nearest returns those of known that are Near to word and nearest to it, each once.
func Nearest(word string, known []string) (nearest []string) {
	least := len(word)
	for _, k := range known {
		d := Distance(word, k)
		switch {
		case !Near(word, k) || d > least:
			continue
		case d < least:
			nearest, least = nil, d
		}
		nearest = append(nearest, k)
	}
	slices.Sort(nearest)
	return slices.Compact(nearest)
}

// DidYouMean is a question that names words, in parentheses after a space; empty for none.
func DidYouMean(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return " (did you mean " + strings.Join(words, ", ") + "?)"
}

// Distance counts the letters that are to be put in, left out or changed to make
// one word of the other.
func Distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		above := row[0]
		row[0]++
		for j := range len(b) {
			here := above
			if a[i] != b[j] {
				here = min(above, row[j], row[j+1]) + 1
			}
			above, row[j+1] = row[j+1], here
		}
	}
	return row[len(b)]
}
