package salt

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"

	"phoenix/bridge/files"
	"phoenix/bridge/fleet"
)

// Config is what a master's own configuration says, as far as Phoenix needs it.
type Config struct {
	Path    string
	ID      string // empty: not set; Salt then makes one of the host's name
	User    string
	RootDir string

	PKIDir   string
	CacheDir string
	SockDir  string
	PIDFile  string

	Interface        string
	RetPort          int
	PublishPort      int
	IPCMode          string // "ipc" or "tcp"
	TCPMasterPubPort int
	Transport        string
	TLS              bool // ssl, of transport tcp

	KeysCacheDriver string
	ClusterID       string

	// What lets minions in past Phoenix.
	AutoAccept        bool
	OpenMode          bool
	AutosignFile      string
	AutosignGrainsDir string
	AutorejectFile    string
	PermissivePKI     bool // those files count although a group may write them

	// What Salt's reactor and its runners are made of.
	Reactions        []Reaction
	ExtensionModules string
	RunnerDirs       []string

	// The cache of the minions' grains.
	MinionDataCache bool
	CacheDriver     string

	// Phoenix is the section "phoenix", which Salt itself does not know.
	Phoenix map[string]any

	// DropIns is the folder of master.d; empty if default_include names no one folder.
	DropIns string
	// Options are all that is set, by Salt's names, for what only doctor asks for.
	Options map[string]any

	// Skipped are included files that Salt leaves out because of a fault.
	Skipped []error
}

// ReadConfig reads a master's configuration file as that master reads it:
// defaults, master.d/*.conf, include, root_dir (salt.config.master_config, alike
// in 3006.28, 3007.15 and 3008.3 for what is read here). Salt goes on without any
// file; here that is an error, since a bridge beside no master has a wrong path. What Salt takes from the environment
// is not looked at.
func ReadConfig(path string) (Config, error) {
	opts, skipped, err := readOptions(path, "master")
	if err != nil {
		return Config{}, err
	}
	c, err := apply(opts)
	if err != nil {
		return Config{}, fmt.Errorf("read master configuration %s: %w", path, err)
	}
	c.Path, c.Options = path, opts
	if pattern, ok := opts["default_include"].(string); ok || opts["default_include"] == nil {
		c.DropIns, _ = dropIns(path, cmp.Or(pattern, "master.d/*.conf"))
	}
	var fault error
	if c.Reactions, fault = readReactor(opts["reactor"]); fault != nil {
		skipped = append(skipped, fault)
	}
	c.Skipped = skipped
	return c, nil
}

// Configured reports whether there is a configuration file, or a drop-in, with which
// Salt does without: packages and people put all of it there. Role is "master" or
// "minion".
func Configured(path, role string) bool {
	_, err := os.Stat(path)
	return err == nil || len(glob(filepath.Join(filepath.Dir(path), role+".d/*.conf"))) > 0
}

// apply is salt.config.apply_master_config: defaults under the options, then
// the paths.
func apply(opts map[string]any) (Config, error) {
	o := options{opts: opts}
	c := Config{
		ID:                o.text("id", ""),
		User:              o.text("user", ""),
		RootDir:           o.text("root_dir", "/"),
		PKIDir:            o.text("pki_dir", "/etc/salt/pki/master"),
		CacheDir:          o.text("cachedir", "/var/cache/salt/master"),
		SockDir:           o.text("sock_dir", "/var/run/salt/master"),
		Interface:         o.text("interface", "0.0.0.0"),
		RetPort:           o.port("ret_port", 4506),
		PublishPort:       o.port("publish_port", 4505),
		IPCMode:           o.text("ipc_mode", "ipc"),
		TCPMasterPubPort:  o.port("tcp_master_pub_port", 4512),
		Transport:         o.text("transport", ZeroMQ),
		TLS:               opts["ssl"] != nil && opts["ssl"] != false,
		KeysCacheDriver:   o.text("keys.cache_driver", fileKeys),
		ClusterID:         o.text("cluster_id", ""),
		AutoAccept:        opts["auto_accept"] == true,
		OpenMode:          opts["open_mode"] == true,
		AutosignFile:      o.text("autosign_file", ""),
		AutosignGrainsDir: o.text("autosign_grains_dir", ""),
		AutorejectFile:    o.text("autoreject_file", ""),
		PermissivePKI:     truth(opts["permissive_pki_access"]),
		PIDFile:           o.text("pidfile", "/var/run/salt-master.pid"),
		RunnerDirs:        texts(opts["runner_dirs"]),
		CacheDriver:       o.text("cache", "localfs"),
		ExtensionModules:  o.text("extension_modules", "/var/cache/salt/master/extmods"),
	}
	c.MinionDataCache = true
	if v, ok := opts["minion_data_cache"]; ok {
		c.MinionDataCache = truth(v)
	}
	c.Phoenix, _ = opts["phoenix"].(map[string]any)
	if c.User == "" {
		u, err := user.Current()
		if err != nil {
			return c, fmt.Errorf("user is not set, and the current one has no name: %w", err)
		}
		c.User = u.Username
	}
	// The kernel takes no socket path over some 107 bytes; Salt then moves the
	// sockets, but looks only at how the two paths compare.
	if utf8.RuneCountInString(c.SockDir) > utf8.RuneCountInString(c.CacheDir)+10 {
		c.SockDir = filepath.Join(c.CacheDir, ".salt-unix")
	}
	root, err := filepath.Abs(c.RootDir)
	if err != nil {
		return c, err
	}
	for _, path := range []*string{&c.PKIDir, &c.CacheDir, &c.SockDir, &c.PIDFile, &c.ExtensionModules,
		&c.AutosignFile, &c.AutosignGrainsDir, &c.AutorejectFile} {
		if *path != "" {
			*path = underRoot(root, *path)
		}
	}
	for name, path := range map[string]*string{"autosign_file": &c.AutosignFile,
		"autosign_grains_dir": &c.AutosignGrainsDir,
		"autoreject_file":     &c.AutorejectFile} {
		if _, set := opts[name]; set && *path == "" {
			*path = root // which an empty text is below
		}
	}
	return c, errors.Join(o.faults...)
}

