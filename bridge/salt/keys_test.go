package salt

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

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
	put(t, nil, dir, "minions_pre", "i-*")    // anybody may leave that there
	put(t, nil, dir, "minions_rejected", "r")
	put(t, nil, dir, "minions_denied", "d")
	if err := os.Mkdir(filepath.Join(dir, "minions_pre", "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("b", filepath.Join(dir, "minions", "link")); err != nil {
		t.Fatal(err)
	}
	got, err := k.List()
	want := Listing{Accepted: []string{"a", "b"}, Pending: []string{"i-*"}, Rejected: []string{"r"}, Denied: []string{"d"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%v, %v; want %v", got, err, want)
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
	if err := k.UnlinkPending("a"); err != nil {
		t.Error(err)
	}
	if _, err := k.WriteAccepted(map[string][]byte{"a": []byte("x")}); err == nil {
		t.Error("written into no folder")
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
	text := []byte("-----BEGIN PUBLIC KEY-----\r\nodd\r\nends") // byte for byte
	if n, err := k.WriteAccepted(map[string][]byte{"i-1": text}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	got, err := k.Read("i-1", Accepted)
	if err != nil || !bytes.Equal(got, text) {
		t.Fatalf("%q, %v", got, err)
	}
	path := filepath.Join(dir, "minions", "i-1")
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if before.Mode() != keyMode {
		t.Errorf("mode %v", before.Mode())
	}
	if n, err := k.WriteAccepted(map[string][]byte{"i-1": text}); n != 0 || err != nil {
		t.Errorf("again: %d, %v", n, err)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Error("an equal key was written again")
	}
	if l, err := k.List(); err != nil || !slices.Equal(l.Accepted, []string{"i-1"}) {
		t.Error(l, err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Error("something is left behind", entries, err)
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
	if _, err := k.WriteAccepted(map[string][]byte{"i-1": []byte("k")}); err != nil {
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

func TestAnotherAcceptedKeyStays(t *testing.T) {
	k, dir := keyStore(t)
	put(t, []byte("old"), dir, "minions", "i-2")
	put(t, []byte("left by a crash"), dir, "minions", fmt.Sprintf(".phoenix-%d", os.Getpid()))
	n, err := k.WriteAccepted(map[string][]byte{"i-1": []byte("one"), "i-2": []byte("two"), "i-3": []byte("three")})
	if n != 2 || !errors.Is(err, ErrOtherKey) || !strings.Contains(err.Error(), "i-2") {
		t.Fatalf("%d, %v", n, err)
	}
	for id, want := range map[string]string{"i-1": "one", "i-2": "old", "i-3": "three"} {
		if got, err := k.Read(id, Accepted); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", id, got, err)
		}
	}
}

func TestUnlinkPending(t *testing.T) {
	k, dir := keyStore(t)
	for _, state := range []string{"minions", "minions_pre"} {
		put(t, []byte(state), dir, state, "i-1")
	}
	for range 2 {
		if err := k.UnlinkPending("i-1"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := k.Read("i-1", Pending); !errors.Is(err, ErrNoKey) {
		t.Error(err)
	}
	if got, err := k.Read("i-1", Accepted); err != nil || string(got) != "minions" {
		t.Errorf("%q, %v", got, err)
	}
}

// No id is a way out of its folder, nor to more than one key.
func TestOddIDsReachNoFile(t *testing.T) {
	k, dir := keyStore(t)
	put(t, []byte("secret"), dir, "master.pem")
	put(t, []byte("k"), dir, "minions_pre", "i-*")
	ids := []string{"", ".", "..", "../master.pem", "/etc/passwd", "a/b", `a\b`, "a\x00b", "a\nb", "a\rb", "*", "i-*", "i-?",
		"[a]", "a,b", "a b", "a\u00a0b", ".key_cache", strings.Repeat("a", 256), "a\xff"}
	for _, id := range ids {
		if _, err := k.Read(id, Pending); !errors.Is(err, ErrID) {
			t.Errorf("read %q: %v", id, err)
		}
		if err := k.UnlinkPending(id); !errors.Is(err, ErrID) {
			t.Errorf("unlink %q: %v", id, err)
		}
		if n, err := k.WriteAccepted(map[string][]byte{"fine": []byte("k"), id: []byte("k")}); n != 0 || !errors.Is(err, ErrID) {
			t.Errorf("write %q: %d, %v", id, n, err)
		}
	}
	if l, err := k.List(); err != nil || len(l.Pending) != 1 || len(l.Accepted) != 0 {
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
	if err := os.Symlink("../master.pem", filepath.Join(dir, "minions", "link")); err != nil {
		t.Fatal(err)
	}
	if n, err := k.WriteAccepted(map[string][]byte{"link": []byte("k"), "empty": nil}); n != 0 || err == nil {
		t.Error("an empty key is written")
	}
	if n, err := k.WriteAccepted(map[string][]byte{"link": []byte("k")}); n != 0 || err == nil {
		t.Error("written through a link")
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
func BenchmarkWriteAccepted2000(b *testing.B) {
	for b.Loop() {
		dir := b.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "minions"), 0o700); err != nil {
			b.Fatal(err)
		}
		keys := map[string][]byte{}
		for i := range 2000 {
			keys[fmt.Sprintf("i-%017x", i)] = make([]byte, 450)
		}
		if n, err := (&Keys{dir}).WriteAccepted(keys); n != 2000 || err != nil {
			b.Fatal(n, err)
		}
	}
}
