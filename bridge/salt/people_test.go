package salt

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// written are lines of configuration as people write them: from Salt's own example
// files, from its documentation, and from what goes wrong. Each is one option.
var written = []string{
	"interface: '[::]'\n", "interface: '::'\n", "interface: ::\n", "interface: 0.0.0.0\n", "interface: \"::1\"\n",
	"interface: '[fd00::5]'\n", "interface:\n", "interface: eth0\n",
	"user: 1000\n", "user: '1000'\n", "user: root\n", "user: null\n", "user: salt # as the package has it\n",
	"id: 1\n", "id: \"1\"\n", "id: 1.50\n", "id: 0o17\n", "id: 017\n", "id: 1e3\n", "id: 10:30\n", "id: 2024-01-01\n",
	"id: 2024-01-01 10:00:00\n", "id: ~\n",
	"id: yes\n", "id: 'no'\n", "id: salt-1.example.org\n", "id: .inf\n", "id: -0\n", "id: 1_000\n", "id: 0b11\n",
	"id: Yes Sir\n", "id: y\n", "id: [a]\n",
	"ret_port: 4506.5\n", "ret_port: '14506'\n", "ret_port: 0x119a\n", "ret_port: +4506\n",
	"ret_port: 14506 # comment\n", "publish_port: 4_505\n", "publish_port: \"0014505\"\n",
	"auto_accept: True\n", "auto_accept: true\n", "auto_accept: yes\n", "auto_accept: 'True'\n", "auto_accept: 1\n",
	"auto_accept: On\n", "auto_accept: TRUE\n", "auto_accept: tRUE\n", "open_mode: False\n", "open_mode: Off\n",
	"open_mode: y\n",
	"autosign_file: /etc/salt/autosign.conf\n", "autosign_file: ''\n", "autosign_file: autosign.conf\n",
	"autoreject_file: ~\n", "autosign_grains_dir: /etc/salt/autosign_grains/\n",
	"permissive_pki_access: 0\n", "permissive_pki_access: 'False'\n", "permissive_pki_access: 0.0\n",
	"permissive_pki_access: {}\n", "minion_data_cache: no\n", "minion_data_cache: ''\n",
	"pki_dir: /etc/salt/pki/master/\n", "pki_dir: /srv//pki/../pki2\n", "pki_dir: pki\n",
	"cachedir: /var/cache/salt/master\n", "cachedir: |\n  /var/cache/x\n", "cachedir: >-\n  /var/cache/y\n",
	"sock_dir: /run/salt\n", "sock_dir: \"/run/\\u00e4\"\n",
	"root_dir: /srv\n", "root_dir: /srv/\n", "root_dir: \"/\"\n",
	"1: one\n", "\"1\": text\n", "yes: no\n", "~: nothing\n", "!ENV id: x\n", "phoenix: !ENV SOCKET\n",
	"phoenix: {socket: !ENV '${SOCKET}'}\n", "phoenix: {socket: /s}\n", "phoenix:\n  socket: '/q'\n",
	"phoenix: {1: a, '1': b}\n", "phoenix: {1: a, 2: b}\n", "phoenix:\n- a\n- b\n",
	"phoenix: !!python/unicode x\n", "phoenix: {socket: !!str 12}\n", "phoenix: {n: !!int '12'}\n",
	"phoenix: {b: !!bool 'yes'}\n", "phoenix: {x: !!float 1}\n", "phoenix: {a: 0o17, b: 017, c: 0x1F, d: 1_0}\n",
	"phoenix: {a: 'it''s', b: \"a\\tb\"}\n", "phoenix: {a: [1, 2,], b: {}}\n", "phoenix: {'a b': c, d : e}\n",
	"phoenix: {a: =, b: <<}\n",
	"reactor:\n  - 'salt/auth':\n    - /srv/reactor/auth.sls\n", "reactor:\n- salt/minion/*/start: /srv/start.sls\n",
	"reactor:\n  - 'a':\n      - x\n    'b':\n      - y\n", "reactor: []\n", "reactor: {a: b}\n",
	"reactor:\n  - salt/key: [a.sls, 1]\n", "reactor:\n  - 1: [a.sls]\n",
	"runner_dirs: [/srv/runners]\n", "runner_dirs: /srv/runners\n", "runner_dirs:\n  - /a\n  - b\n",
	"extension_modules: /srv/ext\n",
	"include: more/*.conf\n", "include:\n  - more/a.conf\n  - 'none*.conf'\n", "include: []\n",
	"default_include: conf.d/*.conf\n", "default_include: master.d/b.conf\n",
	"#id: commented\n", "# interface: 0.0.0.0\n\n", "\n\n", "---\n", "...\n", "%YAML 1.1\n---\n",
	"\ufeffcache: localfs\n", "cache: redis\r\n", "cache:\tlocalfs\n", "cache: mysql\t# tab\n", "\tcache: x\n",
	" cache: x\n", "cache: caf\xe9\n", "# caf\xe9\n", "cache: café\n", "cache: \"\\xe9\"\n", "cache: a\u0085b\n",
	"cache: 'a\n  b'\n", "cache: a: b\n", "cache: @a\n", "cache: `a`\n", "cache: %a\n", "cache: *none\n",
	"cache: &x localfs\n", "cache: {{ grains }}\n", "cache: a\x00b\n", "cache: a\u200bb\n",
	"transport: tcp\n", "transport: zeromq\n", "ipc_mode: tcp\n", "pidfile: /run/salt/salt-master.pid\n",
	"keep_jobs_seconds: 86400\n", "file_roots:\n  base:\n    - /srv/salt\n",
	"base: &base {socket: /b, x: 1}\nphoenix:\n  <<: *base\n  y: 2\n",
	"base: &base {socket: /b}\nphoenix: {<<: *base, socket: /own}\n",
	"schedule:\n  one: {function: state.orchestrate, minutes: 5}\n", "schedule: {two: {function: test.ping}}\n",
}

