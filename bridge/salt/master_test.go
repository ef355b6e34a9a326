package salt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"phoenix/bridge/event"
)

// peer stands for the master at the other end of the request channel, where a
// real one does not do the thing in question on demand. It sees each load and
// answers with what is to be packed, or fails as the socket would.
type peer func(load map[string]any) (any, error)

// fake is a Master whose requests go to p, and the path of its root key.
func fake(t *testing.T, p peer) (*Master, string) {
	t.Helper()
	c := Config{CacheDir: t.TempDir(), User: "salt", Transport: "zeromq", RetPort: 4506}
	m, err := NewMaster(c)
	if err != nil {
		t.Fatal(err)
	}
	put(t, []byte("K1"), c.RootKeyPath())
	m.request = func(ctx context.Context, endpoint string, payload []byte, limit int) ([]byte, error) {
		if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > wheelTimeout {
			t.Error("a request that is not bounded")
		}
		v, err := event.Any(payload)
		if err != nil {
			t.Fatal(err)
		}
		sent := v.(map[string]any)
		if sent["enc"] != "clear" || endpoint != "tcp://127.0.0.1:4506" {
			t.Errorf("sent %v to %s", sent, endpoint)
		}
		answer, err := p(sent["load"].(map[string]any))
		if err != nil {
			return nil, err
		}
		if raw, ok := answer.([]byte); ok {
			return raw, nil
		}
		return msgpack.Marshal(answer)
	}
	return m, c.RootKeyPath()
}

type dict = map[string]any

func done(ids any) dict { return dict{"tag": "t", "data": dict{"success": true, "return": ids}} }

func TestRootKeyIsReadAgain(t *testing.T) {
	var path string
	var keys []any
	// A master of 3006 that restarts between the reading of the key and the call.
	m, path := fake(t, func(load map[string]any) (any, error) {
		keys = append(keys, load["key"])
		if load["key"] != "K2" {
			put(t, []byte("K2"), path)
			return dict{"error": dict{"name": "UserAuthenticationError", "message": "…"}}, nil
		}
		return done(dict{"minions": []string{"a"}}), nil
	})
	if err := m.Accept(t.Context(), []string{"a"}); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(keys, []any{"K1", "K2"}) {
		t.Errorf("sent with keys %v", keys)
	}
}

func TestRootKeyThatMayNotBeRead(t *testing.T) {
	m, path := fake(t, func(map[string]any) (any, error) {
		t.Error("sent all the same")
		return nil, nil
	})
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	result := make(chan error)
	go func() {
		if os.Geteuid() == 0 { // to whom modes mean nothing: this thread becomes nobody
			runtime.LockOSThread() // and ends with the goroutine
			if err := syscall.Setfsuid(65534); err != nil {
				t.Error(err)
			}
		}
		result <- m.Accept(t.Context(), []string{"a"})
	}()
	if err := <-result; !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), "run as root") {
		t.Error(err)
	}
}

func TestRootKeyIsNotThereYet(t *testing.T) {
	m, path := fake(t, func(map[string]any) (any, error) { return nil, errors.New("sent all the same") })
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := m.Accept(t.Context(), []string{"a"}); !errors.Is(err, ErrUnreachable) ||
		!strings.Contains(err.Error(), filepath.Base(path)) {
		t.Error(err)
	}
}

// Whatever the master answers, it is told apart from success.
func TestAnswersThatAreNoes(t *testing.T) {
	jid := NewJID(time.Now(), "")
	for name, test := range map[string]struct {
		answer any
		want   error
	}{
		"wrong key":          {dict{"error": dict{"name": "AuthenticationError", "message": "x"}}, ErrAuth},
		"not allowed":        {dict{"error": dict{"name": "AuthorizationError", "message": "x"}}, ErrRefused},
		"error as a text":    {dict{"error": "Failed to allocate a jid."}, ErrRefused},
		"exception":          {"Some exception handling minion payload", ErrRefused},
		"nothing":            {nil, ErrRefused},
		"empty":              {dict{}, ErrRefused},
		"wheel failed":       {dict{"data": dict{"success": false, "return": "Exception …"}}, ErrRefused},
		"a text (3008)":      {dict{"data": dict{"success": true, "return": "Passed invalid arguments"}}, ErrRefused},
		"not msgpack":        {[]byte{0xc1}, event.ErrMalformed},
		"a header of 4 GiB":  {[]byte{0xdd, 0xff, 0xff, 0xff, 0xff}, event.ErrMalformed},
		"a depth of 1000000": {slices.Repeat([]byte{0x91}, 1_000_000), event.ErrMalformed},
	} {
		m, _ := fake(t, func(map[string]any) (any, error) { return test.answer, nil })
		_, publish := m.Ping(t.Context(), jid, []string{"a"})
		for call, err := range map[string]error{
			"publish": publish,
			"accept":  m.Accept(t.Context(), []string{"a"}),
			"delete":  m.Delete(t.Context(), map[State][]string{Accepted: {"a"}}),
		} {
			if !errors.Is(err, test.want) {
				t.Errorf("%s, %s: %v, want %v", name, call, err, test.want)
			}
		}
	}
}

