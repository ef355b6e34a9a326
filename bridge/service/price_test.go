package service

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"phoenix/bridge/decide"
	"phoenix/lab"
)

var update = flag.Bool("update", false, "write the figures that were counted into docs/aws.md")

// What AWS asks in us-east-1, on demand, since its cut of November 2024; in US
// dollars for one. docs/aws.md says so.
const (
	readUnit   = 0.125e-6
	writeUnit  = 0.625e-6
	sqsRequest = 0.40e-6
)

const (
	month = 30 * 24 * time.Hour
	// pollsAnHour are the long polls of an empty queue, counted in package queue:
	// TestIdleIsQuiet.
	pollsAnHour = 180
	// pair is how many masters the months are reckoned for.
	pair = 2
)

func (b bill) dollars() float64 { return b.read*readUnit + b.write*writeUnit }

func (b *bill) add(other bill, times float64) {
	if b.requests == nil {
		b.requests = map[string]int{}
	}
	for op, n := range other.requests {
		b.requests[op] += int(float64(n)*times + 0.5)
	}
	b.read += other.read * times
	b.write += other.write * times
}

// TestDocumentedCosts: the figures of docs/aws.md are those that were counted.
func TestDocumentedCosts(t *testing.T) {
	var text strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&text, format+"\n", args...) }
	section := func(name string) {
		documented(t, name, text.String())
		text.Reset()
	}

	line("| step | requests | read units | write units |\n|---|---|---|---|")
	var total bill
	for _, s := range life(t, decide.Proven) {
		what := s.bill.String()
		if what == "" {
			what = "none"
		}
		line("| %s | %s | %g | %g |", s.name, what, s.read, s.write)
		total.add(s.bill, 1)
	}
	line("| **all** | **%d reads, %d writes** | **%g** | **%g** |", total.reads(), total.writes(),
		total.read, total.write)
	line("\nA thousand such lives cost $%.3f.", 1000*total.dollars())
	section("life")

	const few, many = 100, 1000
	small, smallAgent := idle(t, few)
	big, _ := idle(t, many)
	line("| a master's | every | requests, of 1,000 minions | read units | write units |\n|---|---|---|---|---|")
	for _, c := range big {
		line("| %s | %s | %s | %g | %g |", c.name, each(c.every), c.bill, c.read, c.write)
	}
	line("| **an agent's** | | **for each minion** | | |")
	line("| %s | %s | %s | %g | %g |", smallAgent.name, each(smallAgent.every), smallAgent.bill, smallAgent.read,
		smallAgent.write)
	section("chores")

	line("| minions | requests | read units | write units | DynamoDB | of that, agents | SQS |\n|---|---|---|---|---|---|---|")
	for _, n := range []float64{100, 10_000, 100_000} {
		var sum, agents bill
		for i, c := range small {
			times := float64(pair) * float64(month/c.every)
			slope := (n - few) / (many - few)
			sum.add(c.bill, times*(1-slope))
			sum.add(big[i].bill, times*slope)
		}
		agents.add(smallAgent.bill, n*float64(month/smallAgent.every))
		sum.add(agents, 1)
		line("| %s | %s | %s | %s | $%.2f | $%.2f | $%.2f |", thousands(n),
			thousands(float64(sum.reads()+sum.writes())),
			thousands(sum.read), thousands(sum.write), sum.dollars(), agents.dollars(),
			pair*pollsAnHour*month.Hours()*sqsRequest)
	}
	section("months")
}

func each(d time.Duration) string {
	return strings.TrimSuffix(strings.TrimSuffix(d.String(), "0s"), "0m")
}

func thousands(n float64) string {
	digits := fmt.Sprintf("%.0f", n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// documented holds a section of docs/aws.md against what was counted, or writes it.
func documented(t *testing.T, name, counted string) {
	t.Helper()
	root, err := lab.Root()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, "docs", "aws.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- counted: "+name+" -->\n", "<!-- end -->"
	before, rest, found := strings.Cut(string(text), begin)
	said, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no section %s", path, name)
	}
	switch {
	case said == counted:
	case *update:
		if err := os.WriteFile(path, []byte(before+begin+counted+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s, section %s, says\n%s\nand counted was (-update writes it)\n%s", path, name, said, counted)
	}
}
