package salt

import (
	"context"
	"errors"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"
)

// A master is proven to serve by what costs it nothing, and that neither a
// stopped nor a dead one can give.
func TestProve(t *testing.T) {
	for _, version := range salts {
		t.Run(version, func(t *testing.T) {
			m := startMaster(t, version)
			master := m.master()
			before, err := os.ReadFile(m.log.Name())
			if err != nil {
				t.Fatal(err)
			}
			var took []time.Duration
			for range 50 {
				begun := time.Now()
				if err := master.Prove(t.Context()); err != nil {
					t.Fatal(err)
				}
				took = append(took, time.Since(begun))
			}
			slices.Sort(took)
			after, err := os.ReadFile(m.log.Name())
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("50 proofs: half within %v, all within %v; the master logged %d bytes", took[25], took[49],
				len(after)-len(before))
			if len(after) != len(before) {
				t.Errorf("the master logged %q", after[len(before):])
			}

			signal := func(s syscall.Signal) {
				t.Helper()
				if err := syscall.Kill(-m.cmd.Process.Pid, s); err != nil {
					t.Fatal(err)
				}
			}
			signal(syscall.SIGSTOP)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := master.Prove(ctx); !errors.Is(err, ErrUnreachable) {
				t.Errorf("a stopped master: %v", err)
			}
			signal(syscall.SIGCONT)
			if err := master.Prove(t.Context()); err != nil {
				t.Errorf("a master that goes on: %v", err)
			}
			m.stop()
			if err := master.Prove(t.Context()); !errors.Is(err, ErrUnreachable) {
				t.Errorf("a dead master: %v", err)
			}
		})
	}
}
