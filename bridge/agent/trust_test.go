package agent

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"phoenix/bridge/fleet"
)

// During a rotation a minion may trust key 1, which it trusts now, and key 2. All
// masters on its list have one of them.
func TestListDuringRotation(t *testing.T) {
	for name, test := range map[string]struct {
		masters string
		want    string // the list, and the key that the minion must trust for it, if that is another
	}{
		"nobody has changed yet":                    {"Abar1, Bbar1", "a b"},
		"one has changed: the others stay":          {"Aban2, Bbar1, Cbar1", "b c"},
		"one that has changed does not join":        {"abar2, Bbar1", "b"},
		"its only master drains":                    {"abar2, Bbad1", "a 2"},
		"the last of the old key dies":              {"abar2, Bs-r1", "a 2"},
		"it drains, and none of either key is left": {"aban2, Bbad1", "b"},
		"on new masters, the file not yet":          {"Abar2, bbar1", "a"},
		"a third key is nobody's":                   {"abar3, Bbar1", "b"},
		"all have changed":                          {"Abar2, Bbar2", "a b 2"},
		"its master changed under it":               {"Abar2, bbad1", "a 2"},
	} {
		rows, sight := scene{masters: test.masters}.read(t)
		sight.Others = []string{"2", "1"}
		w := NewWatch("minion", Sorted, 1)
		var d Decision
		for n := range 4 {
			now := start.Add(time.Duration(n) * 5 * time.Second)
			sight.Masters = after(rows, n)
			w.Observe(sight.Masters, sight.Listed, now)
			d = w.Decide(sight, now)
		}
		if d.Hold != "" {
			t.Errorf("%s: holds: %s", name, d.Hold)
			continue
		}
		got := strings.TrimSpace(strings.Join(d.List.Addresses(), " ") + " " + d.Trust)
		if name == "on new masters, the file not yet" {
			test.want += " 2"
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q (left %v)", name, got, test.want, d.Left)
		}
	}
}

// An agent writes a list of masters with the new key, is killed, and its successor cannot
// read the masters: the minion must trust that key before it is restarted.
func TestTrustOutlivesTheAgent(t *testing.T) {
	with(t, 2, func(w *world, s *simAgent) {
		list := NewList(master("i-00000001", "10.0.0.1"), master("i-00000002", "10.0.0.2"))
		if _, err := s.file.Write(list, Running{}, "key"); err != nil {
			t.Fatal(err)
		}
		s.minion.trusts, s.minion.others = "old", []string{"key", "old"}
		w.broken = func([]fleet.Master) ([]fleet.Master, error) { return nil, fleet.ErrUnavailable }
	}, func(w *world, s *simAgent) {
		wait(2 * time.Minute)
		if n := len(s.minion.since(w.began)); n != 1 || s.minion.master() == "" || s.minion.trusts != "key" {
			t.Errorf("%d restarts, trusts %s, on %q", n, s.minion.trusts, s.minion.master())
		}
	})
}

// The record of a restart says which key the masters on the list have, also once they
// changed it under the same list.
func TestRecordKeepsTrust(t *testing.T) {
	d, _ := newTree(t)
	var since time.Time
	for _, key := range []string{"1", "2", "2", ""} {
		if _, err := d.Write(oldList, Running{}, key); err != nil {
			t.Fatal(err)
		}
		pending, err := d.PendingRestart()
		if err != nil || !pending.Pending || pending.Trust != key {
			t.Errorf("%+v, %v, want %q", pending, err, key)
		}
		if !since.IsZero() && !pending.Since.Equal(since) {
			t.Errorf("pending since %v, before since %v", pending.Since, since)
		}
		since = pending.Since
	}
	if err := d.ClearPending(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Write(oldList, Running{}, "3"); err != nil {
		t.Fatal(err)
	}
	if pending, err := d.PendingRestart(); err != nil || pending.Pending {
		t.Errorf("%+v, %v: it was restarted", pending, err)
	}
}

// The keys of a rotation are in one file, written in place by a job.
func TestKeysOfRotation(t *testing.T) {
	l := newLocal(t)
	path := filepath.Join(l.minion.PKIDir, KeysFile)
	if keys, err := l.OtherKeys(); len(keys) != 0 || err != nil {
		t.Errorf("without the file: %v, %v", keys, err)
	}
	one, other := publicKey(t), publicKey(t)
	put(t, filepath.Join(l.minion.PKIDir, "minion_master.pub"), one)
	put(t, path, one+"\n"+other[:len(other)/2])
	if keys, err := l.OtherKeys(); len(keys) != 1 || err != nil {
		t.Errorf("half written: %v, %v", keys, err)
	}
	put(t, path, other+"\n"+one)
	keys, err := l.OtherKeys()
	if want := []string{digestOf(t, other), digestOf(t, one)}; !slices.Equal(keys, want) || err != nil {
		t.Fatalf("%v, %v, want %v", keys, err, want)
	}
	if err := l.Trust(keys[0]); err != nil {
		t.Fatal(err)
	}
	if trusted, err := l.TrustedKey(); trusted != keys[0] || err != nil {
		t.Errorf("trusts %s, %v", trusted, err)
	}
	if text, err := os.ReadFile(filepath.Join(l.minion.PKIDir, "minion_master.pub")); err != nil ||
		strings.TrimSpace(string(text)) != strings.TrimSpace(other) {
		t.Errorf("the minion compares texts: %q, %v", text, err)
	}
	if err := l.Trust("unknown"); err == nil {
		t.Error("trusts a key that is not in the file")
	}
}

func publicKey(t *testing.T) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func digestOf(t *testing.T, key string) string {
	t.Helper()
	digest, err := fleet.KeyDigest([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return digest
}
