package member_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"phoenix/bridge/event"
	"phoenix/bridge/member"
	"phoenix/bridge/salt"
	"phoenix/lab"
)

// within bounds what a real master is waited for.
const within = time.Minute

// TestRealMasters: the bridge is let in as a member that nobody sees, hears what the
// master publishes, also after the keys rotated and after the master restarted, and
// hands in returns that the master takes for those of a minion that is elsewhere. On
// one version of Salt, unless PHOENIX_RELAY_SALTS names others.
func TestRealMasters(t *testing.T) {
	versions := strings.Fields(os.Getenv("PHOENIX_RELAY_SALTS"))
	if len(versions) == 0 {
		versions = []string{lab.Salt3007}
	}
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			newReal(t, version).all()
		})
	}
}

type real struct {
	t      *testing.T
	lab    *lab.Lab
	master *lab.Master
	us     *member.Member
	heard  chan map[string][]byte
}

func newReal(t *testing.T, version string) *real {
	l := lab.New(t)
	m := l.StartMaster(lab.MasterOptions{Version: version, Extra: map[string]any{"loop_interval": 1}})
	m.Ready()
	m.RequestAuth("elsewhere", lab.UnknownKey())
	m.RequestAuth("gone", lab.UnknownKey())
	m.Run("salt-key", "--accept-all", "--yes")
	config, err := salt.ReadConfig(m.ConfigPath())
	if err != nil {
		t.Fatal(err)
	}
	us, err := member.New(member.Config{RetEndpoint: m.RetEndpoint(),
		Publish:   net.JoinHostPort(m.Addr, strconv.Itoa(l.PublishPort)),
		KeyFolder: filepath.Join(m.PKIDir(), "minions"), Sessions: filepath.Join(config.CacheDir, "sessions"),
		MasterKey: func() (string, error) { return salt.MasterKeyDigest(config) }})
	if err != nil {
		t.Fatal(err)
	}
	r := &real{t: t, lab: l, master: m, us: us, heard: make(chan map[string][]byte, 1000)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_ = us.Listen(ctx, r)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	return r
}

func (r *real) Connected()                              {}
func (r *real) Job(load map[string][]byte, _ time.Time) { r.heard <- load }
func (r *real) Skipped(err error)                       { r.t.Error("missed a job: ", err) }

// hears has the master publish jobs until one of them is heard: some may be published
// before the connection stands.
func (r *real) hears() (load map[string][]byte) {
	r.t.Helper()
	r.lab.Eventually(within, "a job is heard", func() (bool, string) {
		out := r.master.Run("salt", "--async", "*", "test.arg", "one", "x=[1, 2]", "--metadata", `{"who": "me"}`)
		after := time.After(2 * time.Second)
		for {
			select {
			case load = <-r.heard:
				if strings.Contains(out, string(event.Bytes(load["jid"]))) {
					return true, ""
				}
			case <-after:
				return false, out
			}
		}
	})
	return load
}

func (r *real) all() {
	t, m := r.t, r.master
	load := r.hears()
	for name, want := range map[string]string{"fun": "test.arg", "tgt": "*", "tgt_type": "glob", "ret": "",
		"user": "root",
		"arg":  "[one map[__kwarg__:true x:[1 2]]]", "metadata": "map[who:me]"} {
		if got, err := event.Any(load[name]); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s is %v, not %s (%v)", name, got, want, err)
		}
	}
	jid := string(event.Bytes(load["jid"]))
	for _, list := range []string{m.Run("salt-key", "--out=json", "--list=all"),
		m.Run("salt-run", "--out=json", "jobs.print_job", jid)} {
		if strings.Contains(list, "phoenix") {
			t.Errorf("the member is shown: %s", list)
		}
	}
	value := map[string]msgpack.RawMessage{"return": {0xc3}, "retcode": {0}, "success": {0xc3}, "fun": raw("test.arg")}
	if err := r.us.Return(t.Context(),
		[]member.Returns{{JID: jid, Values: map[string]map[string]msgpack.RawMessage{"elsewhere": value}}}); err != nil {
		t.Fatal(err)
	}
	r.lab.Eventually(within, "the return is in the job cache", func() (bool, string) {
		out, err := m.TryRun("salt-run", "--out=json", "jobs.lookup_jid", jid)
		return strings.Contains(out, "elsewhere"), fmt.Sprint(out, err)
	})
	// One that raises an exception within the master, which ends its work on the others.
	poison := map[string]msgpack.RawMessage{"return": {0xc3}, "retcode": {1}, "fun": {0x91, 0xa1, 'x'}}
	err := r.us.Return(t.Context(),
		[]member.Returns{{JID: jid, Values: map[string]map[string]msgpack.RawMessage{"elsewhere": poison}}})
	if !errors.Is(err, member.ErrNotAll) {
		t.Errorf("a return that the master chokes on: %v", err)
	}
	m.Run("salt-key", "--delete=gone", "--yes") // rotates the keys, within loop_interval
	r.lab.Eventually(within, "the keys rotated", func() (bool, string) {
		// salt.crypt.dropfile asks for it
		_, err := os.Stat(filepath.Join(m.Dir, "var", "cache", "salt", "master", ".dfn"))
		return os.IsNotExist(err), fmt.Sprint(err)
	})
	r.works()
	if err := r.us.ProveMaster(t.Context()); err != nil {
		t.Error(err)
	}
	m.Restart()
	m.Ready()
	r.works()
	if err := r.us.Leave(); err != nil {
		t.Fatal(err)
	}
	if err := r.us.Fire(t.Context(), "phoenix/relay/test", map[string]any{"x": 1}); err == nil {
		t.Error("the master listens to a member that has left: its key is still there")
	}
}

func (r *real) works() {
	r.t.Helper()
	r.hears()
	if err := r.us.Fire(r.t.Context(), "phoenix/relay/test", map[string]any{"x": 1}); err != nil {
		r.t.Fatal(err)
	}
}

func raw(text string) msgpack.RawMessage {
	b, err := msgpack.Marshal(text)
	if err != nil {
		panic(err)
	}
	return b
}
