package doctor_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"phoenix/bridge/doctor"
	"phoenix/bridge/salt"
	"phoenix/lab"
	"phoenix/lab/needs"
)

// manyKeys is as many as a large master has: 100,000 with -versions.all, whose files take
// longer to write than to examine.
func manyKeys() int {
	if *allVersions {
		return 100_000
	}
	return 10_000
}

// manyWithin is far from what it takes where nothing else runs (docs/doctor.md): tests of
// other packages share the machine.
const manyWithin = time.Minute

// Very many keys are read and examined, and the one that two ids have is found among them.
func TestManyKeys(t *testing.T) {
	needs.More(t, "thousands of files")
	keys := manyKeys()
	dir := t.TempDir()
	accepted := filepath.Join(dir, "pki", "minions")
	if err := os.MkdirAll(accepted, 0o755); err != nil {
		t.Fatal(err)
	}
	twin := lab.UnknownKey()
	for i := range keys {
		key := twin
		if i > 1 {
			key = lab.UnknownKey()
		}
		if err := os.WriteFile(filepath.Join(accepted, fmt.Sprintf("web-%06d", i)), []byte(key), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(dir, "master")
	if err := os.WriteFile(config, []byte("root_dir: "+dir+"\npki_dir: "+filepath.Join(dir, "pki")+"\n"),
		0o644); err != nil {
		t.Fatal(err)
	}
	c, err := salt.ReadConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	m := doctor.ReadMaster(c)
	m.IDPattern, m.ValidID = "^web-", func(string) bool { return true }
	findings := doctor.ExamineMaster(m)
	took := time.Since(begun)
	t.Logf("%d keys in %v", len(m.Keys), took.Round(time.Millisecond))
	shared := 0
	for _, f := range findings {
		if f.Check == "shared-key" && f.Severity == doctor.Error {
			shared++
		}
	}
	if len(m.Keys) != keys || shared != 1 || took > manyWithin {
		t.Errorf("%d keys, %d shared, %v", len(m.Keys), shared, took)
	}
}
