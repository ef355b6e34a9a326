package salt

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"phoenix/bridge/fleet"
)

// newKey is a minion's public key, as its PEM.
func newKey(t testing.TB) []byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048) // Salt's least
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// keyStore is the four folders as a master makes them, and what opens them.
func keyStore(t *testing.T) (*Keys, string) {
	t.Helper()
	dir := t.TempDir()
	for _, state := range []State{Accepted, Pending, Rejected, Denied} {
		if err := os.Mkdir(filepath.Join(dir, string(state)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	k, err := OpenKeys(Config{PKIDir: dir, KeysCacheDriver: fileKeys})
	if err != nil {
		t.Fatal(err)
	}
	return k, dir
}

func put(t *testing.T, text []byte, path ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(path...), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestKeysAreListedByState(t *testing.T) {
	k, dir := keyStore(t)
	put(t, nil, dir, "minions", "b")
	put(t, nil, dir, "minions", "a")
	put(t, nil, dir, "minions", ".key_cache") // Salt's, with key_cache: sched
	put(t, nil, dir, "minions_rejected", "r")
	put(t, nil, dir, "minions_denied", "d")
	got, err := k.List()
	want := Listing{Accepted: []string{"a", "b"}, Rejected: []string{"r"}, Denied: []string{"d"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%v, %v; want %v", got, err, want)
	}
}

// TestG12BadEntries: what is no key of an id is named, and concerns no other.
func TestG12BadEntries(t *testing.T) {
	k, dir := keyStore(t)
	put(t, newKey(t), dir, "minions", "good")
	put(t, newKey(t), dir, "minions_pre", "folder2") // good in one state, bad in another
	put(t, nil, dir, "minions_pre", "i-*")           // anybody may leave that there
	check(t, os.Mkdir(filepath.Join(dir, "minions_pre", "folder"), 0o700))
	check(t, os.Mkdir(filepath.Join(dir, "minions", "folder"), 0o700))
	check(t, os.Mkdir(filepath.Join(dir, "minions", "folder2"), 0o700))
	check(t, os.Symlink("good", filepath.Join(dir, "minions", "link")))
	check(t, syscall.Mkfifo(filepath.Join(dir, "minions_denied", "pipe"), 0o600))
	socket, err := net.Listen("unix", filepath.Join(dir, "minions", "s"))
	check(t, err)
	defer socket.Close()
	got, err := k.List()
	if err != nil || !slices.Equal(got.Accepted, []string{"good"}) || !slices.Equal(got.Pending, []string{"folder2"}) ||
		len(got.Denied)+len(got.Rejected) > 0 {
		t.Errorf("%+v, %v", got, err)
	}
	want := map[string][]string{"i-*": {"minions_pre/i-*", "not a minion id"},
		"folder":  {"minions/folder", "minions_pre/folder", "a directory"},
		"folder2": {"minions/folder2", "a directory"}, "link": {"minions/link", "a symbolic link"},
		"pipe": {"minions_denied/pipe", "a named pipe"}, "s": {"minions/s", "a socket"}}
	if len(got.Bad) != len(want) {
		t.Errorf("bad: %v", got.Bad)
	}
	for name, parts := range want {
		for _, part := range parts {
			if got.Bad[name] == nil || !strings.Contains(got.Bad[name].Error(), part) {
				t.Errorf("%s: %v says nothing of %q", name, got.Bad[name], part)
			}
		}
	}
	for _, id := range []string{"folder", "folder2", "link", "s"} {
		if text, err := k.Read(id, Accepted); err == nil || errors.Is(err, ErrNoKey) || errors.Is(err, ErrUnsettled) {
			t.Errorf("%s is read as %q, %v", id, text, err)
		}
	}
	if _, err := k.Read("good", Accepted); err != nil {
		t.Error(err)
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestKeysOfAMasterThatNeverStarted(t *testing.T) {
	k, err := OpenKeys(Config{PKIDir: filepath.Join(t.TempDir(), "pki"), KeysCacheDriver: fileKeys})
	if err != nil {
		t.Fatal(err)
	}
	if l, err := k.List(); err != nil || !reflect.DeepEqual(l, Listing{}) {
		t.Errorf("%v, %v", l, err)
	}
	if _, err := k.Read("a", Accepted); !errors.Is(err, ErrNoKey) {
		t.Error(err)
	}
	if err := k.UnlinkPending("a", nil); err != nil {
		t.Error(err)
	}
	if _, _, err := k.WriteAccepted(map[string][]byte{"a": []byte("x")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("written into no folder: %v", err)
	}
}

func TestKeysOfAnotherStore(t *testing.T) {
	_, err := OpenKeys(Config{KeysCacheDriver: "mmap_key"})
	if !errors.Is(err, ErrKeyStore) || !strings.Contains(err.Error(), "mmap_key") {
		t.Fatal(err)
	}
}

func TestWrittenKeyIsTheKey(t *testing.T) {
	k, dir := keyStore(t)
	text := bytes.ReplaceAll(newKey(t), []byte("\n"), []byte("\r\n")) // byte for byte
	if ids, faults, err := k.WriteAccepted(map[string][]byte{"i-1": text}); !slices.Equal(ids, []string{"i-1"}) ||
		len(faults) > 0 || err != nil {
		t.Fatal(ids, faults, err)
	}
	got, err := k.Read("i-1", Accepted)
	if err != nil || !bytes.Equal(got, text) {
		t.Fatalf("%q, %v", got, err)
	}
	path := filepath.Join(dir, "minions", "i-1")
	before, err := os.Stat(path)
	check(t, err)
	if before.Mode() != keyMode {
		t.Errorf("mode %v", before.Mode())
	}
	if ids, faults, err := k.WriteAccepted(map[string][]byte{"i-1": text}); len(ids) > 0 ||
		len(faults) > 0 || err != nil {
		t.Errorf("again: %v, %v, %v", ids, faults, err)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Error("an equal key was written again")
	}
	if l, err := k.List(); err != nil || !slices.Equal(l.Accepted, []string{"i-1"}) {
		t.Error(l, err)
	}
	nothingLeft(t, dir, "i-1")
}

// nothingLeft fails if there is a file of ours that is no key.
func nothingLeft(t *testing.T, dir string, ids ...string) {
	t.Helper()
	folder, err := os.ReadDir(filepath.Join(dir, "minions"))
	check(t, err)
	above, err := os.ReadDir(dir)
	check(t, err)
	for _, e := range slices.Concat(folder, above) {
		if name := e.Name(); !slices.Contains(ids, name) && !strings.HasPrefix(name, "minions") {
			t.Errorf("%s is left behind", name)
		}
	}
}

func TestWrittenKeyHasTheFoldersOwner(t *testing.T) {
	k, dir := keyStore(t)
	uid, gid := os.Geteuid(), os.Getegid()
	if uid == 0 { // a bridge that runs as root, beside a master that does not
		uid, gid = 65534, 65533
	}
	if err := os.Chown(filepath.Join(dir, "minions"), uid, gid); err != nil {
		t.Fatal(err)
	}
	if _, _, err := k.WriteAccepted(map[string][]byte{"i-1": []byte("k")}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "minions", "i-1"))
	if err != nil {
		t.Fatal(err)
	}
	if s := info.Sys().(*syscall.Stat_t); int(s.Uid) != uid || int(s.Gid) != gid {
		t.Errorf("owner %d:%d", s.Uid, s.Gid)
	}
}

// TestG12EachKeyByItself: what is in the way of one id is in no other's way.
func TestG12EachKeyByItself(t *testing.T) {
	k, dir := keyStore(t)
	other := newKey(t)
	put(t, other, dir, "minions", "other")
	check(t, os.Mkdir(filepath.Join(dir, "minions", "folder"), 0o700))
	check(t, os.Symlink("other", filepath.Join(dir, "minions", "link")))
	check(t, syscall.Mkfifo(filepath.Join(dir, "minions", "pipe"), 0o600))
	keys := map[string][]byte{"a*": newKey(t), "empty": nil, "long": make([]byte, maxKeyFile+1)}
	for _, id := range []string{"other", "folder", "link", "pipe"} {
		keys[id] = newKey(t)
	}
	var good []string
	for i := range 20 {
		good = append(good, fmt.Sprintf("i-%02d", i))
		keys[good[i]] = newKey(t)
	}
	written, faults, err := k.WriteAccepted(keys)
	if err != nil || !slices.Equal(written, good) || len(faults) != 7 {
		t.Fatalf("written %v, faults %v, %v", written, faults, err)
	}
	if !errors.Is(faults["other"], ErrOtherKey) || !errors.Is(faults["a*"], ErrID) {
		t.Errorf("%v, %v", faults["other"], faults["a*"])
	}
	for id, fault := range faults {
		if !strings.Contains(fault.Error(), id) {
			t.Errorf("%s: %v", id, fault)
		}
	}
	if got, err := os.ReadFile(filepath.Join(dir, "minions", "other")); err != nil || !bytes.Equal(got, other) {
		t.Error("another key was replaced", err)
	}
	if target, err := os.Readlink(filepath.Join(dir, "minions", "link")); err != nil || target != "other" {
		t.Error("a link was replaced", err)
	}
	nothingLeft(t, dir, append(good, "other", "folder", "link", "pipe")...)
}

// TestTornKeyIsWrittenAgain: a loss of power may leave a part of a key, or nothing of
// it. That is replaced once it is known that nobody writes it; another key never is.
func TestTornKeyIsWrittenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, dir := keyStore(t)
		key := newKey(t)
		keys := map[string][]byte{}
		for id, text := range map[string][]byte{"empty": nil, "half": key[:len(key)/2],
			"zeros": make([]byte, len(key))} {
			put(t, text, dir, "minions", id)
			keys[id] = key
		}
		written, faults, err := k.WriteAccepted(keys)
		if err != nil || len(written) > 0 || len(faults) != len(keys) || !errors.Is(faults["half"], ErrUnsettled) {
			t.Fatalf("at once: %v, %v, %v", written, faults, err)
		}
		time.Sleep(stableAfter)
		put(t, newKey(t), dir, "minions", "half") // Salt was writing it
		written, faults, err = k.WriteAccepted(keys)
		if err != nil || !slices.Equal(written, []string{"empty", "zeros"}) || !errors.Is(faults["half"], ErrOtherKey) {
			t.Fatalf("later: %v, %v, %v", written, faults, err)
		}
		for _, id := range written {
			if got, err := k.Read(id, Accepted); err != nil || !bytes.Equal(got, key) {
				t.Errorf("%s: %q, %v", id, got, err)
			}
		}
		nothingLeft(t, dir, "empty", "half", "zeros")
	})
}

// TestG8LeftBehind: what a crash leaves is removed at the next start, and nothing of
// another bridge that writes now.
func TestG8LeftBehind(t *testing.T) {
	k, dir := keyStore(t)
	old := time.Now().Add(-2 * leftAfter)
	for _, path := range []string{".phoenix-4711", "minions/.phoenix-4711", ".phoenix-new", "minions/.phoenix-new"} {
		put(t, []byte("part"), dir, path)
		if strings.HasSuffix(path, "4711") {
			check(t, os.Chtimes(filepath.Join(dir, path), old, old))
		}
	}
	put(t, []byte("Salt's"), dir, "minions", ".key_cache")
	check(t, os.Chtimes(filepath.Join(dir, "minions", ".key_cache"), old, old))
	if _, _, err := k.WriteAccepted(map[string][]byte{"i-1": newKey(t)}); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, dir, "i-1", ".phoenix-new", ".key_cache")
	for _, path := range []string{".phoenix-new", "minions/.phoenix-new", "minions/.key_cache"} {
		if _, err := os.Stat(filepath.Join(dir, path)); err != nil {
			t.Error(err)
		}
	}
}

// TestTwoBridgesShareAKeyStore: writers that share a folder, as two bridges in
// containers do that are both process 1, never put one's key under another's id.
func TestTwoBridgesShareAKeyStore(t *testing.T) {
	_, dir := keyStore(t)
	keys := map[string][]byte{}
	for i := range 300 {
		keys[fmt.Sprintf("i-%04d", i)] = fmt.Appendf(nil, "key of i-%04d", i)
	}
	var wg sync.WaitGroup
	var total atomic.Int64
	for range 4 {
		wg.Go(func() {
			written, faults, err := (&Keys{dir: dir}).WriteAccepted(keys)
			if err != nil || len(faults) > 0 {
				t.Error(err, faults)
			}
			total.Add(int64(len(written)))
		})
	}
	wg.Wait()
	for id, want := range keys {
		if got, err := os.ReadFile(filepath.Join(dir, "minions", id)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s has %q, %v", id, got, err)
		}
	}
	if int(total.Load()) != len(keys) {
		t.Errorf("%d keys were written by somebody, of %d", total.Load(), len(keys))
	}
	nothingLeft(t, dir, slices.Collect(maps.Keys(keys))...)
}

// TestKeyStoreThatIsFull: what concerns all is said once, at once, and leaves no part
// of a key.
func TestKeyStoreThatIsFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mount a small file system: only root may")
	}
	k, dir := keyStore(t)
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("mount a small file system: not in this sandbox: %v", err)
	}
	t.Cleanup(func() { check(t, syscall.Unmount(dir, 0)) })
	check(t, os.Mkdir(filepath.Join(dir, "minions"), 0o700))
	keys, key := map[string][]byte{}, newKey(t)
	for i := range 200 {
		keys[fmt.Sprintf("i-%04d", i)] = key
	}
	written, faults, err := k.WriteAccepted(keys)
	if !errors.Is(err, syscall.ENOSPC) || len(written) == 0 || len(written) == len(keys) || len(faults) > 0 {
		t.Fatalf("%d written, faults %v, %v", len(written), faults, err)
	}
	for _, id := range written {
		if got, err := k.Read(id, Accepted); err != nil || !bytes.Equal(got, key) {
			t.Fatalf("%s: %q, %v", id, got, err)
		}
	}
	nothingLeft(t, dir, written...)
}

