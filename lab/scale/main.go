// Command scale measures how long a fleet takes from its launch to its first
// highstate on record, on real masters, against what Salt does alone. Minions are
// played (package swarm). It prints one table, and docs/benchmarks.md explains it.
//
//	make scale
//	go run ./lab/scale [-minions 200,1000] [3007.17 3008.5]    only these
package main

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"

	"phoenix/lab"
)

// restarted is the size of the fleet whose master is restarted.
const restarted = 1000

func main() {
	sizes := flag.String("minions", "200,1000,3000", "sizes of fleets")
	flag.Parse()
	versions := flag.Args()
	if len(versions) == 0 {
		versions = []string{lab.Salt3007, lab.Salt3008}
	}
	var fleets []int
	for size := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.Atoi(size)
		if err != nil || n < 1 || n > 5000 {
			fmt.Fprintf(os.Stderr, "scale: -minions %s: not numbers from 1 to 5000\n", *sizes)
			os.Exit(2)
		}
		fleets = append(fleets, n)
	}
	var t table
	failed := false
	for _, version := range versions {
		for _, n := range fleets {
			took := map[string]result{}
			for _, w := range ways {
				s := lab.NewRunner()
				failed = s.Run(func() { took[w.name] = measure(s, version, n, w) }) || failed
			}
			t.add(version, n, took)
		}
	}
	var after []string
	for _, version := range versions {
		s := lab.NewRunner()
		failed = s.Run(func() { after = append(after, restart(s, version, restarted)) }) || failed
	}
	for _, version := range versions {
		s := lab.NewRunner()
		failed = s.Run(func() {
			said, again := vanish(s, version, restarted)
			after = append(after, said)
			failed = failed || again > 0
		}) || failed
	}
	t.print(os.Stdout)
	fmt.Print("\n", strings.Join(after, ""))
	if failed {
		os.Exit(1)
	}
}
