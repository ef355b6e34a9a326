package lab

import (
	"fmt"
	"os"
	"time"
)

// Stage is what a lab needs of a test, for programs: the demo, and those that
// measure.
type Stage struct {
	begun    time.Time
	cleanups []func()
	failed   bool
}

// NewStage begins now.
func NewStage() *Stage { return &Stage{begun: time.Now()} }

// fall is what Fatalf panics with.
type fall struct{}

// Run runs play, clears the stage whatever happened, and says whether it failed.
func (s *Stage) Run(play func()) (failed bool) {
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

// Seconds since the beginning.
func (s *Stage) Seconds() float64 { return time.Since(s.begun).Seconds() }

// Helper implements [TB].
func (s *Stage) Helper() {}

// Failed implements [TB].
func (s *Stage) Failed() bool { return s.failed }

// Cleanup implements [TB].
func (s *Stage) Cleanup(f func()) { s.cleanups = append(s.cleanups, f) }

// Logf implements [TB]: how far the program is, on standard error.
func (s *Stage) Logf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%6.1f s  %s\n", s.Seconds(), fmt.Sprintf(format, args...))
}

// Fatalf implements [TB]: it ends the play.
func (s *Stage) Fatalf(format string, args ...any) {
	s.failed = true
	s.Logf(format, args...)
	panic(fall{})
}
