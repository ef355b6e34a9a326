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
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(status)) {
			if value, found := strings.CutPrefix(line, "VmHWM:"); found {
				kb, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
				all.Peak += kb / 1024
			}
		}
	}
	return all
}
