package lab

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of times in /proc, on every Linux that Go runs on.
const clockTick = 10 * time.Millisecond

// Usage is what a process and all that it started have used.
type Usage struct {
	CPU  time.Duration
	Peak float64 // the most memory at a time, MB, of those that live, added up
	Now  float64 // memory now, MB; a page that several processes share counts once, in parts
}

// Usage looks at the process now. Of those that ended, what their parents waited
// for counts.
func (p *Process) Usage() Usage {
	var all Usage
	for _, pid := range marked(p.Dir + "/") {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // it ended meanwhile
		}
		_, rest, _ := strings.Cut(string(stat), ") ") // the name may hold anything
		for _, field := range strings.Fields(rest)[11:15] {
			n, _ := strconv.Atoi(field) // utime, stime, cutime, cstime: see proc(5)
			all.CPU += time.Duration(n) * clockTick
		}
		if rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid)); err == nil {
			all.Now += megabytes(string(rollup), "Pss:")
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			continue
		}
		all.Peak += megabytes(string(status), "VmHWM:")
	}
	return all
}

// megabytes reads one line of a file below /proc that counts in kB.
func megabytes(text, name string) float64 {
	for line := range strings.Lines(text) {
		if value, found := strings.CutPrefix(line, name); found {
			kb, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
			return kb / 1024
		}
	}
	return 0
}
