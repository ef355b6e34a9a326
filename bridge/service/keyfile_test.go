package service

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
	"phoenix/lab"
)

// filesOf is a key store in files, whose versions a test sets, and which counts how
// often a key is read.
type filesOf struct {
	*plain
	files *salt.Keys
	reads int
}

func (f *filesOf) Read(id string, state salt.State) ([]byte, error) {
	f.reads++
	return f.files.Read(id, state)
}

func (f *filesOf) List() (salt.Listing, error) { return f.files.List() }

func (f *filesOf) Version(id string, state salt.State) (salt.FileVersion, error) {
	return f.files.Version(id, state)
}

// TestUnchangedKeyIsNotReadAgain: a comparison that finds nothing reads no key, and
// one after a key was written over finds it, whatever its size and time.
func TestUnchangedKeyIsNotReadAgain(t *testing.T) {
	dir, key, other := t.TempDir(), []byte(lab.UnknownKey()), []byte(lab.UnknownKey())
	for _, state := range []salt.State{salt.Accepted, salt.Pending, salt.Rejected, salt.Denied} {
		if err := os.Mkdir(filepath.Join(dir, string(state)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	path, old := filepath.Join(dir, string(salt.Accepted), "web1"), time.Now().Add(-time.Hour)
	write := func(text []byte) {
		t.Helper()
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	write(key)
	files, err := salt.OpenKeys(salt.Config{PKIDir: dir, KeysCacheDriver: "localfs_key"})
	if err != nil {
		t.Fatal(err)
	}
	store := openSQLite(t)
	digest, _ := fleet.KeyDigest(key)
	if _, err := fleet.ApplyOne(t.Context(), store,
		fleet.Adopt{InstanceID: "web1", KeySHA256: digest, PublicKey: string(key)}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2100 * time.Millisecond) // a file that was changed just now is read again
	r := newRig(t, store, func(c *Config) { c.ResyncEvery = ResyncEvery })
	keys := &filesOf{plain: r.salt, files: files}
	r.engine.keys = keys
	resync := func() int {
		t.Helper()
		before := keys.reads
		for r.pass(ResyncEvery + time.Second); ; {
			if r.step(); r.engine.resyncs.running == nil {
				return keys.reads - before
			}
		}
	}
	if n := resync(); n == 0 {
		t.Fatal("the key was never read")
	}
	if n := resync(); n != 0 {
		t.Errorf("an unchanged key was read %d times", n)
	}
	write(other)
	if n := resync(); n == 0 || r.engine.resyncs.census["foreign"] != 0 || len(r.engine.unchanged) != 0 {
		t.Errorf("another key was read %d times; unchanged: %v", n, r.engine.unchanged)
	}
}
