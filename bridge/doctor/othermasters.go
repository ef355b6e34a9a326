package doctor

import (
	"cmp"
	"path/filepath"
	"slices"
	"strings"

	"phoenix/bridge/salt"
)

// SharedFolder is a folder that another master of this machine has, too.
type SharedFolder struct {
	Option string // cachedir, sock_dir, pki_dir
	With   string // the other's configuration file
}

// sharedFolders returns what the masters that run on this machine share with the one so
// configured. Several masters on one machine are started with -c.
func (h host) sharedFolders(c salt.Config) (shared []SharedFolder) {
	for _, path := range h.masters() {
		if real(path) == real(c.Path) {
			continue
		}
		other, err := salt.ReadConfig(path)
		if err != nil {
			continue // it may be in a container, whose files are not here
		}
		for _, f := range []struct{ option, own, other string }{
			{"cachedir", c.CacheDir, other.CacheDir}, {"sock_dir", c.SockDir, other.SockDir},
			{"pki_dir", c.PKIDir, other.PKIDir},
		} {
			if real(f.own) == real(f.other) {
				shared = append(shared, SharedFolder{f.option, path})
			}
		}
	}
	return shared
}

// masters are the configuration files of the masters that run. Each has many processes.
func (h host) masters() (paths []string) {
	for _, words := range h.processes() {
		if !slices.ContainsFunc(words, func(word string) bool { return filepath.Base(word) == "salt-master" }) {
			continue
		}
		dir := "/etc/salt"
		for i, word := range words {
			if value, ok := strings.CutPrefix(word, "--config-dir="); ok {
				dir = value
			} else if (word == "-c" || word == "--config-dir") && i+1 < len(words) {
				dir = words[i+1]
			}
		}
		if path := filepath.Join(dir, "master"); !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	return paths
}

// real is a path without symbolic links, or the path as it is.
func real(path string) string {
	resolved, _ := filepath.EvalSymlinks(path)
	return cmp.Or(resolved, filepath.Clean(path))
}
