package main

import (
	"fmt"
	"strings"

	"phoenix/lab"
)

// runner prints the timeline.
type runner struct{ *lab.Runner }

// run runs one scenario, and reports whether it failed.
func run(scenario func(*runner)) (failed bool) {
	s := &runner{lab.NewRunner()}
	if failed = s.Run(func() { scenario(s) }); !failed {
		s.say("all has ended; nothing is left running")
	}
	return failed
}

// act says what begins.
func (s *runner) act(title string) { fmt.Printf("\n         %s\n", title) }

func (s *runner) say(format string, args ...any) {
	fmt.Printf("%5.1f s  %s\n", s.Seconds(), fmt.Sprintf(format, args...))
}

// command runs a command of phoenix and shows both it and what it printed.
func (s *runner) command(bridge *lab.Bridge, args ...string) {
	out := bridge.Phoenix(args...)
	s.say("$ phoenix %s", strings.Join(args, " "))
	for line := range strings.Lines(strings.TrimRight(out, "\n")) {
		fmt.Printf("         | %s\n", strings.TrimRight(line, "\n"))
	}
}
