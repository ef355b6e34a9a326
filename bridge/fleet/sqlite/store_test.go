package sqlite

import (
	"context"
	"path/filepath"
	"testing"

	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/fleettest"
)

func TestConformance(t *testing.T) {
	fleettest.Run(t, func(t *testing.T) fleet.Store { return openTest(t, filepath.Join(t.TempDir(), "fleet.db")) })
}

// openTest opens a store that is checked when the test ends.
func openTest(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Check(context.Background()); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
