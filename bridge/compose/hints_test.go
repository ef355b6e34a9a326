package compose

import (
	"encoding/json"
	"strings"
	"testing"

	"phoenix/bridge/service"
)

// An event that the reactor tells is held to what one of the bus is held to.
func TestHintsAreEventsOfTheBus(t *testing.T) {
	for _, h := range []struct {
		tag, data string
		wakes     bool
		fault     string
	}{
		{tag: "salt/auth", data: `{"id": "web-1", "act": "pend"}`, wakes: true},
		{tag: "salt/auth", data: `{"id": "web-1"}`, wakes: true},
		{tag: "salt/auth", data: `{"id": "web-1", "act": "accept"}`},
		{tag: "salt/key", data: `{"id": "web-1", "act": "accepted"}`, wakes: true},
		{tag: "salt/minion/web-1/start", data: `{"id": "web-1"}`, wakes: true},
		{tag: "salt/minion/web-1/start", data: `{"id": "web-2"}`, fault: "tag and data disagree"},
		{tag: "salt/minion/web-1/start", data: `{"id": 7}`, fault: "no id"},
		{tag: "salt/job/20260101000000000000/ret/web-1",
			data: `{"id": "web-1", "jid": "20260101000000000000", "retcode": 0,
			"success": true, "fun": "state.highstate", "return": {"a": [1, 2.5, null, "b"]}}`}, // not a job of ours
		{tag: "salt/job/20260101000000000000/ret/web-1", data: `{"id": "web-1", "jid": "1"}`,
			fault: "tag and data disagree"},
		{tag: "salt/auth", data: `{}`, fault: "no id"},
		{tag: "salt/auth", data: `null`, fault: "malformed"},
		{tag: "", data: `{"id": "web-1"}`, fault: "its tag is none of"},
		{tag: "salt/auth\n\n", data: `{"id": "web-1"}`, fault: "malformed"},
	} {
		inbox := service.NewInbox()
		dec := json.NewDecoder(strings.NewReader(h.data))
		dec.UseNumber()
		var data map[string]any
		if err := dec.Decode(&data); err != nil {
			t.Fatal(err)
		}
		err := hint(inbox)(h.tag, data)
		if (err == nil) != (h.fault == "") || err != nil && !strings.Contains(err.Error(), h.fault) {
			t.Errorf("%q %s: %v", h.tag, h.data, err)
		}
		woke := false
		select {
		case <-inbox.Wake():
			woke = true
		default:
		}
		if woke != h.wakes {
			t.Errorf("%q %s: wakes the engine: %v", h.tag, h.data, woke)
		}
	}
}
