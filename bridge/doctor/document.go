package doctor

import (
	"fmt"
	"strings"
)

// Document returns the text of docs/doctor.md with its tables of checks as the code has
// them: each between a line "<!-- checks: WHERE -->" and "<!-- end -->".
func Document(text string) (string, error) {
	for _, where := range []string{OnMaster, OnMinion, WithConfig} {
		begin, end := "<!-- checks: "+where+" -->\n", "<!-- end -->"
		before, rest, ok := strings.Cut(text, begin)
		_, after, closed := strings.Cut(rest, end)
		if !ok || !closed {
			return "", fmt.Errorf("find table of checks: no %q with %q after it", strings.TrimSpace(begin), end)
		}
		var table strings.Builder
		table.WriteString("| check | examines | why it matters |\n|---|---|---|\n")
		for _, c := range Checks() {
			if c.Where == where {
				fmt.Fprintf(&table, "| `%s` | %s | %s |\n", c.Name, c.Looks, c.Why)
			}
		}
		text = before + begin + table.String() + end + after
	}
	return text, nil
}
