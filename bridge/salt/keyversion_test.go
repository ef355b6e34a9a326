package salt

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestVersion: no change of a file leaves its version as it was, and one that was
// changed just now has none.
func TestVersion(t *testing.T) {
	dir := t.TempDir()
	accepted := filepath.Join(dir, string(Accepted))
	if err := os.Mkdir(accepted, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(accepted, "web1")
	k := &Keys{dir: dir}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	now := func() FileVersion {
		t.Helper()
		v, err := k.Version("web1", Accepted)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	if _, err := k.Version("web1", Accepted); !errors.Is(err, ErrNoKey) {
		t.Errorf("no file: %v", err)
	}
	write("a")
	if v := now(); v != (FileVersion{}) {
		t.Errorf("written just now: %+v", v)
	}
	old := time.Now().Add(-time.Hour)
	seen := map[FileVersion]string{}
	for what, change := range map[string]func() error{
		"written in place with the same size and time": func() error {
			return errors.Join(os.WriteFile(path, []byte("b"), 0o600), os.Chtimes(path, old, old))
		},
		"replaced by a file with the same size and time": func() error {
			temp := path + ".new"
			return errors.Join(os.WriteFile(temp, []byte("c"), 0o600), os.Chtimes(temp, old, old),
				os.Rename(temp, path))
		},
		"touched": func() error { return os.Chtimes(path, time.Now(), time.Now()) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(racyFor + 100*time.Millisecond) // the file system's clock cannot be set
		v := now()
		if v == (FileVersion{}) || v != now() {
			t.Errorf("%s: %+v, then %+v", what, v, now())
		}
		if other, there := seen[v]; there {
			t.Errorf("%s has the version of %s", what, other)
		}
		seen[v] = what
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/null", path); err != nil {
		t.Fatal(err)
	}
	if v, err := k.Version("web1", Accepted); err == nil {
		t.Errorf("a symbolic link: %+v", v)
	}
	if _, err := k.Version("../web1", Accepted); err == nil {
		t.Error("an id that leaves the folder")
	}
}
