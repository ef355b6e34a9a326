package salt

import (
	"bufio"
	"encoding/hex"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"phoenix/bridge/event"
)

// recorded are the versions whose answers are in testdata.
var recorded = []string{"3006.28", "3007.15", "3008.3"}

// answers reads testdata: by case and minion, the data of a return.
func answers(t testing.TB, version string) map[string][]byte {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "resolve-"+version+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := map[string][]byte{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if words := strings.Fields(lines.Text()); words[0] != "#" {
			if all[words[0]+" "+words[1]], err = hex.DecodeString(words[2]); err != nil {
				t.Fatal(err)
			}
		}
	}
	return all
}

func bodyOf(t testing.TB, data []byte) []byte {
	t.Helper()
	v, err := event.Any(data)
	if err != nil {
		t.Fatal(err)
	}
	m := v.(map[string]any)
	e := event.Event{Kind: event.KindReturn, ID: []byte(m["id"].(string)), JID: []byte(m["jid"].(string)), Data: data}
	r, err := e.Return()
	if err != nil {
		t.Fatal(err)
	}
	return r.Body
}

// byFun reads what a job of the three functions returned: a map, or (m-ordered) a
// list in the order in which they were called.
func byFun(t testing.TB, body []byte) map[string]any {
	t.Helper()
	v, err := event.Any(body)
	if err != nil {
		t.Fatal(err)
	}
	if list, ok := v.([]any); ok && len(list) == 3 {
		return map[string]any{findJob: list[0], findCached: list[1], configGet: list[2]}
	}
	return v.(map[string]any)
}

// take answers the two questions with the values of a map by function, or of a
// list; and again with what Brief leaves of them, which must say the same.
func take(t testing.TB, body []byte) (r Resolve, err error) {
	t.Helper()
	values := byFun(t, body)
	whole := func(_ string, raw []byte) []byte { return raw }
	var brief Resolve
	for _, reduce := range []func(string, []byte) []byte{Brief, whole} {
		var a Answers
		for i, fun := range []string{findJob, findCached} {
			raw, err := msgpack.Marshal(values[fun])
			if err != nil {
				t.Fatal(err)
			}
			var complete bool
			if r, complete, err = a.Take(fun, reduce(fun, raw)); complete != (i == 1) {
				t.Fatalf("complete after %d answers: %v", i+1, complete)
			} else if !complete {
				continue
			}
			if i = 1; brief.Cached == nil && !reflect.DeepEqual(brief, Resolve{}) && !reflect.DeepEqual(brief, r) {
				t.Errorf("the brief says %+v, the whole %+v", brief, r)
			}
			brief = r
			if err != nil {
				return r, err
			}
		}
	}
	return r, err
}

func TestResolveOfRealMinions(t *testing.T) {
	cached := map[string]Resolve{
		"running": {Running: true},
		"done":    {Cached: &CachedReturn{}},
		"unknown": {},
		"bad":     {Cached: &CachedReturn{Retcode: 2}},
		"broken":  {Cached: &CachedReturn{Retcode: 1}},
		"busy":    {Cached: &CachedReturn{Retcode: 1, Busy: []Running{{Fun: "state.highstate"}}}},
		"killed":  {},
	}
	for _, version := range recorded {
		all := answers(t, version)
		if len(all) != 3*len(cached) {
			t.Errorf("%s: %d answers", version, len(all))
		}
		for name, data := range all {
			job, minion, _ := strings.Cut(name, " ")
			want := cached[job]
			switch minion {
			case "m-plain":
				want.Cached, want.NoCache = nil, true
			}
			got, err := take(t, bodyOf(t, data))
			if got.Cached != nil {
				for i := range got.Cached.Busy {
					r := &got.Cached.Busy[i]
					if !validJID(r.JID) || r.PID == 0 || r.Started == "" {
						t.Errorf("%s %s: %+v", version, name, r)
					}
					*r = Running{Fun: r.Fun}
				}
			}
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s %s: %+v, %v; want %+v", version, name, got, err, want)
			}
		}
	}
}