// TestKeysOnOtherFileSystem: the folder may be a link to elsewhere.
func TestKeysOnOtherFileSystem(t *testing.T) {
	k, dir := keyStore(t)
	check(t, os.Remove(filepath.Join(dir, "minions")))
	elsewhere, err := os.MkdirTemp("/dev/shm", "phoenix-keys-")
	if err != nil {
		t.Skipf("make a folder on another file system: %v", err)
	}
	t.Cleanup(func() { check(t, os.RemoveAll(elsewhere)) })
	check(t, os.Symlink(elsewhere, filepath.Join(dir, "minions")))
	if written, faults, err := k.WriteAccepted(map[string][]byte{"i-1": newKey(t),
		"i-2": newKey(t)}); len(written) != 2 || err != nil {
		t.Fatal(written, faults, err)
	}
	nothingLeft(t, dir, "i-1", "i-2")
}

// TestUnsettledKey: Salt writes a pending key in place. Nothing is said of a text that
// is no whole key before it has stayed the same for some seconds.
func TestUnsettledKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, dir := keyStore(t)
		key := newKey(t)
		read := func(want error, text []byte) {
			t.Helper()
			if got, err := k.Read("i-1", Pending); !errors.Is(err, want) || want == nil && err != nil ||
				!bytes.Equal(got, text) {
				t.Errorf("%q, %v; want %q, %v", got, err, text, want)
			}
		}
		put(t, nil, dir, "minions_pre", "i-1")
		read(ErrUnsettled, nil)
		time.Sleep(stableAfter - time.Second)
		put(t, key[:100], dir, "minions_pre", "i-1")
		read(ErrUnsettled, key[:100])
		time.Sleep(stableAfter - time.Second)
		read(ErrUnsettled, key[:100])
		put(t, key, dir, "minions_pre", "i-1")
		read(nil, key) // at once, once it is whole
		put(t, []byte("no key"), dir, "minions_pre", "i-1")
		read(ErrUnsettled, []byte("no key"))
		time.Sleep(stableAfter)
		read(nil, []byte("no key"))
		read(nil, []byte("no key"))
		// The same text written anew is another one.
		check(t, os.Chtimes(filepath.Join(dir, "minions_pre", "i-1"), time.Now(), time.Now()))
		read(ErrUnsettled, []byte("no key"))
		check(t, os.Remove(filepath.Join(dir, "minions_pre", "i-1")))
		read(ErrNoKey, nil)
		if n := len(k.odd.seen); n != 0 {
			t.Errorf("%d looks are remembered", n)
		}
	})
}

