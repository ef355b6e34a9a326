package salt

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"phoenix/bridge/event"
)

// A job of another master is published with all that was in it, and under its user: as
// sudo_<user> where the master takes the root key for no other (a master that runs as
// neither root nor salt).
func TestRepublish(t *testing.T) {
	pack := func(v any) []byte {
		b, err := msgpack.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	const jid = "20261126101112123456"
	load, got, err := CutLoad(map[string][]byte{"jid": pack(jid), "fun": pack("test.arg"), "arg": pack([]any{1, "x"}),
		"tgt":      pack("G@os:Debian"),
		"tgt_type": pack("compound"), "delimiter": pack("|"), "metadata": pack(map[string]any{"a": 1}),
		"user":   pack("alice"),
		"serial": pack(7), "master_id": pack("m1"), "ret": pack("local")})
	if err != nil || got != jid {
		t.Fatal(got, err)
	}
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	var users []string
	m := &Master{user: "ops", keyPath: key,
		request: func(_ context.Context, _ string, payload []byte, _ int) ([]byte, error) {
			v, err := event.Any(payload)
			if err != nil {
				return nil, err
			}
			request := v.(map[string]any)["load"].(map[string]any)
			user := fmt.Sprint(request["user"])
			users = append(users, user)
			if user == "alice" {
				return pack(map[string]any{"error": map[string]any{"name": "UserAuthenticationError"}}), nil
			}
			delete(request, "user")
			want := map[string]any{"cmd": "publish", "key": "secret", "jid": jid, "fun": "test.arg",
				"arg": []any{int64(1), "x"}, "tgt": "G@os:Debian",
				"tgt_type": "compound", "ret": "local",
				"kwargs": map[string]any{"delimiter": "|", "metadata": map[string]any{"a": int64(1)}}}
			if fmt.Sprint(request) != fmt.Sprint(want) {
				t.Errorf("sent %v, not %v", request, want)
			}
			return pack(map[string]any{"load": map[string]any{"jid": jid, "minions": []string{"web-1"}}}), nil
		}}
	minions, err := m.Republish(t.Context(), jid, load)
	if err != nil || len(minions) != 1 || fmt.Sprint(users) != "[alice sudo_alice]" {
		t.Errorf("%v as %v: %v", minions, users, err)
	}
	for name, bad := range map[string]map[string][]byte{
		"no jid":      {"jid": pack("../../etc"), "fun": pack("x"), "arg": pack([]any{}), "tgt": pack("*")},
		"no function": {"jid": pack(jid), "arg": pack([]any{}), "tgt": pack("*")},
	} {
		if _, _, err := CutLoad(bad); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
