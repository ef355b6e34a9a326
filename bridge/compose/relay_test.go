package compose

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"phoenix/bridge/config"
	"phoenix/bridge/salt"
	"phoenix/bridge/service"
)

// TestRelayThatIsOffSweeps: where the relay was switched off after its bridge was
// killed, the key that it left among the accepted ones goes.
func TestRelayThatIsOffSweeps(t *testing.T) {
	master := salt.Config{PKIDir: t.TempDir(), CacheDir: t.TempDir()}
	names := []string{filepath.Join(master.PKIDir, "minions", ".phoenix-relay-0011223344556677"),
		filepath.Join(master.CacheDir, "sessions", ".phoenix-relay-0011223344556677"),
		filepath.Join(master.PKIDir, "minions", "web-1")}
	for _, name := range names {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte("key"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r, address, err := openRelay(config.Config{}, service.Config{}, master, nil, nil, nil,
		slog.New(slog.DiscardHandler))
	if r != nil || address != "" || err != nil {
		t.Fatal(r, address, err)
	}
	for i, name := range names {
		if _, err := os.Stat(name); os.IsNotExist(err) != (i < 2) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