// What says neither that a job is known nor that it is not.
func TestResolveThatTellsNothing(t *testing.T) {
	const traceback = "Traceback (most recent call last):\n  File \"x\"\nFileNotFoundError: return.p"
	unknown := "Local jobs cache directory /x not found"
	for name, v := range map[string]any{
		"nothing":         map[string]any{},
		"texts":           map[string]any{findJob: "Minion in blackout mode.", findCached: "Minion in blackout mode."},
		"find_job raised": map[string]any{findJob: traceback, findCached: unknown},
		"cache raised":    map[string]any{findJob: map[string]any{}, findCached: traceback},
		"cache torn":      map[string]any{findJob: map[string]any{}, findCached: nil},
		"no retcode":      map[string]any{findJob: map[string]any{}, findCached: map[string]any{"success": true}},
		"trimmed": map[string]any{findJob: map[string]any{},
			findCached: map[string]any{"retcode": "VALUE_TRIMMED"}},
		"trimmed whole": map[string]any{findJob: "VALUE_TRIMMED", findCached: "VALUE_TRIMMED"},
	} {
		raw, err := msgpack.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := take(t, raw); err == nil || !reflect.DeepEqual(r, Resolve{}) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	var a Answers
	_, _, _ = a.Take(findJob, []byte{0xdd, 0xff, 0xff, 0xff, 0xff})
	if _, complete, err := a.Take(findCached, []byte{0xdd, 0xff, 0xff, 0xff, 0xff}); err == nil || !complete {
		t.Error("a header alone is an answer")
	}
	if _, _, err := a.Take("test.ping", []byte{0xc3}); err == nil {
		t.Error("what was not asked is an answer")
	}
	raw, err := msgpack.Marshal(map[string]any{findJob: map[string]any{"pid": 1}, findCached: nil})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := take(t, raw); err != nil || !r.Running {
		t.Errorf("it runs, and its cache is being written: %+v, %v", r, err)
	}
}

func TestResolveBelievesNoRetcodeAgainstSuccess(t *testing.T) {
	raw, err := msgpack.Marshal(map[string]any{findJob: map[string]any{}, findCached: map[string]any{
		"retcode": 0, "success": false, "return": []any{`The function "state.highstate" is running as PID 1`}}})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := take(t, raw); err != nil || r.Cached.Retcode != 1 || len(r.Cached.Busy) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

// What saltutil.running returned of a highstate under way (3006.28 and 3008.3,
// which adds what it knows of resources).
func TestReadRunning(t *testing.T) {
	load := map[string]any{"arg": []any{}, "fun": "state.highstate", "jid": "20261126131624603799", "pid": 24471,
		"ret": "", "tgt": []any{"web-1"}, "tgt_type": "list", "user": "root"}
	newer := maps.Clone(load)
	newer["minion_is_target"], newer["pure_resource_target"], newer["resource_targets"] = true, false, []any{}
	several := map[string]any{"jid": "1", "pid": 2, "fun": []any{"state.apply", "test.ping"}}
	highstate := Running{JID: "20261126131624603799", Fun: "state.highstate", PID: 24471}
	for name, test := range map[string]struct {
		answer any
		want   []Running
		fails  bool
	}{
		"idle":         {answer: []any{}},
		"3006":         {answer: []any{load}, want: []Running{highstate}},
		"3008":         {answer: []any{newer}, want: []Running{highstate}},
		"several":      {answer: []any{several, load}, want: []Running{{JID: "1", PID: 2}, highstate}},
		"no jobs":      {answer: []any{1, nil, "x"}},
		"odd":          {answer: []any{map[string]any{"jid": 1, "pid": "x", "fun": nil}}, want: []Running{{}}},
		"blackout":     {answer: "Minion in blackout mode.", fails: true},
		"raised":       {answer: "Traceback (most recent call last):\nOSError: x", fails: true},
		"nothing":      {answer: nil, fails: true},
		"trimmed":      {answer: "VALUE_TRIMMED", fails: true},
		"a long story": {answer: slices.Repeat([]any{load}, maxRunning+1), fails: true},
	} {
		body, err := msgpack.Marshal(test.answer)
		if err != nil {
			t.Fatal(err)
		}
		for _, raw := range [][]byte{body, Brief(running, body)} {
			got, err := ReadRunning(raw)
			if !reflect.DeepEqual(got, test.want) || (err != nil) != test.fails {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
		}
	}
	if !highstate.State() || (Running{Fun: "test.sleep"}).State() {
		t.Error("what keeps a minion busy is not told from what does not")
	}
}

func TestReadBusy(t *testing.T) {
	body, err := msgpack.Marshal([]any{
		`The function "state.apply" is running as PID 31 and was started at 2026, Nov 26 13:16:24.603799 with jid 20261126131624603799`,
		`The function "state.sls" is running as PID 32`, 7})
	if err != nil {
		t.Fatal(err)
	}
	want := []Running{{Fun: "state.apply", PID: 31, Started: "2026, Nov 26 13:16:24.603799",
		JID: "20261126131624603799"},
		{Fun: "state", Started: "some time ago"}}
	for _, raw := range [][]byte{body, Brief("state.highstate", body)} {
		if got := ReadBusy(raw); !reflect.DeepEqual(got, want) {
			t.Errorf("%+v", got)
		}
	}
	whole, err := msgpack.Marshal(map[string]any{"cmd_|-x": map[string]any{"result": true}})
	if err != nil {
		t.Fatal(err)
	}
	if ReadBusy(whole) != nil || ReadBusy(Brief("state.highstate", whole)) != nil || ReadBusy(nil) != nil {
		t.Error("a highstate that ran was refused")
	}
}

func TestReadFailover(t *testing.T) {
	for answer, want := range map[any]bool{"failover": true, "str": false, "": false, "func": false} {
		body, err := msgpack.Marshal(answer)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ReadFailover(Brief(configGet, body)); err != nil || got != want {
			t.Errorf("%v: %v, %v", answer, got, err)
		}
	}
	for _, body := range [][]byte{{0x01}, nil, append([]byte{0xd9, 9}, "Traceback\n"[:9]...), {0x80}} {
		if len(body) > 2 {
			body = append([]byte{0xaa}, "Traceback\n"...)
		}
		if _, err := ReadFailover(body); err == nil {
			t.Errorf("%q is an answer", body)
		}
	}
}

// A return of 16 MiB, of which a few bytes matter.
func TestAnswersKeepNoBodies(t *testing.T) {
	state := map[string]any{"comment": strings.Repeat("x", 1<<20), "result": true}
	states := map[string]any{}
	for _, name := range strings.Fields("a b c d e f g h i j k l m n o p") {
		states[name] = state
	}
	body, err := msgpack.Marshal(map[string]any{"jid": "1", "fun": "state.highstate", "retcode": 2, "success": false,
		"return": states})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(Brief(findCached, body)); n > 100 {
		t.Errorf("%d bytes of %d are kept", n, len(body))
	}
	if n := len(Brief("state.highstate", body)); n > 100 {
		t.Errorf("%d bytes of %d are kept", n, len(body))
	}
	var before, after runtime.MemStats
	var a Answers
	runtime.ReadMemStats(&before)
	_, _, _ = a.Take(findJob, []byte{0x80})
	r, complete, err := a.Take(findCached, body)
	runtime.ReadMemStats(&after)
	if err != nil || !complete || r.Cached == nil || r.Cached.Retcode != 2 {
		t.Errorf("%+v, %v, %v", r, complete, err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 64<<10 {
		t.Errorf("%d bytes were allocated to read it", n)
	}
}

func FuzzAnswers(f *testing.F) {
	for _, version := range recorded {
		for _, data := range answers(f, version) {
			values := byFun(f, bodyOf(f, data))
			var raw [2][]byte
			for i, fun := range []string{findJob, findCached} {
				var err error
				if raw[i], err = msgpack.Marshal(values[fun]); err != nil {
					f.Fatal(err)
				}
			}
			f.Add(raw[0], raw[1], raw[1])
		}
	}
	f.Fuzz(func(t *testing.T, first, second, third []byte) {
		var a, b Answers
		for i, fun := range []string{findJob, findCached} {
			body := [][]byte{first, second}[i]
			r, _, err := a.Take(fun, body)
			if err != nil && !reflect.DeepEqual(r, Resolve{}) {
				t.Errorf("%+v beside %v", r, err)
			}
			short, _, shortErr := b.Take(fun, Brief(fun, body))
			if !reflect.DeepEqual(short, r) || (err == nil) != (shortErr == nil) {
				t.Errorf("%+v, %v; its brief %+v, %v", r, err, short, shortErr)
			}
		}
		jobs, err := ReadRunning(third)
		if short, shortErr := ReadRunning(Brief(running, third)); !reflect.DeepEqual(jobs, short) ||
			(err == nil) != (shortErr == nil) {
			t.Errorf("%+v, %v; its brief %+v, %v", jobs, err, short, shortErr)
		}
		if busy := ReadBusy(third); !reflect.DeepEqual(busy, ReadBusy(Brief("state.highstate", third))) {
			t.Errorf("%+v is not what its brief says", busy)
		}
	})
}
