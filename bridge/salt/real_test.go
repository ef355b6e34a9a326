package salt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"phoenix/bridge/zmtp"
)

// masterStart: on two busy cores a master needs some seconds to import itself.
const masterStart = 60 * time.Second

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

// hosts keeps the masters of this process apart: 127.0.0.0/8 is one machine.
var hosts struct {
	sync.Mutex
	n int
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
	hosts.Lock()
	hosts.n++
	host := fmt.Sprintf("127.21.%d.%d", os.Getpid()%250+1, hosts.n)
	hosts.Unlock()
	text := fmt.Sprintf("interface: %s\npublish_port: %d\nret_port: %d\nroot_dir: %s\nworker_threads: 3\nid: m-%s\n"+
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

// sameKey: 3008 takes off the line end that a key comes with.
func sameKey(a, b []byte) bool { return bytes.Equal(bytes.TrimSpace(a), bytes.TrimSpace(b)) }

// The master's side of everything that this package does.
func TestRealMaster(t *testing.T) {
	pub, other := newKey(t), newKey(t)
	for _, version := range salts {
		t.Run(version, func(t *testing.T) {
			m := startMaster(t, version)
			master := m.master()
			ids := []string{"i-1", "i-2", "i-3", "i-4"}
			for _, id := range ids {
				m.knock(id, pub)
			}
			if l := m.listing(); !slices.Equal(l.Pending, ids) {
				t.Fatalf("after the knocks: %+v", l)
			}
			if got, err := m.keys().Read("i-1", Pending); err != nil || !sameKey(got, pub) {
				t.Errorf("pending key %q, %v", got, err)
			}

			t.Run("accept passes over what vanished", func(t *testing.T) {
				if err := m.keys().UnlinkPending("i-2"); err != nil {
					t.Fatal(err)
				}
				if err := master.Accept(t.Context(), []string{"i-1", "i-2", "absent", "i-3"}); err != nil {
					t.Fatal(err)
				}
				if l := m.listing(); !slices.Equal(l.Accepted, []string{"i-1", "i-3"}) || !slices.Equal(l.Pending, []string{"i-4"}) {
					t.Fatalf("%+v", l)
				}
				if got, err := m.keys().Read("i-3", Accepted); err != nil || !sameKey(got, pub) {
					t.Errorf("accepted key %q, %v", got, err)
				}
				for _, ids := range [][]string{{"absent"}, {"i-1"}, nil} {
					if err := master.Accept(t.Context(), ids); err != nil {
						t.Errorf("%v: %v", ids, err)
					}
				}
			})

			t.Run("a written key is served, another denied", func(t *testing.T) {
				if n, err := m.keys().WriteAccepted(map[string][]byte{"i-5": pub}); n != 1 || err != nil {
					t.Fatal(n, err)
				}
				m.knock("i-5", pub)
				if l := m.listing(); !slices.Equal(l.Accepted, []string{"i-1", "i-3", "i-5"}) || len(l.Denied) != 0 {
					t.Fatalf("%+v", l)
				}
				m.knock("i-5", other)
				if l := m.listing(); !slices.Equal(l.Accepted, []string{"i-1", "i-3", "i-5"}) || !slices.Equal(l.Denied, []string{"i-5"}) {
					t.Fatalf("%+v", l)
				}
				if got, err := m.keys().Read("i-5", Accepted); err != nil || !bytes.Equal(got, pub) {
					t.Errorf("accepted key %q, %v", got, err)
				}
			})

			t.Run("publish", func(t *testing.T) {
				jid := NewJID(time.Now(), "")
				got, err := master.Publish(t.Context(), Job{JID: jid, Calls: []Call{{Fun: "test.echo", Args: []any{"x"}}}, Targets: []string{"absent"}})
				if err != nil || len(got) != 0 {
					t.Errorf("to an absent minion: %v, %v", got, err)
				}
				for range 2 { // again, under the same jid
					got, err = master.Ping(t.Context(), jid, []string{"i-1", "absent", "i-3"})
					slices.Sort(got)
					if err != nil || !slices.Equal(got, []string{"i-1", "i-3"}) {
						t.Errorf("ping: %v, %v", got, err)
					}
				}
			})

			t.Run("delete by state", func(t *testing.T) {
				err := master.Delete(t.Context(), map[State][]string{
					Accepted: {"i-1", "i-3", "absent"}, Pending: {"i-4"}, Denied: {"i-5"}})
				if err != nil {
					t.Fatal(err)
				}
				if l := m.listing(); !slices.Equal(l.Accepted, []string{"i-5"}) || len(l.Pending)+len(l.Denied)+len(l.Rejected) != 0 {
					t.Fatalf("%+v", l)
				}
			})

			t.Run("master key", func(t *testing.T) {
				digest, err := MasterKeyDigest(m.Config)
				if err != nil || len(digest) != 64 {
					t.Fatal(digest, err)
				}
				c := m.Config
				c.ID = "" // by master.pub alone
				if again, err := MasterKeyDigest(c); err != nil || again != digest {
					t.Errorf("%s, %v; want %s", again, err, digest)
				}
			})

			t.Run("wrong root key", func(t *testing.T) {
				c := m.Config
				c.CacheDir = t.TempDir()
				put(t, []byte("wrong"), c.RootKeyPath())
				wrong, err := NewMaster(c)
				if err != nil {
					t.Fatal(err)
				}
				if err := wrong.Accept(t.Context(), []string{"i-1"}); !errors.Is(err, ErrAuth) {
					t.Errorf("accept: %v", err)
				}
				if _, err := wrong.Ping(t.Context(), NewJID(time.Now(), ""), []string{"i-5"}); !errors.Is(err, ErrAuth) {
					t.Errorf("publish: %v", err)
				}
			})

			t.Run("restart", func(t *testing.T) {
				before, err := os.ReadFile(m.Config.RootKeyPath())
				if err != nil {
					t.Fatal(err)
				}
				m.stop()
				if err := master.Accept(t.Context(), []string{"i-1"}); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "salt-master") {
					t.Errorf("without a master: %v", err)
				}
				m.start()
				after, err := os.ReadFile(m.Config.RootKeyPath())
				if err != nil || bytes.Equal(before, after) == strings.HasPrefix(version, "3006") {
					t.Errorf("only 3006 makes a new root key at each start (%v)", err)
				}
				m.knock("i-6", pub)
				if err := master.Accept(t.Context(), []string{"i-6"}); err != nil {
					t.Error(err)
				}
				if l := m.listing(); !slices.Equal(l.Accepted, []string{"i-5", "i-6"}) {
					t.Errorf("%+v", l)
				}
			})
		})
	}
}
