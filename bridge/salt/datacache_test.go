package salt

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

func packedMap(t *testing.T, v map[string]any) msgpack.RawMessage {
	t.Helper()
	raw, err := msgpack.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// dataCaches are one as 3006 and 3007 have it, and one as 3008 has it, both of masters
// that no minion has connected to.
func dataCaches(t *testing.T) map[string]*DataCache {
	caches := map[string]*DataCache{}
	for name, keys := range map[string][]string{"3006": {"master.pem"}, "3008": {"salt-1.pem", "master.pem"}} {
		dir, pki := t.TempDir(), t.TempDir()
		if err := os.WriteFile(filepath.Join(pki, keys[0]), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, link := range keys[1:] { // as 3008.5 leaves it; 3008.3 has none
			if err := os.Symlink(filepath.Join(pki, keys[0]), filepath.Join(pki, link)); err != nil {
				t.Fatal(err)
			}
		}
		c, err := OpenDataCache(Config{ID: "salt-1_master", CacheDir: dir, PKIDir: pki, MinionDataCache: true,
			CacheDriver: "localfs"})
		if err != nil {
			t.Fatal(err)
		}
		caches[name] = c
	}
	return caches
}

// TestDataCacheBetweenLayouts: what one version wrote, the other one reads; the stamp
// goes along.
func TestDataCacheBetweenLayouts(t *testing.T) {
	caches := dataCaches(t)
	data := MinionData{DataGrains: packedMap(t, map[string]any{"os": "Debian"}),
		DataPillar: packedMap(t, map[string]any{"role": "web"}),
		DataMine:   packedMap(t, map[string]any{"test.ping": true})}
	for name, c := range caches {
		if c.separate() != (name == "3008") {
			t.Errorf("%s: separate folders: %v", name, c.separate())
		}
		if err := c.Write("web-1", data, 0, 1e18); err != nil {
			t.Fatal(err)
		}
		got, stamp, err := c.Read("web-1")
		if err != nil || stamp != 1e18 || len(got) != 3 {
			t.Fatalf("%s: %v %d %v", name, got, stamp, err)
		}
		for what := range data {
			if string(got[what]) != string(data[what]) {
				t.Errorf("%s: %s is %q", name, what, got[what])
			}
		}
		if list, err := c.List(); err != nil || len(list) != 1 || list["web-1"] != 1e18 {
			t.Errorf("%s: %v, %v", name, list, err)
		}
		grains, err := (&GrainsCache{dir: c.dir}).Read("web-1")
		if err != nil || grains["os"] != "Debian" {
			t.Errorf("%s: %v, %v", name, grains, err)
		}
		// A mine that was flushed goes.
		delete(got, DataMine)
		if err := c.Write("web-1", got, 1e18, 2e18); err != nil {
			t.Fatal(err)
		}
		if got, _, err := c.Read("web-1"); err != nil || got[DataMine] != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// TestDataCacheWritesNothingElse: what the master wrote meanwhile stays, a name leads
// nowhere else, and what the master could not read is not written.
func TestDataCacheWritesNothingElse(t *testing.T) {
	good := MinionData{DataGrains: packedMap(t, map[string]any{"os": "Debian"})}
	for name, c := range dataCaches(t) {
		if err := c.Write("web-1", good, 0, 1e18); err != nil {
			t.Fatal(err)
		}
		if err := c.Write("web-1", good, 5, 2e18); !errors.Is(err, ErrDataChanged) {
			t.Errorf("%s: over what is newer: %v", name, err)
		}
		for _, id := range []string{"", ".", "..", "../x", "a/b", ".hidden/..", "a\x00b"} {
			if err := c.Write(id, good, 0, 1e18); err == nil {
				t.Errorf("%s: id %q was written", name, id)
			}
		}
		for what, bad := range map[string]MinionData{
			"no grains":    {DataPillar: good[DataGrains]},
			"another name": {DataGrains: good[DataGrains], "keys": good[DataGrains]},
			"no map":       {DataGrains: msgpack.RawMessage{0x01}},
			"cut":          {DataGrains: good[DataGrains][:3]},
			"too large":    {DataGrains: packedMap(t, map[string]any{"x": strings.Repeat("x", maxData)})},
		} {
			if err := c.Write("web-2", bad, 0, 1e18); err == nil || c.Stamp("web-2") != 0 {
				t.Errorf("%s: %s was written", name, what)
			}
		}
		// Somebody with the rights of Salt's user has put a link there.
		victim := t.TempDir()
		folder := filepath.Join(c.dir, "minions", "web-3")
		if c.separate() {
			folder = filepath.Join(c.dir, DataPillar)
		}
		_ = os.RemoveAll(folder)
		if err := os.Symlink(victim, folder); err != nil {
			t.Fatal(err)
		}
		both := MinionData{DataGrains: good[DataGrains], DataPillar: good[DataGrains]}
		err := c.Write("web-3", both, 0, 1e18)
		if entries, _ := os.ReadDir(victim); err == nil || len(entries) > 0 {
			t.Errorf("%s: it was written through a link: %v %v", name, err, entries)
		}
	}
}

func TestDataCacheOfAnotherKind(t *testing.T) {
	for _, c := range []Config{{CacheDriver: "redis", MinionDataCache: true}, {CacheDriver: "localfs"}} {
		if _, err := OpenDataCache(c); !errors.Is(err, ErrGrainsCache) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
