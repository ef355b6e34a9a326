package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	// slowest of the tests are listed at the end.
	slowest = 10
	// maxReasons of a failed test are repeated at the end, each with so many bytes.
	maxReasons, maxReason = 5, 400
)

// reason finds the lines with which a test says why it failed: those of its own file,
// not those of the processes that it ran.
var reason = regexp.MustCompile(`^\s*\w+_test\.go:\d+: |^panic: |^fatal error: |WARNING: DATA RACE|^\S* did not end`)

// event is one line of "go test -json"; see cmd/test2json.
type event struct {
	Action  string
	Package string
	Test    string
	Elapsed float64 // seconds, of pass, fail and skip
	Output  string
}

// name identifies a test among those of all packages.
type name struct{ Package, Test string }

// String returns the test's name alone where that is known by its package.
func (n name) String() string {
	if n.Test == "" {
		return n.Package
	}
	return n.Test
}

// top reports whether it is a test or a subtest of the first level, such as that
// of one version of Salt. Deeper ones are part of it.
func (n name) top() bool { return strings.Count(n.Test, "/") <= 1 }

// log turns events into lines for people.
type log struct {
	out     io.Writer
	least   float64 // seconds: tests that pass sooner get no line
	printed time.Time
	began   map[name]time.Time // of those that run
	paused  map[name]bool      // those that wait for their turn
	output  map[name][]string
	took    map[name]float64
	failed  []failure
	seen    int // events: none means that the input was no log
}

// failure is why a test failed, as far as it said.
type failure struct {
	name    name
	reasons []string
}

func newLog(out io.Writer, least float64) *log {
	return &log{out: out, least: least, printed: time.Now(), began: map[name]time.Time{}, paused: map[name]bool{},
		output: map[name][]string{}, took: map[name]float64{}}
}

func (l *log) printf(now time.Time, format string, args ...any) {
	l.printed = now
	fmt.Fprintf(l.out, format, args...)
}

// read takes one line.
func (l *log) read(line []byte, now time.Time) {
	if len(bytes.TrimSpace(line)) == 0 {
		return
	}
	var e event
	if err := json.Unmarshal(line, &e); err != nil || e.Action == "" {
		l.printf(now, "%s", line) // the compiler's
		return
	}
	l.seen++
	n := name{e.Package, e.Test}
	switch e.Action {
	case "run", "cont":
		l.began[n] = now
		delete(l.paused, n)
	case "pause":
		l.paused[n] = true
		delete(l.began, n)
	case "build-output":
		l.printf(now, "%s", e.Output)
	case "output":
		l.output[n] = append(l.output[n], e.Output)
	case "pass", "fail", "skip":
		l.ended(n, e, now)
	}
}

func (l *log) ended(n name, e event, now time.Time) {
	delete(l.began, n)
	text := l.output[n]
	delete(l.output, n)
	if e.Action == "fail" || e.Action == "skip" {
		l.printf(now, "%s", strings.Join(text, ""))
	}
	if e.Action == "fail" {
		l.noteFailure(n, text)
	}
	if !n.top() || n.Test == "" && e.Action == "skip" { // a package without tests
		return
	}
	if n.Test != "" {
		l.took[n] = e.Elapsed
	}
	if n.Test == "" || e.Action != "pass" || e.Elapsed >= l.least {
		l.printf(now, "%-4s %6.1f s  %s\n", e.Action, e.Elapsed, n)
	}
}

// noteFailure keeps what a failed test said in its last lines of its own. Tests that
// failed only by a subtest said nothing themselves.
func (l *log) noteFailure(n name, text []string) {
	var reasons []string
	for _, line := range text {
		if reason.MatchString(line) {
			reasons = append(reasons, strings.TrimSpace(line[:min(len(line), maxReason)]))
		}
	}
	if len(reasons) > 0 {
		l.failed = append(l.failed, failure{n, reasons[max(0, len(reasons)-maxReasons):]})
	}
}

// failures returns a text with each failed test and its reasons; empty: none failed.
func (l *log) failures() string {
	var text strings.Builder
	for _, f := range l.failed {
		fmt.Fprintf(&text, "failed: %s %s\n", f.name.Package, f.name.Test)
		for _, r := range f.reasons {
			fmt.Fprintf(&text, "    %s\n", r)
		}
	}
	return text.String()
}

// idle prints what runs if nothing was printed for so long.
func (l *log) idle(now time.Time, after time.Duration) {
	if now.Sub(l.printed) < after {
		return
	}
	var run []string
	for n, began := range l.began {
		if n.Test != "" && !hasSubtest(l.began, n) && !hasSubtest(l.paused, n) {
			run = append(run, fmt.Sprintf("%s for %.0f s", n, now.Sub(began).Seconds()))
		}
	}
	slices.Sort(run)
	l.printf(now, "now: %s\n", strings.Join(run, ", "))
}

// close prints the slowest tests, and what never ended.
func (l *log) close() error {
	if l.seen == 0 {
		return fmt.Errorf("read test events: there are none")
	}
	now := time.Now()
	for _, n := range keys(l.output) { // the process ended before they did
		if _, unfinished := l.began[n]; unfinished {
			l.printf(now, "%s%s did not end\n", strings.Join(l.output[n], ""), n)
			l.noteFailure(n, append(l.output[n], n.String()+" did not end"))
		}
	}
	// A test is as long as its subtests, which say more.
	names := slices.DeleteFunc(keys(l.took), func(n name) bool { return l.took[n] < 1 || hasSubtest(l.took, n) })
	slices.SortFunc(names, func(a, b name) int { return cmp.Compare(l.took[b], l.took[a]) })
	if len(names) > 0 {
		l.printf(now, "the slowest:\n")
	}
	for _, n := range names[:min(slowest, len(names))] {
		l.printf(now, "     %6.1f s  %s %s\n", l.took[n], n.Package, n.Test)
	}
	return nil
}

// hasSubtest reports whether one of the names in m is a subtest of n.
func hasSubtest[V any](m map[name]V, n name) bool {
	for other := range m {
		if other.Package == n.Package && strings.HasPrefix(other.Test, n.Test+"/") {
			return true
		}
	}
	return false
}

func keys[V any](m map[name]V) []name {
	all := make([]name, 0, len(m))
	for n := range m {
		all = append(all, n)
	}
	return all
}
