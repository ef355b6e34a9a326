package salt

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"phoenix/bridge/files"
)

// MinionConfig is what a minion's own configuration says, as far as Phoenix
// needs it.
type MinionConfig struct {
	Path string
	ID   string // as configured or cached; empty: Salt makes one of the host's name

	PKIDir   string
	CacheDir string
	PIDFile  string
	DropIns  string // the folder of minion.d, where Salt keeps _schedule.conf too

	MasterPort int
	// PublishPort is as configured, or 4505: a minion that is told of none has no
	// default, and takes the one that its master reports (salt/channel/client.py).
	PublishPort int
	Masters     []string
	MasterType  string

	// Options are all that is set, by Salt's names, for what only people are told of.
	Options map[string]any

	// Skipped are included files that Salt leaves out because of a fault.
	Skipped []error
}

// ReadMinionConfig reads a minion's configuration file as that minion reads it
// (salt.config.minion_config, alike in 3006.28, 3007.15 and 3008.3 for what is
// read here). It leaves out append_minionid_config_dirs, and the environment.
func ReadMinionConfig(path string) (MinionConfig, error) {
	opts, skipped, err := readOptions(path, "minion")
	if err != nil {
		return MinionConfig{}, err
	}
	c, err := applyMinion(path, opts)
	if err != nil {
		return MinionConfig{}, fmt.Errorf("read minion configuration %s: %w", path, err)
	}
	c.Skipped = skipped
	return c, nil
}

func applyMinion(path string, opts map[string]any) (MinionConfig, error) {
	o := options{opts: opts}
	c := MinionConfig{
		Path:        path,
		ID:          o.text("id", ""),
		PKIDir:      o.text("pki_dir", "/etc/salt/pki/minion"),
		CacheDir:    o.text("cachedir", "/var/cache/salt/minion"),
		PIDFile:     o.text("pidfile", "/var/run/salt-minion.pid"),
		MasterPort:  o.port("master_port", 4506),
		PublishPort: o.port("publish_port", 4505),
		Masters:     texts(opts["master"]),
		MasterType:  o.text("master_type", "str"),
		Options:     opts,
	}
	root, err := filepath.Abs(o.text("root_dir", "/"))
	if err != nil {
		return c, err
	}
	for _, path := range []*string{&c.PKIDir, &c.CacheDir, &c.PIDFile} {
		*path = underRoot(root, *path)
	}
	if c.ID == "" {
		c.ID = cachedID(root)
	}
	c.DropIns, err = dropIns(path, o.text("default_include", "minion.d/*.conf"))
	return c, errors.Join(append(o.faults, err)...)
}

// cachedID is the id that Salt made of the host's name and wrote down. The
// folder is Salt's own, whatever file the configuration is read from
// (salt.config.get_id).
func cachedID(root string) string {
	text, err := files.Read(filepath.Join(root, "etc/salt/minion_id"), maxSmall)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(text), "\n")
	id := strings.TrimPrefix(strings.TrimSpace(line), "\ufeff")
	if id == "localhost" { // which Salt takes for no id
		return ""
	}
	return id
}

// dropIns is the folder that default_include looks into; Salt writes its
// schedule there (salt.utils.schedule, persist).
func dropIns(path, pattern string) (string, error) {
	folder := filepath.Dir(cmp.Or(pattern, "minion.d/*.conf"))
	if strings.ContainsAny(folder, "*?[") {
		return "", fmt.Errorf("default_include %s names no one folder", pattern)
	}
	if filepath.IsAbs(folder) {
		return folder, nil
	}
	return filepath.Join(filepath.Dir(path), folder), nil
}

// SplitMaster splits an entry of the option master into host and port, as
// salt.utils.network.parse_host_port does; otherwise is the port of one that has none.
func SplitMaster(entry string, otherwise int) (host string, port int) {
	if _, err := netip.ParseAddr(entry); err == nil || !strings.Contains(entry, ":") {
		return entry, otherwise
	}
	host, text, err := net.SplitHostPort(entry)
	if err != nil {
		return strings.Trim(entry, "[]"), otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n <= 0 || n >= 1<<16 {
		return entry, otherwise
	}
	return host, n
}
