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

// trees are configurations, each a folder of files.
var trees = map[string]map[string]string{
	"defaults": {"master": ""},
	"plain":    {"master": "id: m1\nuser: salt\ninterface: 10.1.2.3\nret_port: 14506\npublish_port: 14505\n"},
	"root_dir": {"master": "root_dir: /srv/salt\n"},
	"root_dir and paths": {"master": "root_dir: /srv/salt\npki_dir: pki\ncachedir: /srv/salt/cache\n" +
		"sock_dir: /run/s\nautosign_file: autosign\n"},
	"root_dir twice":  {"master": "root_dir: /srv\npki_dir: /srv\ncachedir: /srv/../c//d\nsock_dir: s/\n"},
	"relative root":   {"master": "root_dir: here/../there\npki_dir: pki\n"},
	"long sock_dir":   {"master": "cachedir: /c\nsock_dir: /var/run/salt/longer\n"},
	"as long as may":  {"master": "cachedir: /c\nsock_dir: /123456789ab\n"},
	"sock_dir umlaut": {"master": "cachedir: /ä\nsock_dir: /123456789äö\n"},
	"yaml 1.1": {"master": "open_mode: yes\nauto_accept: \"yes\"\nret_port: 04_506\npublish_port: 0x1199\nid: 007\n" +
		"phoenix: {socket: off}\n"},
	"odd ids":   {"master": "id: no\n"},
	"empty id":  {"master": "id:\n"},
	"mode on":   {"master": "open_mode: On\nauto_accept: y\nid: 2024-01-01\n"},
	"anchors":   {"master": "a: &a {socket: /a, x: 1}\nb: &b {z: 1, y: 2}\nphoenix:\n  <<: [*a, *b]\n  y: 3\n"},
	"an anchor": {"master": "a: &a {socket: /a, x: 1}\nphoenix:\n  x: 2\n  <<: *a\n"},
	"master.d": {"master": "id: main\nphoenix: {socket: /main, only: main}\nret_port: 1\n",
		"master.d/10.conf":     "id: ten\nphoenix: {socket: /ten, ten: [1]}\n",
		"master.d/9.conf":      "id: nine\nphoenix: {nine: [2], ten: [3]}\n",
		"master.d/.hidden":     "id: hidden\n",
		"master.d/.x.conf":     "id: hidden\n",
		"master.d/other.yaml":  "id: yaml\n",
		"master.d/empty.conf":  "# nothing\n",
		"master.d/A.conf":      "id: upper\npublish_port: 2\n",
		"master.d/a/deep.conf": "id: deep\n"},
	"include": {"master": "include: [more/*.conf, 'x[!b].conf']\nid: main\n",
		"master.d/a.conf": "id: d\ninclude: nested/n.conf\nret_port: 5\n",
		// relative to the file that names it
		"master.d/nested/n.conf": "ret_port: 6\npublish_port: 7\n",
		"more/1.conf":            "id: one\nopen_mode: on\n",
		"xa.conf":                "user: xa\n",
		"xb.conf":                "user: xb\n"},
	"default_include": {"master": "default_include: conf/*.yml\n", "conf/a.yml": "id: a\n",
		"master.d/b.conf": "id: b\n"},
	"no include": {"master": "default_include:\nid: main\n", "master.d/b.conf": "id: b\n"},
	"faulty include": {"master": "id: main\n", "master.d/a.conf": "id: a\n  b: c\n", "master.d/b.conf": "user: b\n",
		"master.d/c.conf": "- a list\n", "master.d/d.conf": "id: d\nid: e\n"},
	"signing and runners": {"master": "root_dir: /srv\nautosign_file: /a\nautoreject_file: r\nautosign_grains_dir: g\n" +
		"permissive_pki_access: on\npidfile: run/m.pid\nextension_modules: ext\nrunner_dirs: [/r1, r2]\ncache: redis\nminion_data_cache: 0\n"},
	"reactor": {"master": "reactor:\n  - salt/auth: [/a.sls]\n",
		"master.d/a.conf": "reactor:\n  - 'salt/minion/*/start': [/b.sls, c.sls]\n",
		"master.d/b.conf": "reactor:\n  - salt/key: [/k.sls]\n"},
	"cachedir alone": {"master": "cachedir: /elsewhere\n"},
	"tcp":            {"master": "ipc_mode: tcp\ntcp_master_pub_port: 5512\ntransport: tcp\n"},
}

