package lab

import (
	"fmt"
	"os"
	"time"
)

// Runner implements [TB] for programs: the demo, and those that measure.
type Runner struct {
	begun    time.Time
	cleanups []func()
	failed   bool
}

// NewRunner returns a runner whose time begins now.
func NewRunner() *Runner { return &Runner{begun: time.Now()} }

// abort is what Fatalf panics with.
type abort struct{}

// Run runs scenario, then the cleanups, whatever happened, and reports whether it
// failed.
func (r *Runner) Run(scenario func()) (failed bool) {
	defer func() {
		thrown := recover()
		r.failed = r.failed || thrown != nil
		for i := len(r.cleanups) - 1; i >= 0; i-- {
			r.cleanups[i]()
		}
		if _, aborted := thrown.(abort); thrown != nil && !aborted {
			panic(thrown)
		}
		failed = r.failed
	}()
	scenario()
	return false
}

// Seconds since the beginning.
func (r *Runner) Seconds() float64 { return time.Since(r.begun).Seconds() }

// Helper implements [TB].
func (r *Runner) Helper() {}

// Failed implements [TB].
func (r *Runner) Failed() bool { return r.failed }

// Cleanup implements [TB].
func (r *Runner) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }

// Logf implements [TB]: how far the program is, on standard error.
func (r *Runner) Logf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%6.1f s  %s\n", r.Seconds(), fmt.Sprintf(format, args...))
}

// Fatalf implements [TB]: it ends the scenario.
func (r *Runner) Fatalf(format string, args ...any) {
	r.failed = true
	r.Logf(format, args...)
	panic(abort{})
}
