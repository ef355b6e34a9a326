package salt

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"phoenix/bridge/fleet"
)

// sameKey: 3008 takes off the line end that a key comes with.
func sameKey(a, b []byte) bool { return bytes.Equal(bytes.TrimSpace(a), bytes.TrimSpace(b)) }

// The master's side of everything that this package does.
func TestRealMaster(t *testing.T) {
	pub, other := newKey(t), newKey(t)
	for _, version := range salts {
		t.Run(version, func(t *testing.T) {
			m := startMaster(t, version)
			master := m.master()
			ids := []string{"i-1", "i-2", "i-3", "i-4"}
			for _, id := range ids {
				m.knock(id, pub)
			}
			if l := m.listing(); !slices.Equal(l.Pending, ids) {
				t.Fatalf("after the knocks: %+v", l)
			}
			if got, err := m.keys().Read("i-1", Pending); err != nil || !sameKey(got, pub) {
				t.Errorf("pending key %q, %v", got, err)
			}

			t.Run("accept passes over what vanished", func(t *testing.T) {
				seen, err := m.keys().Read("i-2", Pending)
				if err == nil {
					err = m.keys().UnlinkPending("i-2", seen)
				}
				if err != nil {
					t.Fatal(err)
				}
				if err := master.Accept(t.Context(), []string{"i-1", "i-2", "absent", "i-3"}); err != nil {
					t.Fatal(err)
				}
				if l := m.listing(); !slices.Equal(l.Accepted, []string{"i-1", "i-3"}) ||
					!slices.Equal(l.Pending, []string{"i-4"}) {
					t.Fatalf("%+v", l)
				}
				if got, err := m.keys().Read("i-3", Accepted); err != nil || !sameKey(got, pub) {
					t.Errorf("accepted key %q, %v", got, err)
				}
				for _, ids := range [][]string{{"absent"}, {"i-1"}, nil} {
					if err := master.Accept(t.Context(), ids); err != nil {
						t.Errorf("%v: %v", ids, err)
					}
				}
			})

			t.Run("a rejected key is for the caller to leave out", func(t *testing.T) {
				rejected := filepath.Join(m.Config.PKIDir, string(Rejected), "i-7")
				if err := os.WriteFile(rejected, pub, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := master.Accept(t.Context(), []string{"i-7"}); err != nil {
					t.Fatal(err)
				}
				state := Rejected
				if strings.HasPrefix(version, "3008") {
					state = Accepted
				}
				if _, err := m.keys().Read("i-7", state); err != nil {
					t.Error(err)
				}
				if err := master.Delete(t.Context(), map[State][]string{state: {"i-7"}}); err != nil {
					t.Fatal(err)
				}
			})

			t.Run("a written key is served, an impostor denied", func(t *testing.T) {
				m.knock("i-5", other) // an impostor, before the master is warm
				if ids, faults, err := m.keys().WriteAccepted(map[string][]byte{"i-5": pub}); len(ids) != 1 ||
					err != nil {
					t.Fatal(ids, faults, err)
				}
				seen, err := m.keys().Read("i-5", Pending)
				if err == nil {
					err = m.keys().UnlinkPending("i-5", seen)
				}
				if err != nil {
					t.Fatal(err)
				}
				m.knock("i-5", pub)
				if l := m.listing(); !slices.Equal(l.Accepted, []string{"i-1", "i-3", "i-5"}) ||
					!slices.Equal(l.Pending, []string{"i-4"}) || len(l.Denied) != 0 {
					t.Fatalf("%+v", l)
				}
				m.knock("i-5", other)
				if l := m.listing(); !slices.Equal(l.Accepted, []string{"i-1", "i-3", "i-5"}) ||
					!slices.Equal(l.Denied, []string{"i-5"}) {
					t.Fatalf("%+v", l)
				}
				if got, err := m.keys().Read("i-5", Accepted); err != nil || !bytes.Equal(got, pub) {
					t.Errorf("accepted key %q, %v", got, err)
				}
			})

			t.Run("publish", func(t *testing.T) {
				jid := NewJID(time.Now(), "")
				got, err := master.Publish(t.Context(),
					Job{JID: jid, Calls: []Call{{Fun: "test.echo", Args: []any{"x"}}}, Targets: []string{"absent"}})
				if err != nil || len(got) != 0 {
					t.Errorf("to an absent minion: %v, %v", got, err)
				}
				for range 2 { // again, under the same jid
					got, err = master.Ping(t.Context(), jid, []string{"i-1", "absent", "i-3"})
					slices.Sort(got)
					if err != nil || !slices.Equal(got, []string{"i-1", "i-3"}) {
						t.Errorf("ping: %v, %v", got, err)
					}
				}
			})

			t.Run("delete one key", func(t *testing.T) {
				put(t, other, m.Config.PKIDir, string(Rejected), "i-1")
				put(t, []byte("no key"), m.Config.PKIDir, string(Rejected), "i-4")
				defer func() { check(t, os.Remove(filepath.Join(m.Config.PKIDir, string(Pending), "i-9"))) }()
				m.knock("i-9", pub)
				if _, err := DeleteKey(t.Context(), m.keys(), master, "i-1", Accepted, ""); !errors.Is(err, ErrBeside) {
					t.Errorf("accepted, beside a rejected one: %v", err)
				}
				for _, id := range []string{"*", "i-*", "absent", "i-3"} {
					if _, err := DeleteKey(t.Context(), m.keys(), master, id, Rejected, ""); !errors.Is(err, ErrID) &&
						!errors.Is(err, ErrNoKey) {
						t.Errorf("%s: %v", id, err)
					}
				}
				for _, id := range []string{"i-1", "i-4"} { // the second is no key, and is waited for
					if _, err := DeleteKey(t.Context(), m.keys(), master, id, Rejected, ""); err != nil {
						t.Error(err)
					}
				}
				if _, err := DeleteKey(t.Context(), m.keys(), master, "i-5", Denied, ""); err != nil {
					t.Error(err)
				}
				if l := m.listing(); !slices.Equal(l.Accepted, []string{"i-1", "i-3", "i-5"}) ||
					!slices.Equal(l.Pending, []string{"i-4", "i-9"}) ||
					len(l.Denied)+len(l.Rejected) != 0 {
					t.Fatalf("%+v", l)
				}
				if _, err := DeleteKey(t.Context(), m.keys(), master, "i-3", Accepted,
					strings.Repeat("0", 64)); !errors.Is(err, ErrChanged) {
					t.Errorf("another key than the one that was seen: %v", err)
				}
				seen, err := fleet.KeyDigest(pub)
				check(t, err)
				if digest, err := DeleteKey(t.Context(), m.keys(), master, "i-3", Accepted, seen); err != nil ||
					len(digest) != 64 {
					t.Errorf("%s, %v", digest, err)
				}
				answer, err := master.wheel(t.Context(), "key.list", "all")
				check(t, err)
				if got := texts(answer["minions"]); !slices.Equal(got, []string{"i-1", "i-5"}) ||
					len(texts(answer["minions_denied"])) != 0 {
					t.Errorf("Salt has %v", answer)
				}
			})

			t.Run("delete by state", func(t *testing.T) {
				m.knock("i-5", other)
				err := master.Delete(t.Context(), map[State][]string{
					Accepted: {"i-1", "i-3", "absent"}, Pending: {"i-4"}, Denied: {"i-5"}})
				if err != nil {
					t.Fatal(err)
				}
				if l := m.listing(); !slices.Equal(l.Accepted, []string{"i-5"}) ||
					len(l.Pending)+len(l.Denied)+len(l.Rejected) != 0 {
					t.Fatalf("%+v", l)
				}
			})

			t.Run("entries that are no keys", func(t *testing.T) {
				folder := filepath.Join(m.Config.PKIDir, string(Accepted))
				check(t, errors.Join(os.Mkdir(filepath.Join(folder, "a-folder"), 0o700),
					os.Symlink("i-5", filepath.Join(folder, "a-link")),
					os.WriteFile(filepath.Join(folder, tempStem+"x"), pub, 0o600)))
				defer func() {
					for _, name := range []string{"a-folder", "a-link", tempStem + "x", "i-8"} {
						check(t, os.Remove(filepath.Join(folder, name)))
					}
				}()
				written, faults, err := m.keys().WriteAccepted(map[string][]byte{"a-folder": pub,
					"a-link": pub, "i-8": pub})
				if !slices.Equal(written, []string{"i-8"}) || len(faults) != 2 || err != nil {
					t.Errorf("written %v, faults %v, %v", written, faults, err)
				}
				if l := m.listing(); !slices.Equal(l.Accepted, []string{"i-5", "i-8"}) || len(l.Bad) != 2 {
					t.Errorf("%+v", l)
				}
				answer, err := master.wheel(t.Context(), "key.list", "accepted")
				if err != nil {
					t.Fatal(err)
				}
				said := fmt.Sprint(answer)
				// 3006 and 3007 take a link for a key, 3007 a folder too, 3008 neither.
				for name, want := range map[string]bool{"i-5": true, "i-8": true, tempStem: false,
					"a-link": !strings.HasPrefix(version, "3008"), "a-folder": strings.HasPrefix(version, "3007")} {
					if got := strings.Contains(said, name); got != want {
						t.Errorf("Salt lists %s: %v, want %v (%s)", name, got, want, said)
					}
				}
			})

			t.Run("master key", func(t *testing.T) {
				digest, err := MasterKeyDigest(m.Config)
				if err != nil || len(digest) != 64 {
					t.Fatal(digest, err)
				}
				c := m.Config
				c.ID = "" // by master.pub alone
				if again, err := MasterKeyDigest(c); err != nil || again != digest {
					t.Errorf("%s, %v; want %s", again, err, digest)
				}
			})

			t.Run("wrong root key", func(t *testing.T) {
				c := m.Config
				c.CacheDir = t.TempDir()
				put(t, []byte("wrong"), c.RootKeyPath())
				wrong, err := NewMaster(c)
				if err != nil {
					t.Fatal(err)
				}
				if err := wrong.Accept(t.Context(), []string{"i-1"}); !errors.Is(err, ErrAuth) {
					t.Errorf("accept: %v", err)
				}
				if _, err := wrong.Ping(t.Context(), NewJID(time.Now(), ""),
					[]string{"i-5"}); !errors.Is(err, ErrAuth) {
					t.Errorf("publish: %v", err)
				}
			})

			t.Run("restart", func(t *testing.T) {
				before, err := os.ReadFile(m.Config.RootKeyPath())
				if err != nil {
					t.Fatal(err)
				}
				m.stop()
				if err := master.Accept(t.Context(), []string{"i-1"}); !errors.Is(err, ErrUnreachable) ||
					!strings.Contains(err.Error(), "salt-master") {
					t.Errorf("without a master: %v", err)
				}
				m.start()
				after, err := os.ReadFile(m.Config.RootKeyPath())
				if err != nil || bytes.Equal(before, after) == strings.HasPrefix(version, "3006") {
					t.Errorf("only 3006 makes a new root key at each start (%v)", err)
				}
				m.knock("i-6", pub)
				if err := master.Accept(t.Context(), []string{"i-6"}); err != nil {
					t.Error(err)
				}
				if l := m.listing(); !slices.Equal(l.Accepted, []string{"i-5", "i-6"}) {
					t.Errorf("%+v", l)
				}
			})
		})
	}
}