// TestG7LooksAreBounded: strangers who send no keys make us remember so much and no
// more.
func TestG7LooksAreBounded(t *testing.T) {
	var l oddFiles
	info, err := os.Stat(".")
	check(t, err)
	for i := range 2 * maxOddFiles {
		l.unchanged(fmt.Sprint(i), info, nil)
	}
	if len(l.seen) > maxOddFiles {
		t.Errorf("%d looks", len(l.seen))
	}
}

func TestUnlinkPending(t *testing.T) {
	k, dir := keyStore(t)
	for _, state := range []string{"minions", "minions_pre"} {
		put(t, []byte(state), dir, state, "i-1")
	}
	if err := k.UnlinkPending("i-1", []byte("another text")); !errors.Is(err, ErrChanged) {
		t.Errorf("another key than the one that was decided on: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "minions_pre", "i-1")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := k.UnlinkPending("i-1", []byte("minions_pre")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := k.Read("i-1", Pending); !errors.Is(err, ErrNoKey) {
		t.Error(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "minions", "i-1")); err != nil || string(got) != "minions" {
		t.Errorf("%q, %v", got, err)
	}
	check(t, os.Symlink("../minions/i-1", filepath.Join(dir, "minions_pre", "link")))
	if err := k.UnlinkPending("link", []byte("minions")); err == nil {
		t.Error("a link is unlinked")
	}
}

// No id is a way out of its folder, nor to more than one key.
func TestOddIDsReachNoFile(t *testing.T) {
	k, dir := keyStore(t)
	put(t, []byte("secret"), dir, "master.pem")
	put(t, []byte("k"), dir, "minions_pre", "i-*")
	ids := []string{"", ".", "..", "../master.pem", "/etc/passwd", "a/b", `a\b`, "a\x00b", "a\nb", "a\rb",
		"*", "i-*", "i-?",
		"[a]", "a,b", "a b", "a\u00a0b", ".key_cache", strings.Repeat("a", 256), "a\xff"}
	for _, id := range ids {
		if _, err := k.Read(id, Pending); !errors.Is(err, ErrID) {
			t.Errorf("read %q: %v", id, err)
		}
		if err := k.UnlinkPending(id, nil); !errors.Is(err, ErrID) {
			t.Errorf("unlink %q: %v", id, err)
		}
		if ids, faults, err := k.WriteAccepted(map[string][]byte{id: []byte("k")}); len(ids) > 0 ||
			!errors.Is(faults[id], ErrID) || err != nil {
			t.Errorf("write %q: %v, %v, %v", id, ids, faults, err)
		}
	}
	if l, err := k.List(); err != nil || len(l.Pending) != 0 || len(l.Accepted) != 0 || len(l.Bad) != 1 {
		t.Error(l, err)
	}
	for _, id := range []string{"i-0123456789abcdef0", "web.example.org", "a_b", "A", "-", strings.Repeat("a", 255)} {
		if err := checkID(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func TestOddFilesAreNoKeys(t *testing.T) {
	k, dir := keyStore(t)
	put(t, []byte("secret"), dir, "master.pem")
	pending := filepath.Join(dir, "minions_pre")
	if err := os.Symlink("../master.pem", filepath.Join(pending, "link")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(pending, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	put(t, make([]byte, maxKeyFile+1), pending, "long")
	for _, id := range []string{"link", "pipe", "long"} {
		if text, err := k.Read(id, Pending); err == nil {
			t.Errorf("%s: read as %d bytes", id, len(text))
		}
	}
}

func TestMasterKeyDigest(t *testing.T) {
	old, ours := newKey(t), newKey(t)
	digest := func(text []byte) string {
		d, err := fleet.KeyDigest(text)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	c := Config{PKIDir: t.TempDir(), ID: "m1"}
	if _, err := MasterKeyDigest(c); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	put(t, old, c.PKIDir, "master.pub")
	if got, err := MasterKeyDigest(c); err != nil || got != digest(old) {
		t.Errorf("master.pub: %s, %v", got, err)
	}
	put(t, ours, c.PKIDir, "m1.pub")
	for _, id := range []string{"m1", "m1_master"} {
		c.ID = id
		if got, err := MasterKeyDigest(c); err != nil || got != digest(ours) {
			t.Errorf("%s: %s, %v", id, got, err)
		}
	}
	c.ID = ""
	if got, err := MasterKeyDigest(c); err != nil || got != digest(old) {
		t.Errorf("no id: %s, %v", got, err)
	}
	put(t, []byte("torn"), c.PKIDir, "master.pub")
	if _, err := MasterKeyDigest(c); err == nil || !strings.Contains(err.Error(), "master.pub") {
		t.Error(err)
	}
}

// Laying down the keys of a whole fleet is part of a replacement's way to ready.
func BenchmarkWriteAccepted(b *testing.B) {
	for _, n := range []int{1, 3000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			keys := map[string][]byte{}
			for i := range n {
				keys[fmt.Sprintf("i-%017x", i)] = make([]byte, 450)
			}
			for b.Loop() {
				b.StopTimer()
				dir := b.TempDir()
				check(b, os.Mkdir(filepath.Join(dir, "minions"), 0o700))
				b.StartTimer()
				if ids, faults, err := (&Keys{dir: dir}).WriteAccepted(keys); len(ids) != n ||
					len(faults) > 0 || err != nil {
					b.Fatal(len(ids), faults, err)
				}
			}
		})
	}
}
