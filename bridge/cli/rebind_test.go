package cli

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"phoenix/bridge/admin"
	"phoenix/bridge/api"
	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
	"phoenix/lab"
)

// rebuilt is a fleet with a minion whose key is bound and accepted, and another key of
// it that was denied.
type rebuilt struct {
	asker
	pki               string
	cfg               config.Config
	known, new, third string // PEM
}

func newRebuilt(t *testing.T) rebuilt {
	t.Helper()
	a := newAsker(t)
	r := rebuilt{a, filepath.Join(a.dir, "pki"), socketConfig(t), lab.UnknownKey(), lab.UnknownKey(), lab.UnknownKey()}
	r.cfg.SaltConfig, r.cfg.Socket, r.cfg.Audit.File = filepath.Join(a.dir, "master"), filepath.Join(a.dir, "s"),
		filepath.Join(a.dir, "audit.log")
	putKey(t, r.pki, "minions_denied", "web-1", r.new)
	putKey(t, r.pki, "minions", "web-2", r.third)
	a.apply(fleet.Add{InstanceID: "web-1"},
		fleet.Bind{InstanceID: "web-1", KeySHA256: r.digest(r.known), PublicKey: r.known})
	return r
}

func (r rebuilt) digest(key string) string {
	r.t.Helper()
	digest, err := fleet.KeyDigest([]byte(key))
	if err != nil {
		r.t.Fatal(err)
	}
	return digest
}

func (r rebuilt) bound() string {
	r.t.Helper()
	row, err := r.store.Minion(r.t.Context(), "web-1")
	if err != nil {
		r.t.Fatal(err)
	}
	return row.KeySHA256
}

// TestG3_RebindTakesTheKeyThatWasSeen: the socket shows no key and asks nobody, so its
// caller names the key. Another one that was sent under that id meanwhile is not let in.
func TestG3_RebindTakesTheKeyThatWasSeen(t *testing.T) {
	r := newRebuilt(t)
	operations := operate(r.cfg, r.store)
	putKey(t, r.pki, "minions_pre", "web-1", r.third) // found before one that was denied
	ask := func(code int, arguments, want string) {
		t.Helper()
		answer, err := operations(t.Context(),
			api.Request{Operation: "keys.accept", Arguments: json.RawMessage(arguments)})
		if err != nil || answer.Code != code || !strings.Contains(answer.Error, want) {
			t.Errorf("%s: %+v, %v", arguments, answer, err)
		}
	}
	seen := func(digest string) string {
		return `{"ids": ["web-1"], "rebind": true, "key_sha256": "` + digest + `"}`
	}
	ask(exitUsage, `{"ids": ["web-1"], "rebind": true}`, "rebind needs key_sha256")
	ask(exitUsage, `{"ids": ["web-1", "web-2"], "rebind": true, "key_sha256": "`+r.digest(r.new)+`"}`, "one minion id")
	ask(exitUsage, seen(r.digest(r.new)[:12]), "64 hexadecimal digits")
	ask(exitFailed, seen(strings.Repeat("0", 64)), "no other key was seen")
	ask(exitFailed, seen(r.digest(r.known)), "no other key was seen")
	ask(exitFailed, `{"ids": ["web-1"], "key_sha256": "`+r.digest(r.new)+`"}`, salt.ErrChanged.Error())
	if r.bound() != r.digest(r.known) {
		t.Fatalf("bound is %s", r.bound())
	}
	if err := os.Remove(filepath.Join(r.pki, "minions_pre", "web-1")); err != nil {
		t.Fatal(err)
	}
	ask(exitOK, seen(r.digest(r.new)), "")
	accepted, err := os.ReadFile(filepath.Join(r.pki, "minions", "web-1"))
	if err != nil || r.digest(string(accepted)) != r.digest(r.new) || r.bound() != r.digest(r.new) {
		t.Errorf("bound is %s, accepted %s, %v", r.bound(), accepted, err)
	}
}

