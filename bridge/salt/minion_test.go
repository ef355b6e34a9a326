package salt

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// minionTrees are configurations of minions, each a folder of files.
var minionTrees = map[string]map[string]string{
	"id":       {"minion": "id: web-1\n"},
	"plain":    {"minion": "id: web-1\nmaster: salt.example.org\nmaster_port: 14506\npublish_port: 14505\n"},
	"root_dir": {"minion": "id: web-1\nroot_dir: /srv/salt\npki_dir: /keys\npidfile: run/m.pid\n"},
	"drop-ins": {"minion": "id: web-1\nmaster: one\n",
		"minion.d/99-phoenix.conf": "master: [a, 'b']\nmaster_type: failover\n",
		"minion.d/_schedule.conf":  "schedule: {}\n"},
	"lists are joined": {"minion": "id: web-1\nmaster: [one]\n",
		"minion.d/10.conf":         "master: [x, a]\n",
		"minion.d/99-phoenix.conf": "master: [a, b]\nmaster_type: failover\n"},
	"a text gives way": {"minion": "id: web-1\n",
		"minion.d/10.conf":         "master: x\n",
		"minion.d/99-phoenix.conf": "master: [a, b]\n"},
	"a later file wins": {"minion": "id: web-1\ninclude: more.conf\n",
		"minion.d/99-phoenix.conf": "master: [a, b]\nmaster_type: failover\n",
		"minion.d/zz.conf":         "master: z\n",
		"more.conf":                "master_type: str\n"},
}

const askedOfMinion = `
import json, sys
import salt.config
names = "id pki_dir cachedir pidfile master_port publish_port master_type".split()
out = {}
for path in sys.argv[1:]:
    opts = salt.config.minion_config(path)
    out[path] = {n: opts.get(n) for n in names}
    if out[path]["publish_port"] is None:
        out[path]["publish_port"] = 4505 # see MinionConfig
    master = opts["master"]
    out[path]["masters"] = [master] if isinstance(master, str) else master
print(json.dumps(out))
`

func TestMinionConfigIsReadAsSaltReadsIt(t *testing.T) {
	dir := t.TempDir()
	var paths []string
	for name, files := range minionTrees {
		for file, text := range files {
			path := filepath.Join(dir, name, file)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			put(t, []byte(text), path)
		}
		paths = append(paths, filepath.Join(dir, name, "minion"))
	}
	for _, version := range salts {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			python := filepath.Join(venv(t, version), "bin", "python")
			out, err := exec.CommandContext(t.Context(), python,
				append([]string{"-c", askedOfMinion}, paths...)...).Output()
			if err != nil {
				t.Fatalf("ask Salt: %v\n%s", err, err.(*exec.ExitError).Stderr)
			}
			var want map[string]map[string]any
			if err := json.Unmarshal(out, &want); err != nil {
				t.Fatal(err)
			}
			for _, path := range paths {
				c, err := ReadMinionConfig(path)
				if err != nil {
					t.Error(err)
					continue
				}
				if len(c.Masters) == 0 {
					c.Masters = []string{"salt"} // Salt's default, which nobody configured
				}
				text, err := json.Marshal(map[string]any{"id": c.ID, "pki_dir": c.PKIDir, "cachedir": c.CacheDir,
					"pidfile":     c.PIDFile,
					"master_port": c.MasterPort, "publish_port": c.PublishPort, "master_type": c.MasterType,
					"masters": c.Masters})
				if err != nil {
					t.Fatal(err)
				}
				var got map[string]any
				if err := json.Unmarshal(text, &got); err != nil {
					t.Fatal(err)
				}
				for k, w := range want[path] {
					if !reflect.DeepEqual(got[k], w) {
						t.Errorf("%s: %s is %v, Salt has %v", path, k, got[k], w)
					}
				}
			}
		})
	}
}

// Where Salt keeps its schedule, and the drop-in belongs.
func TestMinionDropIns(t *testing.T) {
	for text, want := range map[string]string{
		"":                                 "minion.d",
		"default_include: conf/*.conf\n":   "conf",
		"default_include: /etc/x/*.conf\n": "/etc/x",
	} {
		path := write(t, text)
		if !filepath.IsAbs(want) {
			want = filepath.Join(filepath.Dir(path), want)
		}
		if c, err := ReadMinionConfig(path); err != nil || c.DropIns != want {
			t.Errorf("%q: %s, %v, want %s", text, c.DropIns, err, want)
		}
	}
	if _, err := ReadMinionConfig(write(t, "default_include: '*/*.conf'\n")); err == nil ||
		!strings.Contains(err.Error(), "default_include") {
		t.Errorf("many folders: %v", err)
	}
	if _, err := ReadMinionConfig(filepath.Join(t.TempDir(), "minion")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

// An id that nobody configured is the one that Salt wrote down.
func TestMinionIDThatWasCached(t *testing.T) {
	for text, want := range map[string]string{"web-9\n": "web-9", "\ufeffweb-9": "web-9", "localhost\n": "", "": ""} {
		path := write(t, "")
		root := filepath.Dir(path)
		put(t, []byte("root_dir: "+root+"\n"), path)
		if err := os.MkdirAll(filepath.Join(root, "etc/salt"), 0o755); err != nil {
			t.Fatal(err)
		}
		put(t, []byte(text), filepath.Join(root, "etc/salt/minion_id"))
		if c, err := ReadMinionConfig(path); err != nil || c.ID != want {
			t.Errorf("%q: id %q, %v", text, c.ID, err)
		}
	}
}
