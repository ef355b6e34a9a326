package lastrun

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"phoenix/bridge/event"
)

// returned is the event of a return, as a master has it on its bus.
func returned(t *testing.T, id string, data map[string]any) event.Event {
	t.Helper()
	all := map[string]any{"id": id, "jid": "20260101000000000001", "retcode": 0, "success": true, "cmd": "_return"}
	for name, value := range data {
		all[name] = value
	}
	raw, err := msgpack.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	body := append([]byte("salt/job/"+all["jid"].(string)+"/ret/"+id+"\n\n"), raw...)
	e, err := event.SplitBody(body)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func state(result any, changes map[string]any, id string) map[string]any {
	return map[string]any{"result": result, "changes": changes, "comment": "c", "__id__": id, "__sls__": "web"}
}

func all(string) bool { return true }

// Every kind of return, and what is remembered of it.
func TestReturns(t *testing.T) {
	none := map[string]any{}
	states := map[string]any{
		"pkg_|-web server_|-nginx_|-installed": state(true, map[string]any{"nginx": "1"}, "web server"),
		"file_|-b_|-/etc/b_|-managed":          state(false, none, "b"),
		"file_|-a_|-/etc/a_|-managed":          map[string]any{"result": false, "changes": none},
		"cmd_|-c_|-c_|-run":                    state(nil, none, "c"),
	}
	long := strings.Repeat("é", 500)
	for what, c := range map[string]struct {
		data map[string]any
		want Run
	}{
		"success": {map[string]any{"fun": "state.highstate",
			"return": map[string]any{"a_|-b_|-c_|-d": state(true, none, "b")}},
			Run{Function: "state.highstate", Outcome: Succeeded, States: 1}},
		"failed": {map[string]any{"fun": "state.apply", "retcode": 2, "success": false, "return": states},
			Run{Function: "state.apply", Outcome: Failed, Retcode: 2, States: 4, Changed: 1, Failed: 2,
				Names: []string{"a", "b"}}},
		"errors": {map[string]any{"fun": "state.sls", "retcode": 1, "success": false,
			"return": []any{"Rendering SLS 'base:web' failed:\n  mapping values"}},
			Run{Function: "state.sls", Outcome: Failed, Retcode: 1,
				Text: "Rendering SLS 'base:web' failed: mapping values"}},
		"a text": {map[string]any{"fun": "state.single", "retcode": 254, "success": false, "return": long},
			Run{Function: "state.single", Outcome: Failed, Retcode: 254, Text: strings.Repeat("é", maxText/2) + "…"}},
		"trimmed": {map[string]any{"fun": "state.apply", "return": "VALUE_TRIMMED"},
			Run{Function: "state.apply", Outcome: Succeeded, Text: "VALUE_TRIMMED"}},
		"success without": {map[string]any{"fun": "state.apply", "retcode": 0, "success": false, "return": none},
			Run{Function: "state.apply", Outcome: Failed, Retcode: 1}},
		"dry run": {map[string]any{"fun": "state.apply",
			"fun_args": []any{"web", map[string]any{"test": true, "__kwarg__": true}},
			"return":   map[string]any{"a": state(nil, none, "a")}},
			Run{Function: "state.apply", Outcome: Succeeded, States: 1, Test: true}},
		"several functions": {map[string]any{"fun": []any{"test.ping", "state.apply"},
			"retcode": map[string]any{"test.ping": 0, "state.apply": 2},
			"success": map[string]any{"test.ping": true, "state.apply": false},
			"return":  map[string]any{"test.ping": true, "state.apply": states}},
			Run{Function: "state.apply", Outcome: Failed, Retcode: 2, States: 4, Changed: 1, Failed: 2,
				Names: []string{"a", "b"}}},
		"by a schedule": {map[string]any{"fun": "state.apply", "schedule": "nightly", "return": none,
			"fun_args": "x"}, Run{Function: "state.apply", Outcome: Succeeded}},
		"busy": {map[string]any{"fun": "state.apply", "retcode": 1, "success": false,
			"return": []any{`The function "state.highstate" is running as PID 4711 and was started at x with jid y`}},
			Run{}},
		"another function":   {map[string]any{"fun": "test.ping", "return": true}, Run{}},
		"one that only asks": {map[string]any{"fun": "state.show_sls", "return": none}, Run{}},
		"none":               {map[string]any{"return": none}, Run{}},
		"a long jid": {map[string]any{"fun": "state.apply", "jid": strings.Repeat("1", 100), "return": none},
			Run{}},
	} {
		t.Run(what, func(t *testing.T) {
			r := New(all)
			r.Event(returned(t, "web-1", c.data))
			got := r.Of("web-1").Runs
			if c.want.Function == "" {
				if len(got) != 0 {
					t.Errorf("%+v", got)
				}
				return
			}
			c.want.Minion, c.want.JID = "web-1", "20260101000000000001"
			if len(got) != 1 || got[0].At.IsZero() {
				t.Fatalf("%+v", got)
			}
			c.want.At = got[0].At
			if fmt.Sprintf("%+v", got[0]) != fmt.Sprintf("%+v", c.want) {
				t.Errorf("%+v\nwant %+v", got[0], c.want)
			}
		})
	}
}

// What is on the bus in the name of ids without an accepted key costs nothing, and of any
// number of others a bounded number is kept: those that ran last.
func TestG7_RunsAreBounded(t *testing.T) {
	r := New(func(id string) bool { return strings.HasPrefix(id, "web-") })
	r.generation, r.page = 500, 70
	r.Event(returned(t, "stranger", map[string]any{"fun": "state.apply", "return": true}))
	if p := r.Of("stranger"); len(p.Runs) != 0 {
		t.Errorf("%+v", p)
	}
	over := 3*r.generation + 10
	for i := range over {
		r.Event(returned(t, fmt.Sprintf("web-%07d", i), map[string]any{"fun": "state.apply", "return": true}))
	}
	if n := len(r.newest) + len(r.older); n > 2*r.generation || n < r.generation {
		t.Errorf("%d are remembered", n)
	}
	if p := r.Of(fmt.Sprintf("web-%07d", over-1)); len(p.Runs) != 1 {
		t.Error("the last one is forgotten")
	}
	var seen []string
	for after := ""; ; {
		p := r.After(after)
		for _, run := range p.Runs {
			seen = append(seen, run.Minion)
		}
		if len(p.Runs) > r.page {
			t.Fatalf("%d runs in a page", len(p.Runs))
		}
		if !p.More {
			break
		}
		after = p.Runs[len(p.Runs)-1].Minion
	}
	if len(seen) != len(r.newest)+len(r.older) || !slices.IsSorted(seen) ||
		len(slices.Compact(slices.Clone(seen))) != len(seen) {
		t.Errorf("%d of %d in pages", len(seen), len(r.newest)+len(r.older))
	}
}