// TestG3_RebindNamesTheKey: on the command line, too, the key can be named: then a script
// with --yes lets no other in. Both digests are printed before anything is done.
func TestG3_RebindNamesTheKey(t *testing.T) {
	r := newRebuilt(t)
	putKey(t, r.pki, "minions", "web-1", r.known)
	rebind := func(code int, digest string, want ...string) {
		t.Helper()
		r.says(code, "keys accept --rebind --yes --wait 1ms --key-sha256 "+digest+" web-1", want...)
	}
	rebind(exitFailed, r.digest(r.third), "no other key was seen")
	rebind(exitUsage, r.digest(r.new)[:12], "64 hexadecimal digits")
	if r.bound() != r.digest(r.known) {
		t.Fatalf("bound is %s", r.bound())
	}
	// The master does not run, so that it cannot delete the old key.
	rebind(exitNoMaster, r.digest(r.new), r.digest(r.known), r.digest(r.new), "its old key is still accepted here")
	if r.bound() != r.digest(r.new) {
		t.Errorf("bound is %s", r.bound())
	}
	if row, err := r.store.Minion(t.Context(), "web-1"); err != nil || row.ReplacedSHA256 != r.digest(r.known) {
		t.Errorf("other masters are to replace %s, %v", row.ReplacedSHA256, err)
	}
}

// TestRebindWithoutAnAnswer: the key is accepted, and the minion does not answer in time.
// A script can tell that from a failure.
func TestRebindWithoutAnAnswer(t *testing.T) {
	r := newRebuilt(t)
	putKey(t, r.pki, "minions", "web-1", r.new)
	if err := os.Remove(filepath.Join(r.pki, "minions_denied", "web-1")); err != nil {
		t.Fatal(err)
	}
	r.says(exitAwaited, "keys accept --rebind --yes --wait 1ms web-1", "web-1  bound to the new key",
		"has not answered within 1ms", "systemctl restart salt-minion", "phoenix minions explain web-1")
	if r.bound() != r.digest(r.new) {
		t.Errorf("bound is %s", r.bound())
	}
	r.apply(fleet.Bind{InstanceID: "web-1", KeySHA256: r.digest(r.known), PublicKey: r.known,
		Replaces: r.digest(r.new)})
	r.says(exitAwaited, "keys accept --rebind --yes --wait 1ms --json web-1", `"answered": false`)
	r.says(exitFailed, "keys accept --rebind --yes --wait 1ms web-1", "no other key was seen for it within 1ms")
}

// TestRebindNamesAThirdKey: while the minion is awaited, Salt denies one more key of its id.
// The operator reads it at once, with what is bound, and what to do; of the former machine,
// too, which still runs.
func TestRebindNamesAThirdKey(t *testing.T) {
	for _, c := range []struct{ what, want string }{
		{"third", "if the machine that you await has that one: phoenix keys accept --rebind --key-sha256 "},
		{"former", "the machine that has it still runs: stop it"},
	} {
		t.Run(c.what, func(t *testing.T) {
			r := newRebuilt(t)
			putKey(t, r.pki, "minions", "web-1", r.new)
			denied := r.third
			if c.what == "former" {
				denied = r.known
			}
			putKey(t, r.pki, "minions_denied", "web-1", denied)
			r.says(exitAwaited, "keys accept --rebind --yes --wait 500ms --key-sha256 "+r.digest(r.new)+" web-1",
				"(accepted since ", "waiting for web-1 to answer", "key of web-1 is denied since ", r.digest(denied),
				r.digest(r.new), c.want, "(it could not be asked: event bus is not connected")
		})
	}
}

// TestRebindSaysWhatItWaitsFor: it may be started before the machine is switched on.
func TestRebindSaysWhatItWaitsFor(t *testing.T) {
	r := newRebuilt(t)
	if err := os.Remove(filepath.Join(r.pki, "minions_denied", "web-1")); err != nil {
		t.Fatal(err)
	}
	r.says(exitFailed, "keys accept --rebind --yes --wait 500ms web-1",
		"waiting for the next auth request of web-1: the machine may be switched on now",
		"systemctl restart salt-minion")
}

