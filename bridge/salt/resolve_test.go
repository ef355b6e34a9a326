package salt

import (
	"bufio"
	"encoding/hex"
	"os"
	"path/filepath"
	"reflect"
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
	if list, ok := v.([]any); ok && len(list) == Questions {
		return map[string]any{findJob: list[0], findCached: list[1], configGet: list[2]}
	}
	return v.(map[string]any)
}

// take answers the questions with the values of a map by function, or of a list.
func take(t testing.TB, body []byte) (r Resolve, err error) {
	t.Helper()
	values := byFun(t, body)
	var a Answers
	for i, fun := range questions {
		raw, err := msgpack.Marshal(values[fun])
		if err != nil {
			t.Fatal(err)
		}
		var complete bool
		if r, complete, err = a.Take(fun, raw); complete != (i == Questions-1) {
			t.Fatalf("complete after %d answers: %v", i+1, complete)
		} else if complete {
			return r, err
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
		"busy":    {Cached: &CachedReturn{Retcode: 1, Busy: true}},
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
			case "m-cache":
				want.Failover = true
			case "m-plain":
				want.Cached, want.NoCache = nil, true
			}
			got, err := take(t, bodyOf(t, data))
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
		"trimmed":         map[string]any{findJob: map[string]any{}, findCached: map[string]any{"retcode": "VALUE_TRIMMED"}},
		"trimmed whole":   map[string]any{findJob: "VALUE_TRIMMED", findCached: "VALUE_TRIMMED"},
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
	if _, _, err := a.Take(findJob, []byte{0xdd, 0xff, 0xff, 0xff, 0xff}); err == nil {
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
	if r, err := take(t, raw); err != nil || *r.Cached != (CachedReturn{Retcode: 1, Busy: true}) {
		t.Errorf("%+v, %v", r, err)
	}
}

func FuzzAnswers(f *testing.F) {
	for _, version := range recorded {
		for _, data := range answers(f, version) {
			values := byFun(f, bodyOf(f, data))
			var raw [Questions][]byte
			for i, fun := range questions {
				var err error
				if raw[i], err = msgpack.Marshal(values[fun]); err != nil {
					f.Fatal(err)
				}
			}
			f.Add(raw[0], raw[1], raw[2])
		}
	}
	f.Fuzz(func(t *testing.T, first, second, third []byte) {
		var a Answers
		for i, body := range [][]byte{first, second, third} {
			if r, _, err := a.Take(questions[i], body); err != nil && !reflect.DeepEqual(r, Resolve{}) {
				t.Errorf("%+v beside %v", r, err)
			}
		}
	})
}
