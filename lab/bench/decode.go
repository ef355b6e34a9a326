package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"phoenix/lab"
)

const (
	// decodeRounds alternate between Go and Python; of each way the fastest pass
	// over the stream counts, since whatever else the machine does only adds.
	decodeRounds = 3
	// decodeSeconds is how long each of them measures in a round.
	decodeSeconds = "2"
)

// decoding measures how events are read: it runs the benchmark of bridge/event,
// and the same stream through Salt's own code.
func decoding(s *runner, t *table) {
	salt, err := lab.FindSalt(version)
	s.check(err)
	root, err := lab.Root()
	s.check(err)
	dir, err := os.MkdirTemp("", "phx-stream-")
	s.check(err)
	s.Cleanup(func() { os.RemoveAll(dir) })
	stream := filepath.Join(dir, "stream")
	output(s, root, "go", "test", "./bridge/event", "-count=1", "-run", "^TestStream$", "-args", "-stream", stream)

	fastest := map[string]float64{} // by unit of the benchmark; nanoseconds an event
	keep := func(unit string, ns float64) {
		if was, ok := fastest[unit]; !ok || ns < was {
			fastest[unit] = ns
		}
	}
	allocs := 0.0
	for round := range decodeRounds {
		s.Logf("decoding, round %d of %d", round+1, decodeRounds)
		text := output(s, root, "go", "test", "./bridge/event", "-count=1", "-run", "^$", "-benchmem",
			"-bench", "^(BenchmarkStream|BenchmarkEvent)$", "-benchtime", decodeSeconds+"s")
		for name, metrics := range benchmarks(text) {
			switch {
			case strings.HasPrefix(name, "BenchmarkStream"):
				keep("interest", metrics["interest-ns/event"])
				keep("full", metrics["full-ns/event"])
			case strings.Contains(name, "/job-new"), strings.Contains(name, "/ret-"): // of no interest
				allocs = max(allocs, metrics["allocs/op"])
			}
		}
		python := output(s, root, salt.Python(), "bridge/event/testdata/decode_bench.py", stream, decodeSeconds)
		var ns float64
		if _, err := fmt.Sscanf(python, "salt "+version+": %f", &ns); err != nil {
			s.Fatalf("read what Salt's decoding took: %v in %q", err, python)
		}
		keep("salt", ns)
	}
	if fastest["interest"] == 0 || fastest["full"] == 0 {
		s.Fatalf("the benchmark of bridge/event has no figures: %v", fastest)
	}
	per := func(unit string) time.Duration { return time.Duration(fastest[unit]) }
	t.atLeast("read an event, against a full decode in Go", per("interest"), per("full"), 40)
	t.atLeast("read an event, against Salt's own code", per("interest"), per("salt"), 25)
	t.under("allocations for an event of no interest", allocs, "", 0)
}

// benchmarks reads what go test prints: for each benchmark its values by unit.
func benchmarks(text string) map[string]map[string]float64 {
	all := map[string]map[string]float64{}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		metrics := map[string]float64{}
		for i := 2; i+1 < len(fields); i += 2 {
			if value, err := strconv.ParseFloat(fields[i], 64); err == nil {
				metrics[fields[i+1]] = value
			}
		}
		all[fields[0]] = metrics
	}
	return all
}

func output(s *runner, dir, name string, args ...string) string {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
