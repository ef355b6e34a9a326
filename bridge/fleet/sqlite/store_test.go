package sqlite

import (
	"context"
	"path/filepath"
	"testing"

	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/fleettest"
)

func TestConformance(t *testing.T) {
	fleettest.Run(t, func(t *testing.T) fleet.Store { return openTest(t, filepath.Join(t.TempDir(), "fleet.db")) },
		spoil)
}

// spoil changes a row and leaves its checksum, as a flipped bit does. The row is gone
// before the store is checked at the end.
func spoil(t *testing.T, s fleet.Store, table fleettest.Table, id string) {
	t.Helper()
	column := map[fleettest.Table]string{fleettest.Minions: `"group"`, fleettest.Masters: "zone"}[table]
	db := s.(*Store).write
	if _, err := db.ExecContext(t.Context(), `UPDATE `+string(table)+` SET `+column+` = 'spoilt' WHERE instanceid = ?`,
		id); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := db.ExecContext(context.Background(), `DELETE FROM `+string(table)+` WHERE instanceid = ?`,
			id); err != nil {
			t.Error(err)
		}
	})
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
