package identity

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"phoenix/bridge/fleet"
)

// memory is the object, as its text in S3 reads.
type memory struct {
	id      Identity // as the object's text reads
	version int
}

// Get returns a copy of what Put has read back: reading RSA keys takes most of a test's
// time, and most steps change nothing.
func (m *memory) Get(context.Context) (Identity, string, error) {
	if m.version == 0 {
		return Identity{}, "", ErrNone
	}
	id := m.id
	if id.Rotation != nil {
		r := *id.Rotation
		id.Rotation = &r
	}
	return id, strconv.Itoa(m.version), nil
}

func (m *memory) Put(_ context.Context, id Identity, tag string) error {
	if tag != strconv.Itoa(m.version) {
		return ErrChanged
	}
	text, err := encode(id)
	if err != nil {
		return err
	}
	read, err := decode(text)
	if err == nil {
		m.id, m.version = read, m.version+1
	}
	return err
}

func (m *memory) Deleted(context.Context) (bool, error) { return false, nil }

// TestRotationOfManyMasters plays rotations of one to five masters, whose steps come in
// any order; one master is killed in the middle of its turn for good, and retired, and
// one is launched. At no moment do two masters change, nor one before all have told
// their minions; in the end all have the new key, and the object has no rotation.
func TestRotationOfManyMasters(t *testing.T) {
	old, pairs := newPair(t), map[string]Pair{}
	pairs[old.Digest] = old
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		b := &memory{}
		if err := b.Put(t.Context(), Identity{Pair: old}, "0"); err != nil {
			t.Fatal(err)
		}
		var rows []fleet.Master
		join := func(key string) {
			rows = append(rows, fleet.Master{InstanceID: fmt.Sprintf("m-%d", len(rows)), Status: fleet.Launch,
				MasterKeySHA256: key})
		}
		for range 1 + random.IntN(5) {
			join(old.Digest)
		}
		// One of the few pairs that the test makes: they take long.
		id, _ := Update(t.Context(), b, func(id *Identity) error {
			next := nextPair(t)
			id.Rotation = &Rotation{Next: &next, Old: id.Public}
			return nil
		})
		fresh := id.Rotation.Next.Digest
		dies, launches := random.IntN(3) == 0 && len(rows) > 1, random.IntN(3) == 0
		for step := 0; ; step++ {
			if step > 5000 {
				t.Fatalf("seed %d: the rotation does not end: %+v", seed, rows)
			}
			id, _, err := b.Get(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if id.Rotation == nil {
				break
			}
			if launches && random.IntN(20) == 0 {
				launches = false
				join(id.Digest)
			}
			i := random.IntN(len(rows))
			m := &rows[i]
			if m.Status != fleet.Launch {
				continue
			}
			stage, _ := id.Rotation.NextStage(m.InstanceID, m.MasterKeySHA256, id.Pair, rows)
			switch stage {
			case StageDistribute:
				_, err = MarkDistributed(t.Context(), b, m.InstanceID, nil, []string{"lost"})
			case StageClear:
				_, err = MarkCleared(t.Context(), b, m.InstanceID, func(cleared []string) bool {
					return !slices.ContainsFunc(rows,
						func(m fleet.Master) bool {
							return m.Status == fleet.Launch &&
								!slices.Contains(cleared, m.InstanceID)
						})
				})
			case StageChange:
				err = turn(t, b, rows, i, random, &dies, fresh, seed)
			}
			if err != nil {
				t.Fatalf("seed %d: %s of %s: %v", seed, stage, m.InstanceID, err)
			}
		}
		for _, m := range rows {
			if m.Status == fleet.Launch && m.MasterKeySHA256 != fresh {
				t.Errorf("seed %d: %s has the old key", seed, m.InstanceID)
			}
		}
		if id, _, _ := b.Get(t.Context()); id.Digest != fresh {
			t.Errorf("seed %d: the object has the old key", seed)
		}
	}
}