// Salt's transports that Phoenix speaks.
const (
	ZeroMQ = "zeromq"
	TCP    = "tcp"
)

// Validate says what keeps Phoenix from working beside a master so configured.
func (c Config) Validate() error {
	var faults []error
	switch {
	case c.Transport != ZeroMQ && c.Transport != TCP:
		faults = append(faults, fmt.Errorf("transport is %s: Phoenix drives a master over zeromq or tcp", c.Transport))
	case c.Transport == TCP && c.TLS:
		faults = append(faults, errors.New("transport is tcp with ssl: Phoenix drives a master over tcp without TLS"))
	}
	if c.ClusterID != "" {
		faults = append(faults, fmt.Errorf("cluster_id is %s: Phoenix does not work beside Salt's own cluster mode",
			c.ClusterID))
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("use master configuration %s: %w", c.Path, err)
	}
	return nil
}

// EventSocket is where the master's event bus listens, as for net.Dial.
func (c Config) EventSocket() (network, address string) {
	if c.IPCMode == "tcp" {
		return "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(c.TCPMasterPubPort))
	}
	return "unix", filepath.Join(c.SockDir, "master_event_pub.ipc")
}

// RetEndpoint is the request channel, as ZeroMQ names it.
func (c Config) RetEndpoint() string {
	host := strings.TrimSuffix(strings.TrimPrefix(c.Interface, "["), "]") // as ZeroMQ wants IPv6
	switch host {
	case "", "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	return "tcp://" + net.JoinHostPort(host, strconv.Itoa(c.RetPort))
}

// PublishAddress is where the master publishes jobs, as for net.Dial.
func (c Config) PublishAddress() string {
	host, _, _ := net.SplitHostPort(strings.TrimPrefix(c.RetEndpoint(), "tcp://"))
	return net.JoinHostPort(host, strconv.Itoa(c.PublishPort))
}

// RootKeyPath is the file with the key that Salt's own command line shows to the
// master.
func (c Config) RootKeyPath() string {
	return filepath.Join(c.CacheDir, "."+c.User+"_key")
}

// MasterKeyDigest is fleet.KeyDigest of the master's public key.
//
// 3006 and 3007 keep it in master.pub. 3008 keeps it under the master's id and
// leaves master.pub as a symlink to it, except where an operator laid down the
// file with the id himself: so that one goes first.
func MasterKeyDigest(c Config) (string, error) {
	names := []string{"master.pub"}
	if id := strings.TrimSuffix(c.ID, "_master"); id != "" && !strings.Contains(id, "/") {
		names = []string{id + ".pub", "master.pub"}
	}
	var missing error
	for _, name := range names {
		text, err := files.Read(filepath.Join(c.PKIDir, name), maxSmall)
		if errors.Is(err, fs.ErrNotExist) {
			missing = err
			continue
		}
		if err != nil {
			return "", fmt.Errorf("read master's key: %w", err)
		}
		digest, err := fleet.KeyDigest(text)
		if err != nil { // a master that makes its key writes it in place
			return "", fmt.Errorf("read master's key %s: %w: %w", name, ErrUnsettled, err)
		}
		return digest, nil
	}
	return "", fmt.Errorf("read master's key: %w (the master makes it at its first start)", missing)
}