// What does not say that nothing was published must not be taken for it.
func TestAnswersThatTellNothing(t *testing.T) {
	for name, test := range map[string]struct {
		answer any
		doubt  bool
	}{
		"exception":   {"Some exception handling minion payload", true},
		"nothing":     {nil, true},
		"no load":     {dict{"load": nil}, true},
		"not msgpack": {[]byte{0xc1}, true},
		"not allowed": {dict{"error": dict{"name": "AuthorizationError", "message": "x"}}, false},
		"wrong key":   {dict{"error": dict{"name": "AuthenticationError", "message": "x"}}, false},
	} {
		m, _ := fake(t, func(map[string]any) (any, error) { return test.answer, nil })
		if _, err := m.Ping(t.Context(), NewJID(time.Now(), ""), []string{"a"}); err == nil ||
			errors.Is(err, ErrDoubt) != test.doubt {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A job cache that makes jids of its own: the job was published.
func TestAnotherJID(t *testing.T) {
	for jid, want := range map[any]string{"20200101000000000000": "20200101000000000000", "../x": "", 7: ""} {
		m, _ := fake(t, func(map[string]any) (any, error) { return dict{"load": dict{"jid": jid}}, nil })
		_, err := m.Ping(t.Context(), NewJID(time.Now(), ""), []string{"a"})
		other, ok := errors.AsType[*OtherJIDError](err)
		if !ok || other.JID != want || errors.Is(err, ErrRefused) {
			t.Errorf("%v: %v", jid, err)
		}
	}
}

func TestNoAnswer(t *testing.T) {
	m, _ := fake(t, func(map[string]any) (any, error) { return nil, context.DeadlineExceeded })
	if err := m.Accept(t.Context(), []string{"a"}); !errors.Is(err, ErrUnreachable) ||
		!strings.Contains(err.Error(), "is salt-master running?") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	m, _ = fake(t, func(map[string]any) (any, error) {
		cancel()
		return nil, errors.New("closed")
	})
	if err := m.Accept(ctx, []string{"a"}); !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnreachable) {
		t.Errorf("cancelled by the caller: %v", err)
	}
}

func TestAcceptSendsTheRestAgain(t *testing.T) {
	pending := []string{"a", "c", "d", "e"}
	var accepted, calls []string
	// Salt's own way: it goes on until an id has no key, and leaves the rest.
	// "d" vanishes between two calls, too.
	m, _ := fake(t, func(load map[string]any) (any, error) {
		calls = append(calls, load["fun"].(string))
		if load["fun"] == "key.list" {
			left := slices.Clone(pending)
			pending = slices.DeleteFunc(pending, func(id string) bool { return id == "d" })
			return done(dict{"minions_pre": left}), nil
		}
		for _, id := range texts(load["match"].(dict)["minions_pre"]) {
			i := slices.Index(pending, id)
			if i < 0 {
				return dict{"data": dict{"success": false,
					"return": "Traceback …\nFileNotFoundError: minions_pre/" + id}}, nil
			}
			pending = slices.Delete(pending, i, i+1)
			accepted = append(accepted, id)
		}
		return done(dict{}), nil
	})
	if err := m.Accept(t.Context(), []string{"a", "b", "c", "d", "e"}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(accepted, []string{"a", "c", "e"}) || len(calls) != 5 {
		t.Errorf("accepted %v in %v", accepted, calls)
	}
}

func TestAcceptGivesUp(t *testing.T) {
	calls := 0
	m, _ := fake(t, func(load map[string]any) (any, error) {
		calls++
		if load["fun"] == "key.list" {
			return done(dict{"minions_pre": []string{"a"}}), nil
		}
		return dict{"data": dict{"success": false, "return": "Traceback\nPermissionError: minions/a\n"}}, nil
	})
	err := m.Accept(t.Context(), []string{"a"})
	if !errors.Is(err, ErrRefused) || !strings.HasSuffix(err.Error(), "PermissionError: minions/a") || calls != 2 {
		t.Errorf("%v after %d calls", err, calls)
	}
}

func TestAcceptInBatches(t *testing.T) {
	var sizes []int
	m, _ := fake(t, func(load map[string]any) (any, error) {
		sizes = append(sizes, len(texts(load["match"].(dict)["minions_pre"])))
		return done(dict{}), nil
	})
	var ids []string
	for i := range 2*acceptBatch + 1 {
		ids = append(ids, fmt.Sprintf("i-%d", i))
	}
	if err := m.Accept(t.Context(), ids); err != nil || !slices.Equal(sizes, []int{acceptBatch, acceptBatch, 1}) {
		t.Error(sizes, err)
	}
}

func TestOddIDsAreNeverSent(t *testing.T) {
	m, _ := fake(t, func(load map[string]any) (any, error) {
		t.Errorf("sent %v", load)
		return nil, nil
	})
	for _, id := range []string{"*", "i-*", "a,b", "../x", "a\nb", "", strings.Repeat("a", 300)} {
		ids := []string{"fine", id}
		if err := m.Accept(t.Context(), ids); !errors.Is(err, ErrID) {
			t.Errorf("accept %q: %v", id, err)
		}
		if err := m.Delete(t.Context(), map[State][]string{Accepted: {"fine"}, Denied: ids}); !errors.Is(err, ErrID) {
			t.Errorf("delete %q: %v", id, err)
		}
		if _, err := m.Ping(t.Context(), NewJID(time.Now(), ""), ids); !errors.Is(err, ErrID) {
			t.Errorf("ping %q: %v", id, err)
		}
	}
	for _, jid := range []string{"", "req", "../../x", "2024010100000000000x", strings.Repeat("1", 21)} {
		if _, err := m.Ping(t.Context(), jid, []string{"a"}); err == nil {
			t.Errorf("published as %q", jid)
		}
	}
	if err := errors.Join(m.Accept(t.Context(), nil),
		m.Delete(t.Context(), map[State][]string{Accepted: nil})); err != nil {
		t.Error(err)
	}
}

func TestPublishedLoad(t *testing.T) {
	var got map[string]any
	m, _ := fake(t, func(load map[string]any) (any, error) {
		got = load
		return dict{"enc": "clear", "load": dict{"jid": load["jid"], "minions": []string{"a"}, "missing": []string{}}},
			nil
	})
	jid, targets := NewJID(time.Now(), ""), []string{"a", "b"}
	want := dict{"cmd": "publish", "tgt": []any{"a", "b"}, "tgt_type": "list", "ret": "", "jid": jid,
		"user": "salt", "key": "K1"}
	for _, test := range []struct {
		calls    []Call
		fun, arg any
	}{
		{[]Call{{Fun: "test.ping"}}, "test.ping", []any{}},
		{[]Call{{Fun: "state.apply", Args: []any{"x"}, Kwargs: dict{"test": true}}},
			"state.apply", []any{"x", dict{"test": true, "__kwarg__": true}}},
		{[]Call{{Fun: "a.b", Args: []any{"x"}}, {Fun: "c.d"}}, []any{"a.b", "c.d"}, []any{[]any{"x"}, []any{}}},
	} {
		want["fun"], want["arg"] = test.fun, test.arg
		minions, err := m.Publish(t.Context(), Job{JID: jid, Calls: test.calls, Targets: targets})
		if err != nil || !slices.Equal(minions, []string{"a"}) || !reflect.DeepEqual(got, want) {
			t.Errorf("%v, %v: %v, want %v", minions, err, got, want)
		}
	}
}

func TestJIDsRise(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 1999, time.FixedZone("east", 3600))
	last := NewJID(now, "")
	if last != "20260301110000000001" {
		t.Fatal(last)
	}
	for _, step := range []time.Duration{0, 0, time.Microsecond, -time.Hour, 2 * time.Second} {
		now = now.Add(step)
		jid := NewJID(now, last)
		if jid <= last || !validJID(jid) {
			t.Errorf("%s after %s", jid, last)
		}
		last = jid
	}
	if got := NewJID(time.Time{}, "20251231235959999999"); got != "20260101000000000000" {
		t.Error(got)
	}
	if got := NewJID(now, "no jid at all, but so"); !validJID(got) {
		t.Error(got)
	}
}