// turn plays a master's turn, up to where it dies, is killed, or ends it.
func turn(t *testing.T, b *memory, rows []fleet.Master, i int, random *rand.Rand, dies *bool, fresh string,
	seed uint64) error {
	m := &rows[i]
	id, err := TakeTurn(t.Context(), b, m.InstanceID, func(id Identity) error {
		if stage, _ := id.Rotation.NextStage(m.InstanceID, m.MasterKeySHA256, id.Pair, rows); stage != StageChange {
			return errors.New("no turn")
		}
		return nil
	})
	if err != nil {
		return err
	}
	if id.Rotation.Turn != m.InstanceID || id.Digest != fresh {
		return fmt.Errorf("turn of %q, key %s", id.Rotation.Turn, id.Digest)
	}
	for _, other := range rows {
		if other.Status == fleet.Launch && other.MasterKeySHA256 != fresh &&
			!slices.Contains(id.Rotation.Distributed, other.InstanceID) {
			t.Errorf("seed %d: %s changes its key, and %s has not given its minions both keys", seed, m.InstanceID,
				other.InstanceID)
		}
	}
	switch {
	case *dies:
		*dies, m.Status = false, fleet.Terminate
		return nil
	case random.IntN(2) == 0: // killed, and run again
		return nil
	}
	m.MasterKeySHA256 = fresh
	if random.IntN(2) == 0 {
		return nil
	}
	_, err = EndTurn(t.Context(), b, m.InstanceID)
	return err
}

var spare []Pair

// nextPair is one of three pairs.
func nextPair(t *testing.T) Pair {
	if len(spare) < 3 {
		spare = append(spare, newPair(t))
	}
	return spare[rand.IntN(len(spare))]
}

// Of the minions that a master did not reach, those count that no other reached either.
func TestUnreachedMinions(t *testing.T) {
	b := &memory{}
	if err := b.Put(t.Context(), Identity{Pair: newPair(t)}, "0"); err != nil {
		t.Fatal(err)
	}
	place := newPlace(t)
	if _, err := Install(t.Context(), b, place, Options{}); err != nil {
		t.Fatal(err)
	}
	first, err := Start(t.Context(), b, place)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Start(t.Context(), b, place)
	if err != nil || again.Rotation.Next.Digest != first.Rotation.Next.Digest ||
		again.Digest == again.Rotation.Next.Digest {
		t.Errorf("started twice: %v, %v, %v", first.Rotation.Next, again.Rotation.Next, err)
	}
	// Masters run at the same time, in any order. web-1 and web-2 are reached by one of
	// them, web-3 by none; web-4 and web-5 are known to one alone, which missed them.
	for master, of := range map[string]struct{ reached, missed []string }{
		"a": {[]string{"web-6"}, []string{"web-3", "web-1", "web-2"}},
		"b": {[]string{"web-1"}, []string{"web-4", "web-2", "web-3", "web-6"}},
		"c": {[]string{"web-2", "web-1"}, []string{"web-3", "web-5"}},
	} {
		if _, err := MarkDistributed(t.Context(), b, master, of.reached, of.missed); err != nil {
			t.Fatal(err)
		}
	}
	id, _, err := b.Get(t.Context())
	if err != nil || !slices.Equal(id.Rotation.Unreached, []string{"web-3", "web-4", "web-5"}) {
		t.Errorf("unreached: %v, %v", id.Rotation.Unreached, err)
	}
	// One that connects later gets both keys before its master changes.
	id, err = MarkDistributed(t.Context(), b, "a", []string{"web-4"}, []string{"web-3"})
	if err != nil || !slices.Equal(id.Rotation.Unreached, []string{"web-3", "web-5"}) {
		t.Errorf("unreached: %v, %v", id.Rotation.Unreached, err)
	}
}