// TestG3_RebindTakesNoReplacedKey: a key that was replaced by a rebind on another master is
// accepted here still. It does not come back: the command waits for the one that is bound.
func TestG3_RebindTakesNoReplacedKey(t *testing.T) {
	r := newRebuilt(t)
	putKey(t, r.pki, "minions", "web-1", r.known)
	if err := os.Remove(filepath.Join(r.pki, "minions_denied", "web-1")); err != nil {
		t.Fatal(err)
	}
	r.apply(fleet.Bind{InstanceID: "web-1", KeySHA256: r.digest(r.new), PublicKey: r.new, Replaces: r.digest(r.known),
		Rebound: r.digest(r.known)})
	r.says(exitFailed, "keys accept --rebind --yes --wait 1ms web-1", "no other key was seen for it within 1ms")
	if r.bound() != r.digest(r.new) {
		t.Fatalf("bound is %s", r.bound())
	}
	putKey(t, r.pki, "minions_denied", "web-1", r.new)
	found, err := admin.Admin{Config: r.cfg, Store: r.store, By: "test"}.FindRebinding(t.Context(), "web-1", "")
	if err != nil || found.Old != r.digest(r.known) || found.New != r.digest(r.new) {
		t.Errorf("%+v, %v", found, err)
	}
}

// TestG3_RebindOverAChange: what changed after the keys were shown is not replaced.
func TestG3_RebindOverAChange(t *testing.T) {
	for what, want := range map[string]error{"bound": fleet.ErrOtherKey, "unbound": fleet.ErrOtherKey,
		"accepted": salt.ErrChanged, "denied": salt.ErrChanged} {
		t.Run(what, func(t *testing.T) {
			r := newRebuilt(t)
			putKey(t, r.pki, "minions", "web-1", r.known)
			a := admin.Admin{Config: r.cfg, Store: r.store, By: "test"}
			found, err := a.FindRebinding(t.Context(), "web-1", "")
			if err != nil {
				t.Fatal(err)
			}
			keys := map[string]string{"minions": r.known, "minions_denied": r.new}
			switch what {
			case "bound":
				r.apply(fleet.Bind{InstanceID: "web-1", KeySHA256: r.digest(r.third), PublicKey: r.third,
					Replaces: r.digest(r.known)})
			case "unbound":
				r.apply(fleet.Retire{InstanceID: "web-1"}, fleet.Add{InstanceID: "web-1", Revive: true})
			case "accepted":
				keys["minions"] = r.third
				delete(keys, "minions_denied") // the key that was let in
			case "denied":
				keys["minions_denied"] = r.third
			}
			for state, key := range keys {
				putKey(t, r.pki, state, "web-1", key)
			}
			before := r.bound()
			if _, err := a.Rebind(t.Context(), found); !errors.Is(err, want) {
				t.Errorf("%v, not %v", err, want)
			}
			if what != "accepted" && r.bound() != before {
				t.Errorf("%s is bound, not %s", r.bound(), before)
			}
			for state, key := range keys {
				if text, err := os.ReadFile(filepath.Join(r.pki, state, "web-1")); err != nil || string(text) != key {
					t.Errorf("%s: %s, %v", state, text, err)
				}
			}
		})
	}
}

// No highstate is run unasked on a minion that was adopted, rebuilt or not: the command that
// does is printed.
func TestRanAgain(t *testing.T) {
	for _, test := range []struct {
		runner         string
		enabled, begun bool
		want           string
	}{
		{fleet.RunnerAdopted, true, false,
			"it was adopted, so no highstate is run; if the machine is empty: phoenix highstate run web-1"},
		{"", false, false, "no highstate is run (highstate.enabled is false)"},
		{"", true, false, "its first highstate has not begun (phoenix minions explain web-1)"},
		{fleet.RunnerRequested, true, true, "its first highstate is run again"},
	} {
		row := fleet.Minion{InstanceID: "web-1", HighstateRunner: test.runner}
		if got := ranAgain(row, test.enabled, func() bool { return test.begun }); got != test.want {
			t.Errorf("%+v: %s", test, got)
		}
	}
}
