package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"phoenix/lab"
)

const (
	// many minions are known, with their keys accepted, and had their highstate.
	many = 10_000
	// started: the bridge compares at its start, and once more five seconds later.
	started = 10 * time.Second
	// idleFor is watched with nothing to do, and comparesFor until a comparison
	// of all has happened: one comes every 2 minutes, up to a fifth later.
	idleFor     = 30 * time.Second
	comparesFor = 150 * time.Second
)

// standing measures what a bridge costs that has nothing to do.
func standing(s *runner, t *table) {
	l := lab.New(s)
	master := l.StartMaster(lab.MasterOptions{Version: version, Workers: 3})
	master.Ready()
	r := newRoster(s, l)
	r.grow(many, master)

	bridge := l.NewBridge(lab.BridgeOptions{Master: master, Store: r.store()})
	// The runtime tells of each collection: sizes of the heap before and after.
	s.check(os.Setenv("GODEBUG", "gctrace=1"))
	bridge.Start()
	s.check(os.Unsetenv("GODEBUG"))
	begun := time.Now()
	bridge.Ready()
	s.Logf("ready after %s, with %d keys and rows compared", show(time.Since(begun)), many)
	pid := pidOf(s, bridge)
	time.Sleep(started)
	atStart := memory(s, pid)

	cpu, at := cpuOf(s, pid), time.Now()
	time.Sleep(idleFor)
	idle := percent(cpuOf(s, pid)-cpu, time.Since(at))
	time.Sleep(comparesFor - idleFor)
	whole := percent(cpuOf(s, pid)-cpu, time.Since(at))
	later := memory(s, pid)

	s.Logf("memory: %v after the start, %v after a comparison more; heap %s", atStart, later, heap(bridge.Log()))
	t.under(fmt.Sprintf("memory, %d minions known, after start", many), atStart["VmRSS"], " MB", 40)
	t.under("  after a comparison more", later["VmRSS"], " MB", 40)
	t.note("  the most it ever had", fmt.Sprintf("%.4g MB", later["VmHWM"]), "")
	t.note("  of it heap, before and after a collection", heap(bridge.Log()), "")
	t.note("CPU of one core, 30 s with nothing to do", fmt.Sprintf("%.2f %%", idle), "")
	t.note("  150 s with a comparison of all", fmt.Sprintf("%.2f %%", whole), "")
}

// pidOf finds the bridge by its configuration: nothing else has that folder.
func pidOf(s *runner, bridge *lab.Bridge) int {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	s.check(err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err == nil && bytes.Contains(text, []byte(bridge.ConfigPath())) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			s.check(err)
			return pid
		}
	}
	s.Fatalf("the bridge does not run\n%s", bridge.Tail())
	return 0
}

// memory reads VmRSS and VmHWM, in MB.
func memory(s *runner, pid int) map[string]float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	s.check(err)
	out := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		if name == "VmRSS" || name == "VmHWM" {
			kb, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
			s.check(err)
			out[name] = kb / 1024
		}
	}
	return out
}

// tick is the unit of times in /proc, on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// cpuOf is the time that a process has had on the cores.
func cpuOf(s *runner, pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	s.check(err)
	_, rest, _ := strings.Cut(string(text), ") ") // the name may hold anything
	fields := strings.Fields(rest)
	var sum time.Duration
	for _, field := range fields[11:13] { // utime, stime: see proc(5)
		n, err := strconv.Atoi(field)
		s.check(err)
		sum += time.Duration(n) * tick
	}
	return sum
}

func percent(cpu, of time.Duration) float64 { return 100 * float64(cpu) / float64(of) }

var collection = regexp.MustCompile(`(\d+)->\d+->(\d+) MB`)

// heap is the last collection that the log tells of.
func heap(log string) string {
	all := collection.FindAllStringSubmatch(log, -1)
	if len(all) == 0 {
		return "no collection yet"
	}
	last := all[len(all)-1]
	return last[1] + " MB, " + last[2] + " MB"
}
