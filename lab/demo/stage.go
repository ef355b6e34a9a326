package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"phoenix/lab"
)

// stage tells the timeline, and is what the lab needs of a test.
type stage struct {
	begun    time.Time
	cleanups []func()
	failed   bool
}

// fall is what Fatalf panics with.
type fall struct{}

// run shows one play, clears the stage whatever happened, and says whether it
// failed.
func run(s *stage, play func(*stage)) (failed bool) {
	defer func() {
		thrown := recover()
		s.failed = s.failed || thrown != nil
		for i := len(s.cleanups) - 1; i >= 0; i-- {
			s.cleanups[i]()
		}
		if _, fell := thrown.(fall); thrown != nil && !fell {
			panic(thrown)
		}
		if !s.failed {
			s.say("all has ended; nothing is left running")
		}
		failed = s.failed
	}()
	play(s)
	return false
}

// act says what begins.
func (s *stage) act(title string) { fmt.Printf("\n         %s\n", title) }

func (s *stage) say(format string, args ...any) {
	fmt.Printf("%5.1f s  %s\n", time.Since(s.begun).Seconds(), fmt.Sprintf(format, args...))
}

// command runs a command of phoenix and shows both it and what it printed.
func (s *stage) command(bridge *lab.Bridge, args ...string) {
	out := bridge.Phoenix(args...)
	s.say("$ phoenix %s", strings.Join(args, " "))
	for line := range strings.Lines(strings.TrimRight(out, "\n")) {
		fmt.Printf("         | %s\n", strings.TrimRight(line, "\n"))
	}
}

func (s *stage) Helper()          {}
func (s *stage) Failed() bool     { return s.failed }
func (s *stage) Cleanup(f func()) { s.cleanups = append(s.cleanups, f) }

func (s *stage) Logf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}

func (s *stage) Fatalf(format string, args ...any) {
	s.failed = true
	s.Logf("%.1f s: "+format, append([]any{time.Since(s.begun).Seconds()}, args...)...)
	panic(fall{})
}
