package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
)

// MinionOptions say how a minion differs from the lab's plain one.
type MinionOptions struct {
	ID       string
	Masters  []*Master // with more than one: all at once, or Failover
	Failover bool
	Version  string         // default: that of its first master
	KeyFrom  *Minion        // authenticate with that minion's key
	Extra    map[string]any // over the lab's configuration
	State    State          // how its highstate behaves
}

// Minion is a salt-minion.
type Minion struct {
	*Process
	ID   string
	Salt Salt
}

// StartMinion starts a minion and returns at once. It asks for
// its key to be accepted every second.
func (l *Lab) StartMinion(o MinionOptions) *Minion {
	l.tb.Helper()
	m := l.NewMinion(o)
	m.Start()
	return m
}

// NewMinion writes a minion's configuration. It starts later: by Start, or by its
// agent, as on a new machine.
func (l *Lab) NewMinion(o MinionOptions) *Minion {
	l.tb.Helper()
	if len(o.Masters) == 0 {
		l.tb.Fatalf("start minion %s: it needs a master", o.ID)
	}
	if o.Version == "" {
		o.Version = o.Masters[0].Salt.Version
	}
	salt, err := FindSalt(o.Version)
	if err != nil {
		l.tb.Fatalf("%v", err)
	}
	m := &Minion{Process: l.process("minion"), ID: o.ID, Salt: salt}
	base := l.minionConfig(o)
	base["root_dir"] = m.Dir
	err = errors.Join(
		writeConfig(m.ConfigPath(), base, o.Extra),
		m.takeKey(o.KeyFrom),
		m.behave(o.State),
	)
	if err != nil {
		l.tb.Fatalf("prepare minion %s: %v", o.ID, err)
	}
	m.stubborn = true
	m.prepare(saltEnv(), salt.daemon("salt-minion", m.configDir())...)
	return m
}

func (l *Lab) minionConfig(o MinionOptions) map[string]any {
	var masters []string
	for _, master := range o.Masters {
		masters = append(masters, net.JoinHostPort(master.Addr, strconv.Itoa(l.RetPort)))
	}
	// A list, even of one, makes a multi-master minion, which starts otherwise.
	var master any = masters
	if len(masters) == 1 && !o.Failover {
		master = masters[0]
	}
	config := map[string]any{
		"id":                o.ID,
		"user":              currentUser(),
		"master":            master,
		"master_port":       l.RetPort,
		"publish_port":      l.PublishPort,
		"log_level_logfile": "quiet", // stderr has it
		// As Phoenix ships it: the cached job is the record of a highstate
		// whose return was lost.
		"cache_jobs": true,
		// Quicker than Salt's defaults, alike in kind.
		"acceptance_wait_time": 1,
		"random_reauth_delay":  1,
		"recon_max":            1000,
		"recon_randomize":      false,
		"loop_interval":        1,
		// Looked up at each start, and slow where there is no name service.
		"enable_fqdns_grains": false,
		"enable_gpu_grains":   false,
		"mine_enabled":        false,
	}
	if o.Failover {
		config["master_type"] = "failover"
		config["master_alive_interval"] = 5
		config["retry_dns"] = 0
	}
	return config
}

// ConfigPath is the minion's own configuration file.
func (m *Minion) ConfigPath() string { return filepath.Join(m.configDir(), "minion") }

func (m *Minion) configDir() string { return filepath.Join(m.Dir, "etc", "salt") }

// PKIDir is where the minion keeps its key, and its masters' public one.
func (m *Minion) PKIDir() string { return filepath.Join(m.configDir(), "pki", "minion") }

// PublicKey waits for the minion's public key, PEM as the minion sends it.
func (m *Minion) PublicKey() string {
	m.lab.tb.Helper()
	var text []byte
	m.lab.Eventually(readyTimeout, "minion "+m.ID+" has a key", func() (bool, string) {
		var err error
		text, err = os.ReadFile(filepath.Join(m.PKIDir(), "minion.pub"))
		return err == nil && len(text) > 0, fmt.Sprint(err)
	})
	return string(text)
}

// Answers waits until the minion answers a ping of that master, which is asked
// without the salt command: that costs 2 s of CPU each time, and much more where
// many tests wait at once.
func (m *Minion) Answers(master *Master) {
	m.lab.tb.Helper()
	listener, stop := master.listen(true)
	defer stop()
	listener.Wait(m.ID)
	m.lab.Eventually(readyTimeout, "minion "+m.ID+" answers "+master.Name, func() (bool, string) {
		return len(listener.Heard()) > 0,
			fmt.Sprintf("no answer (last ping: %v); accepted %v, pending %v", listener.Err(), master.Accepted(),
				master.Pending())
	})
}

// takeKey copies another minion's key pair.
func (m *Minion) takeKey(from *Minion) error {
	if from == nil {
		return nil
	}
	if err := os.MkdirAll(m.PKIDir(), 0o700); err != nil {
		return err
	}
	for _, name := range []string{"minion.pem", "minion.pub"} {
		text, err := os.ReadFile(filepath.Join(from.PKIDir(), name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(m.PKIDir(), name), text, 0o400); err != nil {
			return err
		}
	}
	return nil
}
