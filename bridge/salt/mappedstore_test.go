package salt

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// mappedStore uses Salt's own code for the files of mmap_key. Each cache is what a
// process of the master has: a worker, or salt-key. A process looks at most every
// staleness_check_interval whether another one has written.
const mappedStore = `
import inspect, sys
from salt.utils.mmap_cache import MmapCache
path, key = sys.argv[1] + "/keys", b"\x01" + b"k" * 450

def process(**more):
    return MmapCache(path, size=1000, staleness_check_interval=3600, **more)

print("interval", inspect.signature(MmapCache).parameters["staleness_check_interval"].default)
one, two, three = process(), process(), process()
one.put("x", key), one.put("y", key)
three.get("x"), three.get("x")
one.put("late", key)
print("unseen", three.get("late") is None, process().get("late") == key.decode())
one.delete("x")
two.put("z", key)
one.put("w", key)
print("listed", "w" in process().list_keys(), process().get("w") == key.decode())
other = MmapCache(path, size=1001)
print("resized", other.list_keys(), other.list_items(), other.get("y"))
`

// TestMappedStoreOfSalt pins what Phoenix would have to work around if it supported
// keys.cache_driver: mmap_key; see docs/salt.md.
func TestMappedStoreOfSalt(t *testing.T) {
	cmd := exec.Command(filepath.Join(venv(t, "3008.5"), "bin", "python3"), "-c", mappedStore, t.TempDir())
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"interval 0.25",
		"unseen True True",   // a key that another process has just stored does not exist
		"listed False True",  // a key that exists is on no list
		"resized [] [] None", // an index of another size is an empty store
	} {
		if !strings.Contains(string(out), want+"\n") {
			t.Errorf("not %q:\n%s", want, out)
		}
	}
}
