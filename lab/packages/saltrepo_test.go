//go:build packages

package packages

import (
	_ "embed"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"phoenix/lab"
	"phoenix/lab/debian"
)

//go:embed saltrepo.sh
var saltrepoScript string

// repositoryVersion is the Salt of the packages on loopback.
const repositoryVersion = lab.Salt3007

// saltRepository serves signed repositories of Salt's packages on loopback, at the paths
// that Salt's own have, and returns their URL and the digest of the key. The packages
// are built once, below .cache, with Salt from PyPI: see saltrepo.sh.
func saltRepository(t *testing.T) (url, keySHA256 string) {
	t.Helper()
	root, err := lab.Root()
	must(t, err)
	cache, err := filepath.EvalSymlinks(filepath.Join(root, ".cache"))
	must(t, err)
	dir := filepath.Join(cache, "salt-packages")
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	must(t, err)
	defer lock.Close()
	must(t, syscall.Flock(int(lock.Fd()), syscall.LOCK_EX))
	list, err := os.ReadFile("../install/salt-" + repositoryVersion + ".txt")
	must(t, err)
	want := digest([]byte(saltrepoScript + string(list)))
	stamp := filepath.Join(dir, "complete") // written last
	if had, err := os.ReadFile(stamp); err != nil || string(had) != want {
		must(t, os.RemoveAll(dir))
		pip := pipCache(t)
		r := debian.Start(t, pip)
		likeHere(t, r)
		r.Put("/srv/salt.txt", string(list))
		r.Run("python3 -m venv --copies /opt/saltstack/salt && /opt/saltstack/salt/bin/pip install -q --disable-pip-version-check --no-deps -r /srv/salt.txt", "PIP_CACHE_DIR="+pip)
		if out, err := exec.Command("./saltrepo.sh", filepath.Join(r.Dir, "opt/saltstack/salt"), repositoryVersion,
			dir).CombinedOutput(); err != nil {
			t.Fatalf("build Salt's packages: %v\n%s", err, out)
		}
		must(t, os.WriteFile(stamp, []byte(want), 0o644))
	}
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(server.Close)
	return server.URL, sum(t, filepath.Join(dir, "api/security/keypair/SaltProjectKey/public"))
}
