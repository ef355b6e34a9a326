// Command bench measures what the bridge costs and how long it takes, on a real
// Salt master, against what the master or another way takes in the same run. It
// prints one table, and docs/benchmarks.md explains it.
//
//	make bench
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"phoenix/lab"
)

// version is the Salt that is measured against.
const version = "3007.15"

func main() {
	s := &stage{begun: time.Now()}
	var t table
	failed := s.run(func() { measure(s, &t) })
	t.print(os.Stdout)
	if failed {
		os.Exit(1)
	}
}

// measure takes all measurements, one after the other: there are two cores.
func measure(s *stage, t *table) {
	decoding(s, t)

	ctx, cancel := context.WithCancel(context.Background())
	s.Cleanup(cancel)
	l := lab.New(s)
	f := newFleet(s, l)
	master := l.StartMaster(lab.MasterOptions{Version: version})
	master.Ready()
	events := listen(ctx, s, master)
	bridge := l.NewBridge(lab.BridgeOptions{Master: master, Store: f.store(), Config: map[string]any{
		// There is no minion behind the keys: a ping after them is for nobody.
		"highstate.enabled": false,
	}})
	single(ctx, s, t, f, master, bridge, events)
	ours := crowds(ctx, s, t, f, master, bridge, events)
	master.Stop()

	way2015(ctx, s, t, f, l, ours)
	standing(s, t, l)
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
