package salt

import (
	"os"
	"path/filepath"
	"testing"

	"phoenix/lab/needs"
)

// salts are the versions that everything here is tried on.
var salts = []string{"3006.30", "3007.17", "3008.5"}

// venv is the folder of an installed Salt. A test that has none fails: skipped,
// it would say that all is well.
func venv(t *testing.T, version string) string {
	t.Helper()
	needs.More(t, "Salt "+version)
	dir := os.Getenv("PHOENIX_SALT_VENVS")
	if dir == "" {
		dir = filepath.Join("..", "..", ".cache")
	}
	dir, err := filepath.Abs(filepath.Join(dir, "salt-"+version))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "bin", "python")); err != nil {
		t.Fatalf("find Salt %s: %v (make installs it; PHOENIX_SALT_VENVS names the folder that holds salt-%s/)",
			version, err, version)
	}
	return dir
}
