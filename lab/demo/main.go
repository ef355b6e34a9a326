// Command demo shows on a real Salt master what Phoenix does: the key of a
// minion that is expected is accepted and its highstate run once; that of
// another stays pending. It tells only what it sees, and leaves nothing behind.
package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"phoenix/lab"
)

const (
	version = "3007.15"
	// within bounds each step; the whole takes under half a minute.
	within = 60 * time.Second
)

func main() {
	if run(&stage{begun: time.Now()}, show) {
		os.Exit(1)
	}
}

func show(s *stage) {
	l := lab.New(s)
	s.say("a master of Salt %s starts", version)
	master := l.StartMaster(lab.MasterOptions{Version: version})
	bridge := l.NewBridge(lab.BridgeOptions{Master: master})
	master.Ready()
	s.say("the master answers at %s", master.RetEndpoint())

	bridge.Start()
	bridge.Ready()
	s.say("the bridge is ready: it reads the master's event bus, keys and fleet were compared")
	s.command(bridge, "minions", "add", "web-1")

	expected := l.StartMinion(lab.MinionOptions{ID: "web-1", Masters: []*lab.Master{master}})
	stranger := l.StartMinion(lab.MinionOptions{ID: "web-2", Masters: []*lab.Master{master}})
	s.say("two minions start: web-1, which is expected, and web-2, which is not")

	l.Eventually(within, "the key of web-1 is accepted", func() (bool, string) {
		return master.HasAccepted("web-1"), fmt.Sprintf("pending %v", master.Pending())
	})
	s.say("web-1: the master has its key as accepted")
	l.Eventually(within, "the highstate of web-1 begins", func() (bool, string) {
		return expected.Runs() > 0, bridge.Minions()["web-1"].ClaimJID
	})
	s.say("web-1: its highstate begins, as job %s: the state itself says so", expected.RunLog()[0].JID)
	l.Eventually(within, "the highstate of web-1 is on record", func() (bool, string) {
		return bridge.Minions()["web-1"].HighstateRan, fmt.Sprintf("%+v", bridge.Minions()["web-1"])
	})
	row := bridge.Minions()["web-1"]
	s.say("web-1: highstate_ran is on record: job %s returned %d, run by %s", row.ClaimJID, *row.Retcode, row.HighstateRunner)

	bridge.Kill()
	bridge.Start()
	bridge.Ready()
	s.say("the bridge was killed with -9 and started again")
	l.Eventually(within, "the key of web-2 is pending", func() (bool, string) {
		return len(master.Pending()) == 1, fmt.Sprint(master.Pending())
	})
	if runs, strange := expected.Runs(), stranger.Runs(); runs != 1 || strange != 0 || master.HasAccepted("web-2") {
		s.Fatalf("highstates: web-1 %d, web-2 %d; accepted: %v", runs, strange, master.Accepted())
	}
	s.say("web-1: its highstate ran once, as the state itself counts")
	s.say("web-2: its key is still pending, and no highstate ran. Why?")
	s.command(bridge, "minions", "explain", "web-2")
}

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
