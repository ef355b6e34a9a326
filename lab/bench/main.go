// Command bench measures what the bridge costs and how long it takes, on a real
// Salt master, against what the master or another way takes in the same run. It
// prints one table, and docs/benchmarks.md explains it.
//
//	make bench
//	go run ./lab/bench [decoding] [keys] [standing]    only these parts
package main

import (
	"fmt"
	"os"
	"slices"
	"time"
)

// version is the Salt that is measured against.
const version = "3007.15"

func main() {
	s := &stage{begun: time.Now()}
	var t table
	failed := s.run(func() { measure(s, &t, os.Args[1:]) })
	t.print(os.Stdout)
	if failed {
		os.Exit(1)
	}
}

// measure takes the measurements that are named, or all, one after the other:
// there are two cores.
func measure(s *stage, t *table, names []string) {
	parts := []struct {
		name    string
		measure func(*stage, *table)
	}{
		{"decoding", decoding}, {"keys", keys}, {"standing", standing},
	}
	for _, p := range parts {
		if len(names) == 0 || slices.Contains(names, p.name) {
			p.measure(s, t)
		}
	}
}

// stage is what the lab needs of a test, and says how far the program is.
type stage struct {
	begun    time.Time
	cleanups []func()
	failed   bool
}

// fall is what Fatalf panics with.
type fall struct{}

// run runs play, clears up whatever happened, and says whether it failed.
func (s *stage) run(play func()) (failed bool) {
	defer func() {
		thrown := recover()
		s.failed = s.failed || thrown != nil
		for i := len(s.cleanups) - 1; i >= 0; i-- {
			s.cleanups[i]()
		}
		if _, fell := thrown.(fall); thrown != nil && !fell {
			panic(thrown)
		}
		failed = s.failed
	}()
	play()
	return false
}

func (s *stage) Helper()          {}
func (s *stage) Failed() bool     { return s.failed }
func (s *stage) Cleanup(f func()) { s.cleanups = append(s.cleanups, f) }

func (s *stage) Logf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%5.0f s  %s\n", time.Since(s.begun).Seconds(), fmt.Sprintf(format, args...))
}

func (s *stage) Fatalf(format string, args ...any) {
	s.failed = true
	s.Logf(format, args...)
	panic(fall{})
}

// check ends the program for want of a measurement.
func (s *stage) check(err error) {
	if err != nil {
		s.Fatalf("%v", err)
	}
}
