package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// table is what the program says in the end.
type table struct{ rows []row }

// row is one measure: ours, what it is held against, and the aim.
type row struct{ measure, ours, other, ratio, aim, met string }

// atMost notes a ratio of ours to the other's that should be small.
func (t *table) atMost(measure string, ours, other time.Duration, aim float64) {
	ratio := float64(ours) / float64(other)
	t.rows = append(t.rows, row{measure, show(ours), show(other), fmt.Sprintf("%.2f", ratio),
		fmt.Sprintf("≤ %.4g", aim), yes(ratio <= aim)})
}

// atLeast notes a ratio of the other's to ours that should be large.
func (t *table) atLeast(measure string, ours, other time.Duration, aim float64) {
	ratio := float64(other) / float64(ours)
	t.rows = append(t.rows, row{measure, show(ours), show(other), fmt.Sprintf("%.1f ×", ratio),
		fmt.Sprintf("≥ %.4g ×", aim), yes(ratio >= aim)})
}

// compare notes a ratio of the other's to ours that has no aim.
func (t *table) compare(measure string, ours, other time.Duration) {
	t.note(measure, show(ours), show(other))
	t.rows[len(t.rows)-1].ratio = fmt.Sprintf("%.1f ×", float64(other)/float64(ours))
}

// under notes a figure of ours alone.
func (t *table) under(measure string, ours float64, unit string, aim float64) {
	t.rows = append(t.rows, row{measure, fmt.Sprintf("%.4g%s", ours, unit), "", "",
		fmt.Sprintf("≤ %.4g%s", aim, unit), yes(ours <= aim)})
}

// note notes figures that have neither ratio nor aim.
func (t *table) note(measure, ours, other string) {
	t.rows = append(t.rows, row{measure: measure, ours: ours, other: other})
}

func yes(met bool) string {
	if met {
		return "yes"
	}
	return "NO"
}

func (t *table) print(w io.Writer) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "\nMEASURE\tOURS\tOTHER\tRATIO\tAIM\tMET")
	for _, r := range t.rows {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\n", r.measure, r.ours, r.other, r.ratio, r.aim, r.met)
	}
	_ = tw.Flush() // standard output: nobody is left to tell
}

// show returns three digits.
func show(d time.Duration) string {
	switch {
	case d >= time.Second:
		return fmt.Sprintf("%.3g s", d.Seconds())
	case d >= time.Millisecond:
		return fmt.Sprintf("%.3g ms", float64(d)/float64(time.Millisecond))
	case d >= 10*time.Microsecond:
		return fmt.Sprintf("%.3g µs", float64(d)/float64(time.Microsecond))
	}
	return fmt.Sprintf("%d ns", d.Nanoseconds())
}

func median(all []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}

// spread is for people who watch: from the least to the most, and the median.
func spread(all []time.Duration) string {
	return fmt.Sprintf("%s to %s, median %s", show(slices.Min(all)), show(slices.Max(all)), show(median(all)))
}
