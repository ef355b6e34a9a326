package salt

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"phoenix/bridge/zmtp"
)

// masterStart: on two busy cores a master needs some seconds to import itself.
const masterStart = 3 * time.Minute

// realMaster is a Salt master of its own, in a folder and on an address that
// nobody else has.
type realMaster struct {
	t      *testing.T
	venv   string
	dir    string
	Config Config
	cmd    *exec.Cmd
	log    *os.File
}

func startMaster(t *testing.T, version string) *realMaster {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "phx") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	m := &realMaster{t: t, venv: venv(t, version), dir: dir}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if m.log, err = os.Create(filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	host := fmt.Sprintf("127.21.%d.%d", os.Getpid()>>8%250+1, os.Getpid()%250+1)
	text := fmt.Sprintf("interface: %s\npublish_port: %d\nret_port: %d\nroot_dir: %s\nworker_threads: 1\nid: m-%s\n"+
		"fileserver_update_interval: 3600\n", host, freePort(t, host), freePort(t, host), dir, version)
	if err := os.MkdirAll(filepath.Join(dir, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, []byte(text), dir, "etc", "master")
	if m.Config, err = ReadConfig(filepath.Join(dir, "etc", "master")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.stop)
	m.start()
	return m
}

func freePort(t *testing.T, host string) int {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// start returns when the master answers.
func (m *realMaster) start() {
	m.t.Helper()
	m.cmd = exec.Command(filepath.Join(m.venv, "bin", "salt-master"), "-c", filepath.Join(m.dir, "etc"))
	m.cmd.Stdout, m.cmd.Stderr = m.log, m.log
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), masterStart)
	defer cancel()
	for {
		if _, err := m.master().wheel(ctx, "key.list", "pre"); err == nil {
			return
		} else if ctx.Err() != nil {
			out, _ := os.ReadFile(m.log.Name())
			m.t.Fatalf("start master: %v\n%s", err, out)
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// stop ends the master and all its workers, and nothing else.
func (m *realMaster) stop() {
	if m.cmd == nil || m.cmd.Process == nil {
		return
	}
	_ = syscall.Kill(-m.cmd.Process.Pid, syscall.SIGKILL)
	_ = m.cmd.Wait()
	m.cmd = nil
}

func (m *realMaster) master() *Master {
	m.t.Helper()
	master, err := NewMaster(m.Config)
	if err != nil {
		m.t.Fatal(err)
	}
	return master
}

func (m *realMaster) keys() *Keys {
	m.t.Helper()
	k, err := OpenKeys(m.Config)
	if err != nil {
		m.t.Fatal(err)
	}
	return k
}

// knock is what a minion without an accepted key sends, and anybody can.
func (m *realMaster) knock(id string, pub []byte) {
	m.t.Helper()
	payload, err := msgpack.Marshal(map[string]any{"enc": "clear", "version": 3, "load": map[string]any{
		"cmd": "_auth", "id": id, "pub": string(pub), "nonce": "0123456789abcdef0123456789abcdef",
		"enc_algo": "OAEP-SHA1", "sig_algo": "PKCS1v15-SHA1",
	}})
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), publishTimeout)
	defer cancel()
	if _, err := zmtp.Request(ctx, m.Config.RetEndpoint(), payload, answerLimit); err != nil {
		m.t.Fatalf("knock as %s: %v", id, err)
	}
}

func (m *realMaster) listing() Listing {
	m.t.Helper()
	l, err := m.keys().List()
	if err != nil {
		m.t.Fatal(err)
	}
	return l
}