// asked is what is compared, under Salt's names.
const asked = `
import json, sys
import salt.config
names = "user root_dir pki_dir cachedir sock_dir interface ret_port publish_port ipc_mode tcp_master_pub_port transport auto_accept open_mode autosign_file phoenix pidfile extension_modules runner_dirs autoreject_file autosign_grains_dir cache".split()
out = {}
for path in sys.argv[1:]:
    opts = salt.config.master_config(path)
    out[path] = {n: opts.get(n) for n in names}
    out[path].update({n: bool(opts.get(n)) for n in ("minion_data_cache", "permissive_pki_access")})
    out[path]["reactor"] = [[next(iter(r)), r[next(iter(r))]] for r in opts["reactor"]]
    out[path]["id"] = opts["id"] if not opts["id"].endswith("_master") else ""
print(json.dumps(out))
`

func TestConfigIsReadAsSaltReadsIt(t *testing.T) {
	dir := t.TempDir()
	var paths []string
	for name, files := range trees {
		for file, text := range files {
			path := filepath.Join(dir, name, file)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		paths = append(paths, filepath.Join(dir, name, "master"))
	}
	script := filepath.Join(t.TempDir(), "ask_salt.py")
	if err := os.WriteFile(script, []byte(asked), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, version := range salts {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			python := filepath.Join(venv(t, version), "bin", "python")
			out, err := exec.CommandContext(t.Context(), python, append([]string{script}, paths...)...).Output()
			if err != nil {
				t.Fatalf("ask Salt: %v\n%s", err, err.(*exec.ExitError).Stderr)
			}
			var want map[string]map[string]any
			if err := json.Unmarshal(out, &want); err != nil {
				t.Fatal(err)
			}
			for _, path := range paths {
				c, err := ReadConfig(path)
				if err != nil {
					t.Error(err)
					continue
				}
				// Both through JSON, so that numbers are of one kind.
				text, err := json.Marshal(map[string]any{"user": c.User, "id": c.ID, "root_dir": want[path]["root_dir"],
					"pki_dir": c.PKIDir, "cachedir": c.CacheDir, "sock_dir": c.SockDir, "interface": c.Interface,
					"ret_port": c.RetPort, "publish_port": c.PublishPort, "ipc_mode": c.IPCMode,
					"tcp_master_pub_port": c.TCPMasterPubPort, "transport": c.Transport,
					"auto_accept": c.AutoAccept, "open_mode": c.OpenMode,
					"autosign_file": orNil(c.AutosignFile), "phoenix": orNilMap(c.Phoenix),
					"pidfile": c.PIDFile, "extension_modules": c.ExtensionModules,
					"runner_dirs":     append([]string{}, c.RunnerDirs...),
					"autoreject_file": orNil(c.AutorejectFile), "autosign_grains_dir": orNil(c.AutosignGrainsDir),
					"cache":             c.CacheDriver,
					"minion_data_cache": c.MinionDataCache, "permissive_pki_access": c.PermissivePKI,
					"reactor": pairs(c.Reactions)})
				if err != nil {
					t.Fatal(err)
				}
				var got map[string]any
				if err := json.Unmarshal(text, &got); err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(got, want[path]) {
					for k, w := range want[path] {
						if !reflect.DeepEqual(got[k], w) {
							t.Errorf("%s: %s is %v, Salt has %v", path, k, got[k], w)
						}
					}
				}
			}
		})
	}
}

// pairs are reactions as the test asks Salt for them.
func pairs(reactions []Reaction) [][]any {
	out := [][]any{}
	for _, r := range reactions {
		out = append(out, []any{r.Tag, r.Files})
	}
	return out
}

