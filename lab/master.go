package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	// readyTimeout bounds the start of a master or minion: 4 s alone, many times
	// that when several start on two busy cores.
	readyTimeout = 5 * time.Minute
	// cliWait is how long "salt" waits for its minions (-t), in seconds: enough
	// for one that is connected, short for one that is not.
	cliWait = "10"
	// workers is how many processes of a master answer requests. Each loads Salt's
	// modules for itself: a master starts with 2.8 s of CPU with one, with 5.1 s with
	// three. Where requests at the same time matter, a test has more.
	workers = 1
)

// MasterOptions say how a master differs from the lab's plain one.
type MasterOptions struct {
	Version string         // of Salt
	Addr    string         // default: a new one of the lab
	Extra   map[string]any // over the lab's configuration
	KeyFrom *Master        // share that master's key; it must be ready
	Workers int            // worker_threads; default: 1
	Host    *Host          // where it runs, and its bridge; default: here
}

// Master is a salt-master.
type Master struct {
	*Process
	ID   string
	Addr string
	Salt Salt
	host *Host
}

// StartMaster starts a master and returns at once; see [Master.Ready].
func (l *Lab) StartMaster(o MasterOptions) *Master {
	l.tb.Helper()
	salt, err := FindSalt(o.Version)
	if err != nil {
		l.tb.Fatalf("%v", err)
	}
	if o.Host != nil {
		o.Addr = o.Host.Addr
	} else if o.Addr == "" {
		o.Addr = l.Addr()
	}
	if o.Workers == 0 {
		o.Workers = workers
	}
	m := &Master{Process: l.process("master"), Addr: o.Addr, Salt: salt, host: o.Host}
	m.ID = m.Name
	base := map[string]any{
		"id":                m.ID,
		"user":              currentUser(),
		"root_dir":          m.Dir,
		"interface":         o.Addr,
		"publish_port":      l.PublishPort,
		"ret_port":          l.RetPort,
		"file_roots":        map[string]any{"base": []string{filepath.Join(m.Dir, "states")}},
		"worker_threads":    o.Workers,
		"log_level_logfile": "quiet", // stderr has it
		// Looked up at each start, and slow where there is no name service.
		"enable_fqdns_grains": false,
		"enable_gpu_grains":   false,
	}
	err = errors.Join(
		writeStates(filepath.Join(m.Dir, "states")),
		writeConfig(m.ConfigPath(), base, o.Extra),
		m.takeKey(o.KeyFrom),
	)
	if err != nil {
		l.tb.Fatalf("prepare %s: %v", m.Name, err)
	}
	m.stubborn = true
	m.prepare(saltEnv(), o.Host.inside(salt.daemon("salt-master", m.configDir())...)...)
	m.Start()
	return m
}

// ConfigPath is the master's own configuration file.
func (m *Master) ConfigPath() string { return filepath.Join(m.configDir(), "master") }

func (m *Master) configDir() string { return filepath.Join(m.Dir, "etc", "salt") }

// PKIDir is where the master keeps its own key and its minions'.
func (m *Master) PKIDir() string { return filepath.Join(m.configDir(), "pki", "master") }

// EventSocket is the master's event bus.
func (m *Master) EventSocket() string {
	return filepath.Join(m.Dir, "var", "run", "salt", "master", "master_event_pub.ipc")
}

// RetEndpoint is the request channel, as ZeroMQ names it.
func (m *Master) RetEndpoint() string {
	return "tcp://" + net.JoinHostPort(m.Addr, strconv.Itoa(m.lab.RetPort))
}

// Ready waits until the master serves requests and its event bus is there.
func (m *Master) Ready() {
	m.lab.tb.Helper()
	timeout := pingTimeout
	m.lab.Eventually(readyTimeout, m.Name+" is ready", func() (bool, string) {
		if !m.Alive() {
			m.lab.tb.Fatalf("%s ended at its start\n%s", m.Name, m.Tail())
		}
		if _, err := os.Stat(m.EventSocket()); err != nil {
			return false, err.Error()
		}
		if _, err := m.request(timeout, map[string]any{"cmd": "ping"}); err != nil {
			timeout = min(timeout*3/2, authTimeout) // it may answer, and late
			return false, err.Error()
		}
		return true, ""
	})
}

// Run runs a Salt command ("salt-key", "salt-run", …) against this master, and
// returns what it printed.
func (m *Master) Run(command string, args ...string) string {
	m.lab.tb.Helper()
	out, err := m.Salt.run(m.configDir(), command, args...)
	if err != nil {
		m.lab.tb.Fatalf("%v", err)
	}
	return out
}

// noTarget stands before the JSON if the key is not accepted (yet).
const noTarget = "No minions matched the target"

// TryRun is Run for what may fail: salt-run jobs.lookup_jid fails in the moment in
// which a return is written (seen on 3008.3).
func (m *Master) TryRun(command string, args ...string) (string, error) {
	return m.Salt.run(m.configDir(), command, args...)
}

// Call runs a function on one minion by the salt command. answered is false if
// the minion did not answer.
func (m *Master) Call(id, function string, args ...string) (answer any, answered bool) {
	m.lab.tb.Helper()
	args = append([]string{"--out=json", "--static", "-t", cliWait, "-L", id, function}, args...)
	// It exits 1 if the function failed or nobody answered, and prints JSON all
	// the same; its error counts only where there is none.
	out, err := m.Salt.run(m.configDir(), "salt", args...)
	if strings.HasPrefix(out, noTarget) {
		return nil, false
	}
	answers := map[string]any{}
	if decodeErr := decodeJSON(out, &answers); decodeErr != nil {
		m.lab.tb.Fatalf("%v", errors.Join(err, decodeErr))
	}
	answer, answered = answers[id]
	if text, ok := answer.(string); ok && noAnswer(text) {
		return nil, false
	}
	return answer, answered
}

// takeKey copies another master's key pair. Salt 3008 renames master.pem to
// <id>.pem at its first start, and takes over a master.pem that it finds.
func (m *Master) takeKey(from *Master) error {
	if from == nil {
		return nil
	}
	if err := os.MkdirAll(m.PKIDir(), 0o700); err != nil {
		return err
	}
	for suffix, mode := range map[string]os.FileMode{".pem": 0o400, ".pub": 0o644} {
		text, err := os.ReadFile(filepath.Join(from.PKIDir(), from.ID+suffix))
		if errors.Is(err, os.ErrNotExist) {
			text, err = os.ReadFile(filepath.Join(from.PKIDir(), "master"+suffix))
		}
		if err != nil {
			return fmt.Errorf("take key of %s: %w", from.Name, err)
		}
		if err := os.WriteFile(filepath.Join(m.PKIDir(), "master"+suffix), text, mode); err != nil {
			return err
		}
	}
	return nil
}

// currentUser is the user that Salt's daemons shall stay.
func currentUser() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return strconv.Itoa(os.Getuid())
}
