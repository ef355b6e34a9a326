package cli

import (
	"strings"

	"phoenix/bridge/spelling"
)

// nearID returns the one of ids that was perhaps meant by an id that is none of them:
// another case, a letter or two amiss; empty: none is near.
func nearID(id string, ids []string) string {
	nearest, least := "", max(len(id)/4, 1)+1
	for _, other := range ids {
		if strings.EqualFold(other, id) {
			return other
		}
		if max(len(other)-len(id), len(id)-len(other)) >= least {
			continue
		}
		if d := spelling.Distance(id, other); d < least && !numbered(id, other) {
			nearest, least = other, d
		}
	}
	return nearest
}

// numbered reports whether two ids differ in digits alone: web-1 and web-2 are two
// machines, and neither is a misspelling of the other.
func numbered(a, b string) bool {
	without := func(id string) string {
		return strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' {
				return -1
			}
			return r
		}, id)
	}
	return without(a) == without(b)
}
