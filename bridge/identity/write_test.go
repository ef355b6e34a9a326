package identity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// The test binary is also the process that is killed while it writes.
const childVar = "PHOENIX_IDENTITY_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVar) == "" {
		os.Exit(m.Run())
	}
	if err := writeAndDie(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// writeAndDie writes the identity in the file args[0] to the pki_dir args[1], and
// is killed at step args[2]. With args[3], it exchanges the key pair alone.
func writeAndDie(args []string) error {
	text, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	id, err := decode(text)
	if err != nil {
		return err
	}
	last, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	p, err := Open(Config{PKIDir: args[1], User: me(), ID: "salt-1", Files: listed})
	if err != nil {
		return err
	}
	step := 0
	p.step = func(string) {
		if step++; step == last {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	}
	if len(args) > 3 { // the object's key comes in the place of that one
		return p.Exchange(id.Pair, args[3])
	}
	_, err = p.write(id, false)
	return err
}

func me() string {
	u, err := user.Current()
	if err != nil {
		panic(err)
	}
	return u.Username
}

var listed = []string{"master_sign.pem", "gpg"}

// whole is an identity with files beside the key.
func whole(t testing.TB) Identity {
	t.Helper()
	return Identity{Pair: newPair(t), Files: []File{
		{"master_sign.pem", 0o400, bytes.Repeat([]byte("sign"), 500)},
		{"gpg/private-keys-v1.d/a.key", 0o600, bytes.Repeat([]byte("key"), 500)},
	}}
}

// newPlace is a master's place in a folder that is yet to be made.
func newPlace(t testing.TB, files ...string) *Place {
	t.Helper()
	return placeIn(t, filepath.Join(t.TempDir(), "pki", "master"), files...)
}

func placeIn(t testing.TB, dir string, files ...string) *Place {
	t.Helper()
	p, err := Open(Config{PKIDir: dir, User: me(), ID: "salt-1", Files: files})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func put(t testing.TB, text []byte, mode fs.FileMode, path ...string) {
	t.Helper()
	name := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, text, mode); err != nil {
		t.Fatal(err)
	}
}

// must reads a file that has to be there.
func must(t testing.TB, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Modes and owner are those that Salt gives and wants.
func TestWrittenAsSaltWritesIt(t *testing.T) {
	p, id := newPlace(t, listed...), whole(t)
	uid := os.Getuid()
	if uid == 0 { // as in production: root writes, the master's user owns
		uid = 65534
		p.uid, p.gid = uid, 65534
	}
	done, err := p.write(id, false)
	if err != nil || len(done.Files) != 4 || len(done.Kept) != 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	for name, want := range map[string]fs.FileMode{
		".": fs.ModeDir | 0o700, "master.pem": 0o400, "master.pub": 0o644, "master_sign.pem": 0o400,
		"gpg": fs.ModeDir | 0o700, "gpg/private-keys-v1.d": fs.ModeDir | 0o700, "gpg/private-keys-v1.d/a.key": 0o600,
	} {
		info, err := os.Stat(p.path(name))
		if err != nil {
			t.Fatal(err)
		}
		if got := int(info.Sys().(*syscall.Stat_t).Uid); info.Mode() != want || got != uid {
			t.Errorf("%s: %v of user %d, want %v of %d", name, info.Mode(), got, want, uid)
		}
	}
	if must(t, p.path("master.pem")) != string(id.Private) || must(t, p.path("master.pub")) != string(id.Public) {
		t.Error("the pair is not as it was shared")
	}
	// Once more: nothing is touched.
	before := inodes(t, p.dir)
	if done, err := p.write(id, false); err != nil || len(done.Files)+len(done.Kept) != 0 {
		t.Errorf("%+v, %v", done, err)
	}
	if after := inodes(t, p.dir); after != before {
		t.Errorf("files changed:\n%s%s", before, after)
	}
}

// inodes tells files apart, even of the same content.
func inodes(t testing.TB, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && !d.IsDir() {
			fmt.Fprintln(&out, path, info.Sys().(*syscall.Stat_t).Ino, info.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestKilledBetweenSteps (G8): whatever step it is killed at, what is there is old
// or new, whole, of one key; and the next run makes it complete.
func TestKilledBetweenSteps(t *testing.T) {
	id := whole(t)
	object, err := encode(id)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	contents := map[string]string{"master.pem": string(id.Private), "master.pub": string(id.Public)}
	for _, f := range id.Files {
		contents[f.Path] = string(f.Data)
	}
	killed := 0
	for step := 1; ; step++ {
		p := newPlace(t, listed...)
		from := filepath.Join(t.TempDir(), "object")
		put(t, object, 0o600, from)
		cmd := exec.CommandContext(t.Context(), self, from, p.dir, strconv.Itoa(step))
		cmd.Env = append(os.Environ(), childVar+"=1")
		out, err := cmd.CombinedOutput()
		if err == nil {
			break // there is no such step
		}
		if s, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || s.Signal() != syscall.SIGKILL {
			t.Fatalf("step %d: %v\n%s", step, err, out)
		}
		killed++
		for path, want := range contents {
			got, err := os.ReadFile(p.path(path))
			if err != nil && !errors.Is(err, fs.ErrNotExist) || err == nil && string(got) != want {
				t.Errorf("step %d: %s in halves: %v", step, path, err)
			}
		}
		if pair, err := p.Pair(); !errors.Is(err, ErrNone) && pair.Digest != id.Digest {
			t.Errorf("step %d: %v, %v", step, pair, err)
		}
		if _, err := p.write(id, false); err != nil {
			t.Fatalf("step %d, run again: %v", step, err)
		}
		for path, want := range contents {
			if must(t, p.path(path)) != want {
				t.Errorf("step %d, run again: %s differs", step, path)
			}
		}
		if left := temporary(t, p.dir); len(left) > 0 {
			t.Errorf("step %d: left behind: %v", step, left)
		}
	}
	if killed < 10 {
		t.Errorf("killed at %d steps only: are they called?", killed)
	}
}

func temporary(t testing.TB, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if strings.HasPrefix(filepath.Base(path), tempName) {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// What 3008 leaves behind is this master's key, and stays as it is; links that
// lost their file, or lead to one of another name, would make 3008 a new key.
func TestLayoutsOf3008(t *testing.T) {
	id := Identity{Pair: newPair(t)}
	link := func(t *testing.T, p *Place, id string) {
		for _, suffix := range []string{".pem", ".pub"} {
			if err := os.Symlink(p.path(id+suffix), p.path("master"+suffix)); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Run("taken over", func(t *testing.T) {
		p := newPlace(t)
		put(t, id.Private, 0o400, p.path("salt-1.pem"))
		put(t, id.Public, 0o400, p.path("salt-1.pub"))
		link(t, p, "salt-1")
		before := inodes(t, p.dir)
		if pair, err := p.Pair(); err != nil || pair.Digest != id.Digest {
			t.Fatal(pair, err)
		}
		if _, err := p.write(id, false); err != nil {
			t.Fatal(err)
		}
		if after := inodes(t, p.dir); after != before {
			t.Errorf("before\n%safter\n%s", before, after)
		}
	})
	for name, there := range map[string]bool{"renamed": true, "link leads nowhere": false} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			if there {
				put(t, id.Private, 0o400, p.path("old.pem"))
				put(t, id.Public, 0o400, p.path("old.pub"))
			} else if err := os.MkdirAll(p.dir, 0o700); err != nil {
				t.Fatal(err)
			}
			link(t, p, "old")
			if _, err := p.write(id, false); err != nil {
				t.Fatal(err)
			}
			for name, want := range map[string][]byte{"master.pem": id.Private, "master.pub": id.Public} {
				if info, err := os.Lstat(p.path(name)); err != nil || !info.Mode().IsRegular() ||
					must(t, p.path(name)) != string(want) {
					t.Errorf("%s: %v, %v", name, info, err)
				}
			}
		})
	}
}

// A key that is there already stays, byte for byte, and so do files beside it
// unless they shall be replaced.
func TestNothingIsOverwritten(t *testing.T) {
	id, other := whole(t), newPair(t)
	for _, name := range []string{"master", "salt-1"} {
		p := newPlace(t)
		put(t, other.Private, 0o400, p.path(name+".pem"))
		if _, err := p.write(Identity{Pair: id.Pair}, false); !errors.Is(err, ErrOtherKey) {
			t.Errorf("%s: %v", name, err)
		}
		if must(t, p.path(name+".pem")) != string(other.Private) {
			t.Errorf("%s: overwritten", name)
		}
	}
	p := newPlace(t, listed...)
	put(t, []byte("own"), 0o400, p.path("master_sign.pem"))
	done, err := p.write(id, false)
	if err != nil || !slices.Equal(done.Kept, []string{p.path("master_sign.pem")}) ||
		must(t, p.path("master_sign.pem")) != "own" {
		t.Errorf("%+v, %v", done, err)
	}
	done, err = p.write(id, true)
	if err != nil || !slices.Equal(done.Files, []string{p.path("master_sign.pem")}) ||
		must(t, p.path("master_sign.pem")) == "own" {
		t.Errorf("replaced: %+v, %v", done, err)
	}
}

// Only what identity.files lists here is written, and no link leads out of the
// folder that is listed.
func TestOnlyListedFilesAreWritten(t *testing.T) {
	outside := t.TempDir()
	id := whole(t)
	id.Files = append(id.Files, File{filepath.Join(outside, "x"), 0o600, []byte("x")},
		File{"gpg2/x", 0o600, []byte("x")})
	p := newPlace(t, listed...)
	if _, err := p.write(id, false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(outside, "x")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("an absolute path was written that nobody listed")
	}
	if _, err := os.Stat(p.path("gpg2")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a path was written that only begins like a listed one")
	}

	p = newPlace(t, "gpg")
	put(t, nil, 0o600, filepath.Join(p.dir, "minions", "keep"))
	if err := os.Symlink(outside, p.path("gpg")); err != nil {
		t.Fatal(err)
	}
	if _, err := p.write(id, false); err == nil {
		t.Error("wrote through a link out of pki_dir")
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("outside: %v, %v", left, err)
	}
}

// What is read to be shared is bounded, leaves out what is GPG's own, and a named
// pipe or a link in a folder stops nothing.
func TestListedFilesAreRead(t *testing.T) {
	p := newPlace(t, "gpg", "sign.pem", "absent")
	gpg := p.path("gpg")
	put(t, []byte("a"), 0o600, gpg, "private-keys-v1.d", "a.key")
	put(t, []byte("b"), 0o644, gpg, "pubring.kbx")
	put(t, []byte("seed"), 0o600, gpg, "random_seed")
	put(t, nil, 0o600, gpg, ".#lk0x1.host.1")
	put(t, []byte("s"), 0o400, p.path("sign.pem"))
	if err := errors.Join(syscall.Mkfifo(filepath.Join(gpg, "S.gpg-agent"), 0o600),
		os.Symlink("/etc/passwd", filepath.Join(gpg, "link"))); err != nil {
		t.Fatal(err)
	}
	files, missing, err := p.list.read()
	if err != nil || !slices.Equal(missing, []string{"absent"}) {
		t.Fatalf("missing %v, %v", missing, err)
	}
	want := []File{{"gpg/private-keys-v1.d/a.key", 0o600, []byte("a")}, {"gpg/pubring.kbx", 0o644, []byte("b")},
		{"sign.pem", 0o400, []byte("s")}}
	if diff := differing(files, want); len(files) != len(want) || len(diff) > 0 {
		t.Errorf("differ in %v: %v", diff, files)
	}
	put(t, make([]byte, maxFileBytes), 0o600, gpg, "huge")
	if _, _, err := p.list.read(); err == nil || !strings.Contains(err.Error(), "over") {
		t.Errorf("of any size: %v", err)
	}
}

func TestPathsThatAreNoFilesToShare(t *testing.T) {
	for _, name := range []string{"", "/", "..", "../x", "a/../b", "/etc/../x", "a//b", "a/", "master.pem",
		"master.pub", "minions", "minions_pre/x",
		"a\nb", "a\x00", "\xff", "/srv/pki/minions", "salt-1.pem", "/srv/pki/master.pem"} {
		if _, err := Open(Config{PKIDir: "/srv/pki", User: me(), ID: "salt-1_master",
			Files: []string{name}}); err == nil {
			t.Errorf("%q is taken", name)
		}
	}
	p, err := Open(Config{PKIDir: "/srv/pki/", User: me(),
		Files: []string{"/srv/pki/sign.pem", "sign.pem", "/etc/salt/gpgkeys"}})
	if err != nil || !slices.Equal(p.list.names, []string{"sign.pem", "/etc/salt/gpgkeys"}) {
		t.Errorf("%v, %v", p, err)
	}
}

// A master whose files are at odds is told so, and nothing is guessed.
func TestPlacesAtOdds(t *testing.T) {
	one, other := newPair(t), newPair(t)
	for name, test := range map[string]struct {
		files map[string][]byte
		want  string
	}{
		"two keys": {map[string][]byte{"master.pem": one.Private, "salt-1.pem": other.Private},
			"different keys"},
		"public half of another": {map[string][]byte{"master.pem": one.Private, "master.pub": other.Public},
			"does not belong"},
		"public half alone": {map[string][]byte{"master.pub": one.Public}, "no private key"},
		"empty":             {map[string][]byte{"master.pem": {}}, "empty"},
		"garbage":           {map[string][]byte{"master.pem": []byte("garbage")}, "not PEM"},
		"too long":          {map[string][]byte{"master.pem": make([]byte, maxPEM+1)}, "over"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			for file, text := range test.files {
				put(t, text, 0o600, p.path(file))
			}
			if _, err := p.Pair(); err == nil || errors.Is(err, ErrNone) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// A master's user that the machine does not know is an error before anything is
// written.
func TestUnknownUser(t *testing.T) {
	if _, err := Open(Config{PKIDir: t.TempDir(), User: "nobody-of-this-name"}); err == nil {
		t.Error("taken")
	}
}

// raced is an object that another master made between two looks at it.
type raced struct {
	id    Identity
	looks int
}

func (r *raced) Get(context.Context) (Identity, string, error) {
	if r.looks++; r.looks == 1 {
		return Identity{}, "", ErrNone
	}
	return r.id, "tag", nil
}

func (r *raced) String() string { return "an object" }

func (r *raced) Deleted(context.Context) (bool, error) { return true, nil } // it has a version by now

func (r *raced) Put(context.Context, Identity, string) error { return ErrChanged }

// TestMadeMeanwhile: an object that was not there and has versions was made by
// another master meanwhile; nobody deleted it.
func TestMadeMeanwhile(t *testing.T) {
	b := &raced{id: whole(t)}
	if r, err := Install(t.Context(), b, newPlace(t), Options{}); err != nil || r.Action != Installed {
		t.Errorf("%+v, %v", r, err)
	}
}
