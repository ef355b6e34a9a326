package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// aim is the most that Phoenix should take, in times of the open door.
const aim = 1.15

// table is what the program says in the end.
type table struct{ lines []string }

// add notes the rounds of one fleet. One that failed is missing.
func (t *table) add(version string, n int, took map[string]result) {
	for _, w := range ways {
		r, there := took[w.name]
		if !there {
			t.lines = append(t.lines, fmt.Sprintf("%s\t%d\t%s\tfailed\t", version, n, w.name))
			continue
		}
		line := fmt.Sprintf("%s\t%d\t%s\t%s\t%s\t%s\t%s\t%.1f\t%.1f\t%d\t%d", version, n, w.name, seconds(r.took),
			seconds(r.half),
			ratio(r.took, took[floor].took), ratio(r.took, took[open].took), r.auths, r.master.CPU.Seconds(),
			r.double, r.lost)
		if w.phoenix {
			line += fmt.Sprintf("\t%.2f\t%.0f\t%s", r.bridge.CPU.Seconds()*1000/float64(n), r.bridge.Peak,
				met(r, took[open]))
		}
		t.lines = append(t.lines, line)
	}
}

func met(r, open result) string {
	if open.took > 0 && float64(r.took) <= aim*float64(open.took) && r.double == 0 && r.lost == 0 {
		return "yes"
	}
	return "NO"
}

func (t *table) print(w io.Writer) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "\nSALT\tMINIONS\tWAY\tALL DONE\tHALF\tTO FLOOR\tTO OPEN\tAUTHS\tMASTER CPU\tDOUBLE\tLOST\tBRIDGE CPU/1000\tBRIDGE MB\t≤ %.2f\n", aim)
	for _, line := range t.lines {
		fmt.Fprintln(tw, line)
	}
	_ = tw.Flush() // standard output: nobody is left to tell
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

func ratio(ours, other time.Duration) string {
	if other == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", float64(ours)/float64(other))
}
