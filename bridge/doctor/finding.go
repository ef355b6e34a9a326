package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Severity is how much a finding matters.
type Severity string

const (
	OK      Severity = "ok"      // as it should be
	Note    Severity = "note"    // good to know
	Warning Severity = "warning" // will go wrong some day, or hides something
	Error   Severity = "error"   // Phoenix cannot keep its guarantees so
)

// worse orders severities, the worst first.
var worse = []Severity{Error, Warning, Note, OK}

// Finding is what one check found.
type Finding struct {
	Severity Severity `json:"severity"`
	Check    string   `json:"check"`          // its name, stable: see Checks
	What     string   `json:"what"`           // one line
	Why      string   `json:"why,omitempty"`  // why it matters; empty for what is ok
	Mend     string   `json:"mend,omitempty"` // what to do about it: Commands, or words
	// Commands do it, one after the other, for exactly what was found. A test runs each.
	Commands []string `json:"commands,omitempty"`
}

// Worst is the worst severity among findings; OK if there are none.
func Worst(findings []Finding) Severity {
	worst := OK
	for _, f := range findings {
		if slices.Index(worse, f.Severity) < slices.Index(worse, worst) {
			worst = f.Severity
		}
	}
	return worst
}

// Count counts the findings of each severity.
func Count(findings []Finding) map[Severity]int {
	counts := map[Severity]int{}
	for _, f := range findings {
		counts[f.Severity]++
	}
	return counts
}

// Sort puts the worst first, and leaves the rest in the order of the checks.
func Sort(findings []Finding) {
	order := map[string]int{}
	for i, c := range Checks() {
		order[c.Name] = i
	}
	slices.SortStableFunc(findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(slices.Index(worse, a.Severity), slices.Index(worse, b.Severity)),
			cmp.Compare(order[a.Check], order[b.Check]))
	})
}

// report collects findings.
type report struct{ findings []Finding }

// add adds a finding. The check says why it matters.
func (r *report) add(severity Severity, check string, fix Fix, format string, args ...any) {
	f := Finding{Severity: severity, Check: check, What: fmt.Sprintf(format, args...)}
	if severity != OK {
		f.Why, f.Mend, f.Commands = find(check).Why, fix.String(), fix.commands
	}
	r.findings = append(r.findings, f)
}

// ok adds that a check found nothing.
func (r *report) ok(check, format string, args ...any) { r.add(OK, check, Fix{}, format, args...) }

// shown is how many names a line has room for.
const shown = 8

// some lists names, quoted where one could be more than a name.
func some(names []string) string {
	out := make([]string, 0, min(len(names), shown))
	for _, name := range names[:min(len(names), shown)] {
		out = append(out, quote(name))
	}
	text := strings.Join(out, ", ")
	if more := len(names) - shown; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// quote keeps a hostile name from being taken for anything else by a terminal. For a
// shell, see word.
func quote(name string) string {
	if name != "" && len(name) <= 128 && !strings.ContainsFunc(name, special) {
		return name
	}
	if len(name) > 128 {
		name = name[:128]
	}
	return fmt.Sprintf("%+q", name)
}
