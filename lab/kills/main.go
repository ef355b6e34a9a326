// Command kills measures how long minions are without a master that dies, on real
// masters and minions, and what Salt's own failover takes beside it. It prints one
// table, and docs/agent-behaviour.md explains it.
//
//	make kills                        20 moves for each way to die, on two Salts
//	go run ./lab/kills -moves 4 -patience 2m 3008.5
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"time"

	"phoenix/lab"
	"phoenix/lab/failover"
)

// minions that lose their master at a time: more would only measure how fast two
// cores start Salt minions.
const minions = 3

func main() {
	moves := flag.Int("moves", 20, "moves of a minion to measure, for each way to die")
	patience := flag.Duration("patience", 20*time.Minute, "how long Salt's own failover is waited for")
	flag.Parse()
	versions := flag.Args()
	if len(versions) == 0 {
		versions = []string{lab.Salt3007, lab.Salt3008}
	}
	child, err := lab.Isolate(os.Args[1:]...)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		os.Exit(1) // it has said why
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "kills:", err)
		os.Exit(1)
	}
	if !child {
		return
	}
	var t table
	failed := false
	for _, version := range versions {
		s := &runner{lab.NewRunner(), version}
		failed = s.Run(func() { measure(s, &t, *moves, *patience) }) || failed
	}
	t.print(os.Stdout)
	if failed {
		os.Exit(1)
	}
}

func measure(s *runner, t *table, moves int, patience time.Duration) {
	s.say("two masters and %d minions start", minions)
	f := failover.New(s, s.version, minions)
	for _, how := range []failover.How{failover.Killed, failover.Vanished} {
		var all []failover.Move
		for len(all) < moves {
			for _, m := range f.Kill(how) {
				by := "by Salt's own failover"
				if m.Restarted {
					by = "by its agent"
				}
				s.say("%s: %s was served after %.1f s, %s", how, m.Minion, m.Took.Seconds(), by)
				all = append(all, m)
			}
		}
		t.moves(s.version, how, all)
	}
	s.say("Salt's own failover, without an agent; for up to %v", patience)
	for _, a := range f.Alone(patience) {
		t.alone(s.version, a)
	}
	s.say("each first highstate ran once, those that were running when their master died included")
}

// table is the result.
type table struct{ rows []row }

type row struct {
	version, how, who string
	n                 int
	p50, most         string
}

func (t *table) moves(version string, how failover.How, all []failover.Move) {
	var took []time.Duration
	restarted := 0
	for _, m := range all {
		took = append(took, m.Took)
		if m.Restarted {
			restarted++
		}
	}
	slices.Sort(took)
	t.rows = append(t.rows, row{version, string(how), fmt.Sprintf("agent (it restarted %d)", restarted), len(took),
		seconds(took[len(took)/2]), seconds(took[len(took)-1])})
}

func (t *table) alone(version string, a failover.Alone) {
	took := seconds(a.Took)
	if !a.Moved {
		took = "over " + took
	}
	t.rows = append(t.rows, row{version, string(failover.Vanished), a.Name, 1, took, took})
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

func (t *table) print(out *os.File) {
	const line = "%-8s  %-14s  %-31s  %5v  %-11s  %s\n"
	fmt.Fprintf(out, "\n"+line, "Salt", "the master", "minions with", "moves", "p50", "max")
	for _, r := range t.rows {
		fmt.Fprintf(out, line, r.version, r.how, r.who, r.n, r.p50, r.most)
	}
}

// runner prints how far the measurement of one version is.
type runner struct {
	*lab.Runner
	version string
}

func (s *runner) say(format string, args ...any) { s.Logf(s.version+"  "+format, args...) }
