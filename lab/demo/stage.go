package main

import (
	"fmt"
	"strings"

	"phoenix/lab"
)

// stage tells the timeline.
type stage struct{ *lab.Stage }

// run shows one play, and says whether it failed.
func run(play func(*stage)) (failed bool) {
	s := &stage{lab.NewStage()}
	if failed = s.Run(func() { play(s) }); !failed {
		s.say("all has ended; nothing is left running")
	}
	return failed
}

// act says what begins.
func (s *stage) act(title string) { fmt.Printf("\n         %s\n", title) }

func (s *stage) say(format string, args ...any) {
	fmt.Printf("%5.1f s  %s\n", s.Seconds(), fmt.Sprintf(format, args...))
}

// command runs a command of phoenix and shows both it and what it printed.
func (s *stage) command(bridge *lab.Bridge, args ...string) {
	out := bridge.Phoenix(args...)
	s.say("$ phoenix %s", strings.Join(args, " "))
	for line := range strings.Lines(strings.TrimRight(out, "\n")) {
		fmt.Printf("         | %s\n", strings.TrimRight(line, "\n"))
	}
}
