// Command relaycost measures what the relay costs, against one master for all minions
// and against minions that are connected to several masters at once, on real masters.
// Minions are played (package swarm). It prints one table, which docs/benchmarks.md
// explains.
//
//	make relay-cost
//	go run ./lab/relaycost [-minions 200] [-rounds 20] [3007.17]
package main

import (
	"flag"
	"fmt"
	"os"
	"text/tabwriter"

	"phoenix/lab"
)

func main() {
	minions := flag.Int("minions", 200, "minions of a fleet")
	rounds := flag.Int("rounds", 20, "commands that are timed")
	flag.Parse()
	version := lab.Salt3007
	if flag.NArg() > 0 {
		version = flag.Arg(0)
	}
	results, failed := map[string]result{}, false
	for _, w := range ways {
		s := lab.NewRunner()
		failed = s.Run(func() { results[w.name] = measure(s, version, *minions, *rounds, w) }) || failed
	}
	print(version, *minions, *rounds, results)
	if failed {
		os.Exit(1)
	}
}

// print prints the table. A way that failed has zeros.
func print(version string, minions, rounds int, results map[string]result) {
	one, two, hot := results[oneMaster], results[relayed], results[hotMasters]
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\nSalt %s, %d minions, medians of %d commands\n", version, minions, rounds)
	fmt.Fprintln(t, "\tONE MASTER\tRELAY, 2 MASTERS\tHOT, 2 MASTERS\tAIM")
	fmt.Fprintf(t, "salt '*' test.ping\t%s\t%s\t%s\t\n", ms(one.all), ms(two.all), ms(hot.all))
	fmt.Fprintf(t, "  in times of one master\t1\t%.2f\t%.2f\t%s\n", ratio(two.all, one.all), ratio(hot.all, one.all),
		aim("≤ 1.2", ratio(two.all, one.all) <= 1.2))
	fmt.Fprintf(t, "  the quickest\t%s\t%s\t%s\t\n", ms(one.quickest), ms(two.quickest), ms(hot.quickest))
	fmt.Fprintf(t, "    in times of one master\t1\t%.2f\t%.2f\t\n", ratio(two.quickest, one.quickest),
		ratio(hot.quickest, one.quickest))
	fmt.Fprintf(t, "  answers of each command, fewest\t%d\t%d\t%d\t\n", one.fewest, two.fewest, hot.fewest)
	fmt.Fprintf(t, "one minion of this master\t%s\t%s\t%s\t\n", ms(one.own), ms(two.own), ms(hot.own))
	fmt.Fprintf(t, "one minion of the other master\t\t%s\t\t\n", ms(two.other))
	fmt.Fprintf(t, "  the publish alone\t%s\t%s\t%s\t\n", ms(one.publish), ms(two.publish), ms(hot.publish))
	over := two.other - two.own - two.publish
	fmt.Fprintf(t, "  what the relay takes over the second publish\t\t%s\t\t%s\n", ms(over),
		aim("≤ 10 ms", over.Milliseconds() <= 10))
	fmt.Fprintf(t, "bytes between the masters for a return\t\t%.0f\t\t\n", two.bytes)
	fmt.Fprintf(t, "bridges, MB each\t\t%.1f\t\t\n", two.bridge)
	fmt.Fprintf(t, "  the most, with 1,000 returns in flight\t\t%.1f\t\t%s\n", two.burst,
		aim("≤ +10 MB", two.burst-two.bridge <= 10))
	fmt.Fprintf(t, "masters, MB each\t%.0f\t%.0f\t%.0f\t\n", one.master, two.master, hot.master)
	fmt.Fprintf(t, "connections of minions to masters\t%d\t%d\t%d\t\n", one.connections, two.connections,
		hot.connections)
	_ = t.Flush() // standard output: nobody is left to tell
}

func aim(what string, met bool) string {
	if met {
		return what + " yes"
	}
	return what + " NO"
}