// names are the files of a tree, besides the main one.
var besides = []string{"master.d/a.conf", "master.d/b.conf", "more/a.conf", "more/b.conf", "conf.d/c.conf"}

// generated makes a tree of such lines that is the same for the same number.
func generated(written []string, role string, n int) map[string]string {
	r := rand.New(rand.NewPCG(uint64(n), 17))
	some := func(most int) string {
		var b strings.Builder
		for range 1 + r.IntN(most) {
			b.WriteString(written[r.IntN(len(written))])
		}
		return b.String()
	}
	tree := map[string]string{}
	if n < len(written) { // each line by itself, and then several
		tree[role] = written[n]
	} else if n%7 > 0 {
		tree[role] = some(4)
	} // else there are drop-ins alone
	for _, name := range besides {
		if r.IntN(3) == 0 && n >= len(written) {
			tree[strings.Replace(name, "master", role, 1)] = some(3)
		}
	}
	return tree
}

// askedOfPeople is what is compared; null for a file that Salt does not start with.
const askedOfPeople = `
import json, sys
import salt.config
names = "user root_dir pki_dir cachedir sock_dir interface ret_port publish_port ipc_mode transport auto_accept open_mode autosign_file phoenix pidfile extension_modules autoreject_file autosign_grains_dir cache".split()
out = {}
for path in sys.argv[1:]:
    try:
        opts = salt.config.master_config(path)
        one = {n: opts.get(n) for n in names}
        one["auto_accept"], one["open_mode"] = opts["auto_accept"] is True, opts["open_mode"] is True
        one.update({n: bool(opts.get(n)) for n in ("minion_data_cache", "permissive_pki_access")})
        one["id"] = opts["id"] if not opts["id"].endswith("_master") else ""
        json.dumps(one)
        out[path] = one
    except (Exception, SystemExit) as err:
        out[path] = {"fault": repr(err)}
print("\nANSWER" + json.dumps(out))
`

// diesLater reports what Salt reads and then does not start with: a user that is no
// name (getpwnam), a port or an address that ZeroMQ does not take, an id that is none.
func diesLater(opts map[string]any) (any, bool) {
	if _, ok := opts["user"].(string); !ok {
		return "user", true
	}
	if _, ok := opts["interface"].(string); !ok {
		return "interface", true
	}
	if port, ok := opts["ret_port"].(float64); ok && port != 4506 && port != 14506 {
		return "ret_port", true
	}
	return nil, strings.HasPrefix(opts["id"].(string), "[")
}