// A master of the old key starts with it while the fleet's key is rotated, and
// shares nothing.
func TestInstallDuringRotation(t *testing.T) {
	b, place := &memory{}, newPlace(t)
	old := newPair(t)
	if err := b.Put(t.Context(), Identity{Pair: old}, "0"); err != nil {
		t.Fatal(err)
	}
	if _, err := Install(t.Context(), b, place, Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), b, place); err != nil {
		t.Fatal(err)
	}
	if r, err := Install(t.Context(), b, place, Options{}); err != nil || r.Action != Unchanged {
		t.Errorf("before the first turn: %+v, %v", r, err)
	}
	if _, err := TakeTurn(t.Context(), b, "m-1", func(Identity) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if r, err := Install(t.Context(), b, place, Options{}); err != nil || r.Action != Kept ||
		!errors.Is(r.Fault, ErrRotating) || r.Pair.Digest != old.Digest {
		t.Errorf("after it: %+v, %v", r, err)
	}
	if _, err := Import(t.Context(), b, place, Options{Replace: true}); !errors.Is(err, ErrRotating) {
		t.Errorf("import: %v", err)
	}
	launched := newPlace(t)
	if r, err := Install(t.Context(), b, launched, Options{}); err != nil || r.Action != Installed ||
		r.Pair.Digest == old.Digest {
		t.Errorf("a new master: %+v, %v", r, err)
	}
	other := newPlace(t)
	put(t, newPair(t).Private, 0o400, other.path("master.pem"))
	if _, err := Install(t.Context(), b, other, Options{}); !errors.Is(err, ErrOtherKey) {
		t.Errorf("a master of another fleet: %v", err)
	}
	if err := other.Exchange(old, "none of it"); !errors.Is(err, ErrOtherKey) {
		t.Errorf("exchange of another fleet's key: %v", err)
	}
}

// TestExchangeKilledBetweenSteps: the exchange of a key pair is killed (-9) at each of
// its steps. What is there is the old pair or the new one, whatever Salt keeps where,
// and the next run ends it.
func TestExchangeKilledBetweenSteps(t *testing.T) {
	old, fresh := newPair(t), newPair(t)
	object, err := encode(Identity{Pair: fresh})
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, lay := range map[string]func(dir string){
		"3006": func(dir string) {
			put(t, old.Private, 0o400, dir, "master.pem")
			put(t, old.Public, 0o644, dir, "master.pub")
		},
		"3008": func(dir string) {
			put(t, old.Private, 0o400, dir, "salt-1.pem")
			put(t, old.Public, 0o400, dir, "salt-1.pub")
			for _, suffix := range []string{".pem", ".pub"} {
				if err := os.Symlink("salt-1"+suffix, filepath.Join(dir, "master"+suffix)); err != nil {
					t.Fatal(err)
				}
			}
		},
		"under both names": func(dir string) {
			for _, name := range []string{"master", "salt-1"} {
				put(t, old.Private, 0o400, dir, name+".pem")
				put(t, old.Public, 0o644, dir, name+".pub")
			}
		},
	} {
		killed := 0
		for step := 1; ; step++ {
			p := newPlace(t)
			lay(p.dir)
			from := filepath.Join(t.TempDir(), "object")
			put(t, object, 0o600, from)
			cmd := exec.CommandContext(t.Context(), self, from, p.dir, strconv.Itoa(step), old.Digest)
			cmd.Env = append(os.Environ(), childVar+"=1")
			out, err := cmd.CombinedOutput()
			over := err == nil
			if s, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !over && (!ok || s.Signal() != syscall.SIGKILL) {
				t.Fatalf("%s, step %d: %v\n%s", name, step, err, out)
			}
			if pair, err := p.Pair(); err != nil || pair.Digest != old.Digest && pair.Digest != fresh.Digest ||
				over && pair.Digest != fresh.Digest {
				t.Errorf("%s, step %d: %v, %v", name, step, pair, err)
			}
			if err := p.Exchange(fresh, old.Digest); err != nil {
				t.Fatalf("%s, step %d, run again: %v", name, step, err)
			}
			private, err := os.ReadFile(p.held())
			if err != nil || string(private) != string(fresh.Private) {
				t.Errorf("%s, step %d, run again: %s is not the new key: %v", name, step, p.held(), err)
			}
			if public, err := p.Public(); err != nil || string(public) != string(fresh.Public) {
				t.Errorf("%s, step %d, run again: %s, %v", name, step, public, err)
			}
			if info, err := os.Stat(p.held()); err != nil || info.Mode().Perm() != privateMode ||
				info.Mode()&fs.ModeType != 0 {
				t.Errorf("%s, step %d: %v, %v", name, step, info, err)
			}
			if left := temporary(t, p.dir); len(left) > 0 {
				t.Errorf("%s, step %d: left behind: %v", name, step, left)
			}
			if over {
				break
			}
			killed++
		}
		if killed < 4 {
			t.Errorf("%s: killed at %d steps only", name, killed)
		}
	}
}
