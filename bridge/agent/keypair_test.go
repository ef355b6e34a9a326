package agent

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"phoenix/bridge/salt"
)

// Salt's own hand and eye: a pair made by it, and one of ours read and used by it.
const checkKeys = `
import os, sys
import salt.crypt
theirs, ours = sys.argv[1], sys.argv[2]
if hasattr(salt.crypt, "write_keys"):
    salt.crypt.write_keys(theirs, "minion", 2048)
else:
    salt.crypt.gen_keys(theirs, "minion", 2048)
def kind(path):
    text = open(path, "rb").read()
    return [text.split(b"\n")[0], text[-1:], len(text) // 20]
for name in ("minion.pem", "minion.pub"):
    a, b = os.path.join(theirs, name), os.path.join(ours, name)
    assert kind(a) == kind(b), (name, kind(a), kind(b))
a, b = os.stat(os.path.join(theirs, "minion.pem")), os.stat(os.path.join(ours, "minion.pem"))
assert (a.st_mode, a.st_uid) == (b.st_mode, b.st_uid), (oct(a.st_mode), oct(b.st_mode))
private = salt.crypt.PrivateKey.from_file(os.path.join(ours, "minion.pem"))
public = salt.crypt.PublicKey.from_file(os.path.join(ours, "minion.pub"))
assert public.verify(b"a message", private.sign(b"a message"))
assert private.key.key_size == 2048 and private.key.private_numbers().public_numbers.e == 65537
sys.stdout.write(salt.crypt.clean_key(open(os.path.join(ours, "minion.pub")).read()))
`

func TestMakeKeyAsSaltDoes(t *testing.T) {
	l := newLocal(t)
	l.minion.PKIDir = filepath.Join(t.TempDir(), "pki", "minion")
	if made, err := l.MakeKey(); err != nil || !made {
		t.Fatalf("made %v, %v", made, err)
	}
	info, err := os.Stat(l.minion.PKIDir)
	if err != nil || info.Mode().Perm() != pkiMode {
		t.Errorf("folder: %v, %v", info, err)
	}
	if left, err := os.ReadDir(l.minion.PKIDir); err != nil || len(left) != 2 {
		t.Errorf("the folder has %v, %v", left, err)
	}
	sent := string(python(t, checkKeys, t.TempDir(), l.minion.PKIDir))
	key, err := l.OwnKey()
	if err != nil || key.PublicKey != sent || key.KeySHA256 == "" {
		t.Errorf("the proof has %+v, %v; the minion sends %q", key, err, sent)
	}
	if text, ok := key.Key(); !ok || string(text) != sent {
		t.Errorf("the proof's key is %q, %v", text, ok)
	}
	if made, err := l.MakeKey(); err != nil || made {
		t.Errorf("made another: %v, %v", made, err)
	}
}

// What is there is never touched, nor is a key made that the minion would not use.
func TestMakeKeyLeavesAlone(t *testing.T) {
	for name, prepare := range map[string]func(l *Local){
		"a private key": func(l *Local) { put(t, filepath.Join(l.minion.PKIDir, privateName), "x") },
		"a public key":  func(l *Local) { put(t, filepath.Join(l.minion.PKIDir, publicName), "x") },
		"a minion that runs": func(l *Local) {
			l.proc = t.TempDir()
			put(t, filepath.Join(l.proc, "7", "cmdline"), "salt-minion")
			put(t, l.minion.PIDFile, "7")
		},
		"a minion that starts": func(l *Local) {
			l.proc = t.TempDir()
			l.minion.Path = "/srv/salt/minion"
			put(t, filepath.Join(l.proc, "7", "cmdline"),
				"/usr/bin/python3\x00/usr/bin/salt-minion\x00-c\x00/srv/salt\x00")
		},
		"a key in another place":  func(l *Local) { l.minion.Options = map[string]any{"keys.cache_driver": "consul"} },
		"a size that is too much": func(l *Local) { l.minion.Options = map[string]any{"keysize": 1 << 20} },
		"a size that is no size":  func(l *Local) { l.minion.Options = map[string]any{"keysize": "large"} },
	} {
		l := newLocal(t)
		l.minion.PKIDir = t.TempDir()
		prepare(l)
		before := contents(t, l.minion.PKIDir)
		if made, err := l.MakeKey(); err != nil || made || contents(t, l.minion.PKIDir) != before {
			t.Errorf("%s: made %v, %v; %q was %q", name, made, err, contents(t, l.minion.PKIDir), before)
		}
	}
	l := newLocal(t)
	l.minion = salt.MinionConfig{PKIDir: t.TempDir(), Options: map[string]any{"user": "nobody-of-that-name"}}
	if made, err := l.MakeKey(); err == nil || made {
		t.Errorf("a user who is not there: made %v, %v", made, err)
	}
}

func TestRunsMinion(t *testing.T) {
	for cmdline, want := range map[string]bool{
		"/usr/bin/python3\x00/usr/bin/salt-minion\x00":                          true,
		"/usr/bin/salt-minion\x00-d\x00":                                        true,
		"/usr/bin/python3 /usr/bin/salt-minion MultiMinionProcessManager ":      true,
		"/opt/python\x00/opt/salt-minion\x00-c\x00/etc/salt/\x00-l\x00info\x00": true,
		"/opt/salt-minion\x00--config-dir=/srv/other\x00":                       false,
		"systemctl\x00restart\x00salt-minion\x00":                               false,
		"/usr/bin/python3\x00/usr/bin/salt-master\x00":                          false,
		"": false,
	} {
		if got := runsMinion(cmdline, "/etc/salt"); got != want {
			t.Errorf("%q: %v", cmdline, got)
		}
	}
}

// A minion that starts in the same moment wins: its files stay as they are.
func TestPlaceNewNeverReplaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "minion.pem")
	put(t, path, "the minion's own")
	put(t, filepath.Join(filepath.Dir(path), ".minion.pem.new"), "what a crash left")
	if err := placeNew(path, []byte("another"), privateMode, os.Geteuid()); !errors.Is(err, fs.ErrExist) {
		t.Errorf("replaced: %v", err)
	}
	if got := contents(t, filepath.Dir(path)); got != "minion.pem the minion's own\n" {
		t.Errorf("the folder has %q", got)
	}
}

// contents are the names and texts of the files of a folder.
func contents(t *testing.T, folder string) string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(folder, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(entry.Name() + " " + string(text) + "\n")
	}
	return b.String()
}
