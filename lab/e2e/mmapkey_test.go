package e2e_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"phoenix/lab"
)

// TestMappedKeysServeNoMinion pins why a bridge does not start beside a master whose
// keys are not in files (keys.cache_driver: mmap_key). Salt alone, without Phoenix:
// a minion whose key was accepted by salt-key authenticates, and the master refuses
// all that it sends then, since it looks for the key in pki_dir/minions, whatever the
// driver (ReqServerChannel.validate_token). With a copy of the key there, it is served.
// Should this test fail with a newer Salt, such a key store can be supported.
func TestMappedKeysServeNoMinion(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	// The files are smaller than by Salt's defaults, 96 MB each.
	master := l.StartMaster(lab.MasterOptions{Version: lab.Salt3008,
		Extra: map[string]any{"keys.cache_driver": "mmap_key", "mmap_key_size": 20_000}})
	master.Ready()
	minion := l.StartMinion(lab.MinionOptions{ID: "web-1", Masters: []*lab.Master{master}})
	l.Eventually(within, "the minion's key is accepted", func() (bool, string) {
		out := master.Run("salt-key", "-y", "-a", minion.ID)
		return strings.Contains(out, "Key for minion "+minion.ID+" accepted"), out
	})
	refused := func() int { return len(master.Grep("key could not be read and verification was denied")) }
	l.Eventually(within, "it authenticates, and is refused again and again", func() (bool, string) {
		return len(master.Grep("Authentication accepted from "+minion.ID)) > 0 && refused() > 3, master.Tail()
	})
	if _, answered := master.Call(minion.ID, "test.ping"); answered {
		t.Error("it answers: see ErrKeyStore")
	}
	if files := master.Accepted(); len(files) > 0 {
		t.Errorf("the key store mmap_key writes files of minions: %v", files)
	}

	dir := filepath.Join(master.PKIDir(), "minions")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, minion.ID), []byte(minion.PublicKey()), 0o600); err != nil {
		t.Fatal(err)
	}
	minion.Answers(master)

	bridge := l.NewBridge(lab.BridgeOptions{Master: master})
	for _, command := range [][]string{{"bridge"}, {"keys", "list"}, {"identity", "show"}} {
		_, stderr, code := bridge.Try(command...)
		if code != 2 || !strings.Contains(stderr, "mmap_key") || !strings.Contains(stderr, "localfs_key") ||
			strings.Contains(strings.TrimSpace(stderr), "\n") {
			t.Errorf("phoenix %s: exit %d, %s", strings.Join(command, " "), code, stderr)
		}
	}
	out, _, _ := bridge.Try("doctor")
	if !slices.ContainsFunc(strings.Split(out, "\n"), func(line string) bool {
		return strings.HasPrefix(line, "error") && strings.Contains(line, "key-store") &&
			strings.Contains(line, "mmap_key")
	}) {
		t.Errorf("doctor says nothing of the key store:\n%s", out)
	}
}
