package salt

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

var someGrains = map[string]any{
	"os": "Ubuntu", "osmajorrelease": 24, "selinux": map[string]any{"enabled": false, "enforced": "Disabled"},
	"roles": []any{"web", "DB"}, "role": "Web", "empty": "", "none": nil, "list": []any{map[string]any{"a": "b"}, "c"},
	"ec2": map[string]any{"tags": map[string]any{"Name": "web-1", "Env": "prod:eu"}}, "url": "http://x:80/y",
	"num": 1.5, "yes": true,
}

var expressions = []string{"os:Ubuntu", "os:ubuntu", "os:U*", "os:Debian", "osmajorrelease:24", "roles:web", "roles:db",
	"roles:app", "role:web",
	"selinux:enabled:False", "selinux:enabled", "selinux:*", "selinux:enforced:dis*", "empty:", "none:None", "none:x",
	"list:c", "list:a:b", "list:a",
	"ec2:tags:Name:web*", "ec2:tags:Env:prod:eu", "ec2:tags:Env:prod", "ec2:tags:Name", "url:http*",
	"url:http://x:80/y", "num:1.5", "yes:true", "yes:1",
	"missing:*", "os", "", ":", "os:", "roles:0", "os:[tu]buntu", "os:[!a]buntu"}

// Grains match as they do in Salt.
func TestGrainsMatchAsInSalt(t *testing.T) {
	const ask = `
import json, sys
import salt.utils.data
grains, expressions = json.load(sys.stdin)
print(json.dumps([bool(salt.utils.data.subdict_match(grains, e)) for e in expressions]))`
	question, err := json.Marshal([]any{someGrains, expressions})
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range salts {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), filepath.Join(venv(t, version), "bin", "python"), "-c", ask)
			cmd.Stdin = strings.NewReader(string(question))
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("ask Salt: %v\n%s", err, err.(*exec.ExitError).Stderr)
			}
			var want []bool
			if err := json.Unmarshal(out, &want); err != nil {
				t.Fatal(err)
			}
			for i, e := range expressions {
				if got := Grains(someGrains).Match(e); got != want[i] {
					t.Errorf("%q: %v, Salt says %v", e, got, want[i])
				}
			}
		})
	}
}

// The address is one that others reach, and a name is one that no renderer takes
// for more.
func TestHostsOfGrains(t *testing.T) {
	interfaces := map[string]any{"lo": []any{"127.0.0.1"}, "docker0": []any{"172.17.0.1"}, "eth0": []any{"10.0.0.7"},
		"eth1": []any{"10.1.0.7"}}
	for name, test := range map[string]struct {
		grains Grains
		grain  string
		want   string
	}{
		"full name":     {Grains{"fqdn_ip4": []any{"10.0.0.9"}, "ip4_interfaces": interfaces}, "", "10.0.0.9"},
		"name is local": {Grains{"fqdn_ip4": []any{"127.0.1.1"}, "ip4_interfaces": interfaces}, "", "10.0.0.7"},
		"ipv4 alone":    {Grains{"ipv4": []any{"127.0.0.1", "169.254.1.1", "192.168.1.4"}}, "", "192.168.1.4"},
		"ipv6 alone": {Grains{"ipv4": []any{"127.0.0.1"}, "ipv6": []any{"::1", "fe80::1", "2001:db8::1"}}, "",
			"2001:db8::1"},
		"none": {Grains{"ipv4": []any{"127.0.0.1", "{{ x }}", 7}, "ip4_interfaces": "x", "fqdn_ip4": nil},
			"", ""},
		"by name":          {Grains{"fqdn": "web-1.example.org"}, "fqdn", "web-1.example.org"},
		"deeper":           {Grains{"ec2": map[string]any{"local_ipv4": "10.0.0.3"}}, "ec2:local_ipv4", "10.0.0.3"},
		"jinja":            {Grains{"fqdn": "{{ salt['cmd.run']('id') }}"}, "fqdn", ""},
		"jinja in a line":  {Grains{"fqdn": "a\n# x"}, "fqdn", ""},
		"an option of ssh": {Grains{"fqdn": "-oProxyCommand=id"}, "fqdn", ""},
		"zone":             {Grains{"ipv6": []any{"fe80::1%{{x}}", "2001:db8::1%{{x}}"}}, "", ""},
	} {
		got, ok := test.grains.Address()
		if test.grain != "" {
			got, ok = test.grains.Host(test.grain)
		}
		if got != test.want || ok != (test.want != "") {
			t.Errorf("%s: %q, %v", name, got, ok)
		}
	}
}

// Both layouts of the cache are read, the new one first, and what is no grains is an
// error that says so.
func TestGrainsCache(t *testing.T) {
	dir := t.TempDir()
	put := func(path string, v any) {
		t.Helper()
		raw, ok := v.([]byte)
		if !ok {
			var err error
			if raw, err = msgpack.Marshal(v); err != nil {
				t.Fatal(err)
			}
		}
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	old := map[string]any{"grains": map[string]any{"os": "old"}, "pillar": map[string]any{"secret": 1}}
	put("minions/old/data.p", old)
	put("minions/both/data.p", old)
	put("grains/both.p", map[string]any{"os": "new"})
	put("minions/pillar/data.p", map[string]any{"pillar": 1})
	put("grains/list.p", []int{1})
	put("grains/bomb.p", []byte{0xdd, 0x7f, 0xff, 0xff, 0xff}) // an array of two thousand million
	put("grains/cut.p", []byte{0x81})
	put("grains/large.p", make([]byte, maxGrains+1))
	cache, err := OpenGrains(Config{CacheDir: dir, CacheDriver: "localfs", MinionDataCache: true})
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{"old": "old", "both": "new"} {
		if g, err := cache.Read(id); err != nil || g["os"] != want || len(g) != 1 {
			t.Errorf("%s: %v, %v", id, g, err)
		}
	}
	for _, id := range []string{"none", "pillar"} {
		if _, err := cache.Read(id); !errors.Is(err, ErrNoGrains) {
			t.Errorf("%s: %v", id, err)
		}
	}
	for id, says := range map[string]string{"list": "no map", "bomb": "malformed", "cut": "malformed", "large": "over",
		"../minions/old/data": "not a minion id"} {
		if _, err := cache.Read(id); err == nil || errors.Is(err, ErrNoGrains) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", id, err)
		}
	}
	for _, c := range []Config{{CacheDriver: "redis", MinionDataCache: true}, {CacheDriver: "localfs"}} {
		if _, err := OpenGrains(c); !errors.Is(err, ErrGrainsCache) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