// writeTrees writes each line by itself, and 200 trees of several.
func writeTrees(t *testing.T, written []string, role string) (paths []string, texts map[string]string) {
	t.Helper()
	dir := t.TempDir()
	texts = map[string]string{}
	for n := range len(written) + 200 {
		root := filepath.Join(dir, fmt.Sprint(n))
		if err := os.MkdirAll(root, 0o755); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(root, role)
		for name, text := range generated(written, role, n) {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
				t.Fatal(err)
			}
			put(t, []byte(text), root, name)
			texts[path] += fmt.Sprintf("  %s: %q\n", name, text)
		}
		paths = append(paths, path)
	}
	return paths, texts
}

// A configuration as people write it is read as Salt reads it, or refused where Salt
// refuses it.
func TestConfigAsPeopleWriteIt(t *testing.T) {
	paths, texts := writeTrees(t, written, "master")
	script := filepath.Join(t.TempDir(), "ask_salt.py")
	put(t, []byte(askedOfPeople), script)
	for _, version := range salts {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), filepath.Join(venv(t, version), "bin", "python"),
				append([]string{script}, paths...)...)
			cmd.Env = append(os.Environ(), "LANG=C.UTF-8")
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("ask Salt: %v\n%s", err, err.(*exec.ExitError).Stderr)
			}
			_, answer, _ := strings.Cut(string(out), "ANSWER") // after what Salt prints
			var want map[string]map[string]any
			if err := json.Unmarshal([]byte(answer), &want); err != nil {
				t.Fatal(err)
			}
			for _, path := range paths {
				c, err := ReadConfig(path)
				fault, refused := want[path]["fault"]
				if !refused {
					fault, refused = diesLater(want[path])
				}
				if !strings.Contains(texts[path], "  master: ") && !strings.Contains(texts[path], "  master.d/") {
					fault, refused = "Salt goes on without any file", true
				}
				if refused != (err != nil) {
					t.Errorf("Salt says %v, we say %v of\n%s", fault, err, texts[path])
					continue
				} else if refused {
					continue
				}
				text, err := json.Marshal(map[string]any{"user": c.User, "id": c.ID, "root_dir": want[path]["root_dir"],
					"pki_dir": c.PKIDir, "cachedir": c.CacheDir, "sock_dir": c.SockDir, "interface": orNil(c.Interface),
					"ret_port": c.RetPort, "publish_port": c.PublishPort, "ipc_mode": c.IPCMode,
					"transport":   c.Transport,
					"auto_accept": c.AutoAccept, "open_mode": c.OpenMode, "autosign_file": orNil(c.AutosignFile),
					"phoenix": orNilMap(c.Phoenix),
					"pidfile": c.PIDFile, "extension_modules": c.ExtensionModules,
					"autoreject_file":     orNil(c.AutorejectFile),
					"autosign_grains_dir": orNil(c.AutosignGrainsDir), "cache": c.CacheDriver,
					"minion_data_cache": c.MinionDataCache, "permissive_pki_access": c.PermissivePKI})
				if err != nil {
					t.Fatal(err)
				}
				var got map[string]any
				if err := json.Unmarshal(text, &got); err != nil {
					t.Fatal(err)
				}
				if _, ok := want[path]["phoenix"].(map[string]any); !ok {
					got["phoenix"] = want[path]["phoenix"] // which the runners do not take either
				}
				for k, w := range want[path] {
					if !reflect.DeepEqual(got[k], w) && strings.TrimLeft(fmt.Sprint(w), "0") != fmt.Sprint(got[k]) {
						t.Errorf("%s is %#v, Salt has %#v of\n%s", k, got[k], w, texts[path])
					}
				}
			}
		})
	}
}

