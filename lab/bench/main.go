// Command bench measures what the bridge costs and how long it takes, on a real
// Salt master, against what the master or another way takes in the same run. It
// prints one table, and docs/benchmarks.md explains it.
//
//	make bench
//	go run ./lab/bench [decoding] [keys] [standing]    only these parts
package main

import (
	"os"
	"slices"

	"phoenix/lab"
)

// version is the Salt that is measured against.
const version = lab.Salt3007

func main() {
	s := &runner{lab.NewRunner()}
	var t table
	failed := s.Run(func() { measure(s, &t, os.Args[1:]) })
	t.print(os.Stdout)
	if failed {
		os.Exit(1)
	}
}

// measure takes the measurements that are named, or all, one after the other:
// there are two cores.
func measure(s *runner, t *table, names []string) {
	parts := []struct {
		name    string
		measure func(*runner, *table)
	}{
		{"decoding", decoding}, {"keys", keys}, {"standing", standing},
	}
	for _, p := range parts {
		if len(names) == 0 || slices.Contains(names, p.name) {
			p.measure(s, t)
		}
	}
}

// runner runs the measurements.
type runner struct{ *lab.Runner }

// check ends the program for want of a measurement.
func (s *runner) check(err error) {
	if err != nil {
		s.Fatalf("%v", err)
	}
}
