package sqlite

import (
	"fmt"
	"path/filepath"
	"testing"

	"phoenix/bridge/fleet"
)

// rsaPEM has the size of a minion's public key of 2048 bits.
var rsaPEM = fmt.Sprintf("-----BEGIN PUBLIC KEY-----\n%0392d\n-----END PUBLIC KEY-----\n", 0)

// fillFleet adds n minions with keys, as a fleet that is in full swing.
func fillFleet(t testing.TB, s *Store, n int) {
	t.Helper()
	const batch = 1000
	for from := 0; from < n; from += batch {
		var changes []fleet.Change
		for i := from; i < min(n, from+batch); i++ {
			id := fmt.Sprintf("i-%017x", i)
			changes = append(changes, fleet.Add{InstanceID: id, Group: "web"},
				fleet.Bind{InstanceID: id, KeySHA256: fmt.Sprintf("%064x", i), PublicKey: rsaPEM})
		}
		if _, err := s.Apply(t.Context(), changes); err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkApply200(b *testing.B) {
	s := openTest(b, filepath.Join(b.TempDir(), "fleet.db"))
	fillFleet(b, s, 10_000)
	for n := 0; b.Loop(); n++ {
		changes := make([]fleet.Change, 200)
		for i := range changes {
			key := func(round int) string { return fmt.Sprintf("%064x", round<<30+i) }
			changes[i] = fleet.Bind{InstanceID: fmt.Sprintf("i-%017x", i), KeySHA256: key(n + 1), PublicKey: rsaPEM,
				Replaces: key(n)}
		}
		if _, err := s.Apply(b.Context(), changes); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkClaim(b *testing.B) {
	s := openTest(b, filepath.Join(b.TempDir(), "fleet.db"))
	fillFleet(b, s, 10_000)
	row, err := s.Minion(b.Context(), fmt.Sprintf("i-%017x", 7))
	for b.Loop() {
		if err != nil {
			b.Fatal(err)
		}
		row, err = fleet.ApplyOne(b.Context(), s, fleet.Claim{InstanceID: row.InstanceID, From: row.ClaimVersion,
			Owner: "i-m1", Incarnation: "1", JID: "20260101000000000001", Attempt: 1})
	}
}

func BenchmarkMinion(b *testing.B) {
	s := openTest(b, filepath.Join(b.TempDir(), "fleet.db"))
	fillFleet(b, s, 10_000)
	for b.Loop() {
		if _, err := s.Minion(b.Context(), fmt.Sprintf("i-%017x", 7)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen10000(b *testing.B) {
	path := filepath.Join(b.TempDir(), "fleet.db")
	fillFleet(b, openTest(b, path), 10_000)
	for b.Loop() {
		s, err := Open(b.Context(), path)
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkByStatus10000(b *testing.B) {
	s := openTest(b, filepath.Join(b.TempDir(), "fleet.db"))
	fillFleet(b, s, 10_000)
	for b.Loop() {
		if err := s.ByStatus(b.Context(), fleet.Launch, "", func([]fleet.Minion) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