// ofMinions are lines of minions' configuration as people write them.
var ofMinions = []string{
	"id: web-1\n", "id: 1\n", "id: 1.50\n", "id: no\n", "id: web-1.example.org # fqdn\n", "id: [a]\n",
	"master: salt\n", "master: [a, b]\n", "master:\n  - a\n  - b\n", "master: 10.0.0.1\n", "master: '[::1]'\n",
	"master: []\n", "master: ''\n",
	"master_type: failover\n", "master_type: str\n", "master_type: disable\n", "master_port: '14506'\n",
	"master_port: 14506\n", "publish_port: 14505\n",
	"master_alive_interval: 30\n", "retry_dns: 0\n", "random_master: yes\n", "cache_jobs: True\n", "test: True\n",
	"file_client: local\n",
	"pki_dir: /srv/pki/\n", "cachedir: cache\n", "pidfile: /run/m.pid\n", "root_dir: /srv\n", "root_dir: /\n",
	"pki_dir: ~\n",
	"schedule:\n  highstate:\n    function: state.apply\n    minutes: 60\n    run_on_start: true\n",
	"startup_states: highstate\n",
	"include: more/*.conf\n", "default_include: conf.d/*.conf\n", "---\n", "# caf\xe9\n", "\tid: x\n", "id: {{ x }}\n",
	"grains:\n  roles: [web]\n", "1: a\n\"1\": b\n", "grains: {1: a, 1: b}\n", "mine: !ENV x\n",
	"\ufeffuser: root\n", "user: root\r\n", "tcp_keepalive: 'yes'\n", "minion_jid_queue_hwm: 1_000\n",
}

const askedOfMinions = `
import json, sys
import salt.config
names = "id pki_dir cachedir pidfile master_port publish_port master_type".split()
out = {}
for path in sys.argv[1:]:
    try:
        opts = salt.config.minion_config(path, cache_minion_id=False)
        out[path] = {n: opts.get(n) for n in names}
        if out[path]["publish_port"] is None:
            out[path]["publish_port"] = 4505 # see MinionConfig
        master = opts["master"]
        out[path]["masters"] = [master] if isinstance(master, str) else master
    except (Exception, SystemExit) as err:
        out[path] = {"fault": repr(err)}
print("\nANSWER" + json.dumps(out))
`

func TestMinionConfigAsPeopleWriteIt(t *testing.T) {
	paths, texts := writeTrees(t, ofMinions, "minion")
	for _, version := range salts {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), filepath.Join(venv(t, version), "bin", "python"),
				append([]string{"-c", askedOfMinions}, paths...)...)
			cmd.Env = append(os.Environ(), "LANG=C.UTF-8")
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("ask Salt: %v\n%s", err, err.(*exec.ExitError).Stderr)
			}
			_, answer, _ := strings.Cut(string(out), "ANSWER")
			var want map[string]map[string]any
			if err := json.Unmarshal([]byte(answer), &want); err != nil {
				t.Fatal(err)
			}
			for _, path := range paths {
				c, err := ReadMinionConfig(path)
				fault, refused := want[path]["fault"]
				if id, _ := want[path]["id"].(string); strings.HasPrefix(id, "[") {
					fault, refused = "no id", true
				}
				if !strings.Contains(texts[path], "  minion: ") && !strings.Contains(texts[path], "  minion.d/") {
					fault, refused = "Salt goes on without any file", true
				}
				if refused != (err != nil) {
					t.Errorf("Salt says %v, we say %v of\n%s", fault, err, texts[path])
				}
				if refused || err != nil {
					continue
				}
				got := map[string]any{"id": c.ID, "pki_dir": c.PKIDir, "cachedir": c.CacheDir, "pidfile": c.PIDFile,
					"master_port":  c.MasterPort,
					"publish_port": c.PublishPort, "master_type": c.MasterType, "masters": c.Masters}
				for k, w := range want[path] {
					if k == "id" && c.ID == "" { // which Salt makes of the host's name
						continue
					}
					if k == "masters" && len(c.Masters) == 0 && fmt.Sprint(w) == "[salt]" { // the default
						continue
					}
					if fmt.Sprint(got[k]) != fmt.Sprint(w) {
						t.Errorf("%s is %#v, Salt has %#v of\n%s", k, got[k], w, texts[path])
					}
				}
			}
		})
	}
}