func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func orNilMap(m map[string]any) any {
	if m == nil {
		return nil
	}
	return m
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "master")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConfigWithAFault(t *testing.T) {
	for text, want := range map[string]string{
		"id: a\nb: [1, 2\nc: d\n":           "line ",
		"id: a\n\tb: c\n":                   "line ",
		"id: a\nid: b\n":                    `line 2: "id" stands there twice`,
		"a: &a {x: 1}\nb: {<<: [*a, *a]}\n": `line 2: "x" comes in twice`,
		"- a\n- b\n":                        "line 1: not a mapping",
		"id: a\n---\nid: b\n":               "second document",
		"? [a]\n: b\n":                      "line 1: a key that is no scalar",
		"ret_port: none\n":                  "ret_port is none, not a port",
		"ret_port: 70000\n":                 "ret_port is 70000, not a port",
		"sock_dir: [a]\n":                   "sock_dir is [a], not a text",
		"a: &a [x,x]\n" + billion("a", 30):  "more than",
		"a: &a [*a]\n":                      "more than",
		"include: 'mast*'\nid: a\n":         "include one another without end",
	} {
		path := write(t, text)
		_, err := ReadConfig(path)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%.40q: %v, want %q and the file's name", text, err, want)
		}
	}
	_, err := ReadConfig(filepath.Join(t.TempDir(), "master"))
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "salt_config") {
		t.Errorf("missing file: %v", err)
	}
}

// billion is n lists, each of the one before, twice.
func billion(name string, n int) string {
	var b strings.Builder
	for range n {
		b.WriteString(name + "a: &" + name + "a [*" + name + ",*" + name + "]\n")
		name += "a"
	}
	return b.String()
}

func TestConfigSaysWhatSaltSkipped(t *testing.T) {
	path := write(t, "include: more.conf\n")
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "more.conf"), []byte("id: a\nid: b\n"),
		0o644); err != nil {
		t.Fatal(err)
	}
	c, err := ReadConfig(path)
	if err != nil || len(c.Skipped) != 1 || !strings.Contains(c.Skipped[0].Error(), "more.conf: line 2:") {
		t.Fatalf("%v, %v", c.Skipped, err)
	}
}

func TestConfigPlaces(t *testing.T) {
	base := "cachedir: /c\nsock_dir: /s\nuser: salt\n"
	for _, test := range []struct{ text, network, bus, ret string }{
		{"", "unix", "/s/master_event_pub.ipc", "tcp://127.0.0.1:4506"},
		{"interface: '::'\nret_port: 1\n", "unix", "/s/master_event_pub.ipc", "tcp://[::1]:1"},
		{"interface: fd00::5\n", "unix", "/s/master_event_pub.ipc", "tcp://[fd00::5]:4506"},
		{"interface: 10.0.0.9\ntransport: tcp\nipc_mode: tcp\nssl: false\n", "tcp", "127.0.0.1:4512",
			"tcp://10.0.0.9:4506"},
		{"interface: 10.0.0.9\nipc_mode: tcp\n", "tcp", "127.0.0.1:4512", "tcp://10.0.0.9:4506"},
	} {
		c, err := ReadConfig(write(t, base+test.text))
		if err != nil {
			t.Fatal(err)
		}
		network, bus := c.EventSocket()
		if network != test.network || bus != test.bus || c.RetEndpoint() != test.ret ||
			c.RootKeyPath() != "/c/.salt_key" {
			t.Errorf("%q: %s %s %s %s", test.text, network, bus, c.RetEndpoint(), c.RootKeyPath())
		}
		if err := c.Validate(); err != nil {
			t.Error(err)
		}
	}
	for _, text := range []string{"transport: ws\n", "transport: tcp\nssl: {certfile: x}\n", "cluster_id: x\n"} {
		c, err := ReadConfig(write(t, text))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), c.Path) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Whatever a file holds, it is read or refused.
func FuzzReadYAML(f *testing.F) {
	for _, files := range trees {
		for _, text := range files {
			f.Add([]byte(text))
		}
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(dir, "master")
		put(t, text, path)
		opts, err := readYAML(path)
		if err == nil && opts == nil {
			t.Error("neither options nor a fault")
		}
	})
}
