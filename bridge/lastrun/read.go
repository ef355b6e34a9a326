package lastrun

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"

	"phoenix/bridge/event"
)

const (
	// maxNames bounds how many failed states a run names.
	maxNames = 3
	// maxText bounds a name and the begin of a text, in bytes.
	maxText = 120
	// maxJID is longer than any jid.
	maxJID = 64
)

// read reads the return of a state run. A run that was refused, since another one was
// under way, ran nothing.
func read(e event.Event) (Run, bool) {
	fun, err := event.Field(e.Data, "fun")
	if err != nil || !bytes.Contains(fun, []byte("state.")) { // most returns: not decoded further
		return Run{}, false
	}
	ret, err := e.Return()
	if err != nil || len(ret.JID) > maxJID || event.Busy(ret.Body) {
		return Run{}, false
	}
	name, of := stateFunction(ret.Fun)
	if !of {
		return Run{}, false
	}
	run := Run{Minion: ret.ID, Function: name, JID: ret.JID, Outcome: Succeeded, Retcode: ret.Retcode,
		Test: dryRun(e.Data)}
	if ret.Retcode != 0 {
		run.Outcome = Failed
	}
	body := ret.Body
	if name != ret.Fun { // of several functions: a map by their names
		body, _ = event.Field(body, name)
	}
	run.count(body)
	return run, true
}

// count counts the states of a return: a map of them by their tags, as pkg_|-web
// server_|-nginx_|-installed. 3006 to 3008 give a list of errors where there are none,
// and max_event_size may have put a text in the place of all.
func (r *Run) count(body []byte) {
	states, err := event.Fields(body)
	if err != nil {
		r.Text = firstText(body)
		return
	}
	var failed []string
	for tag, state := range states {
		one, err := event.Fields(state)
		if err != nil {
			continue
		}
		r.States++
		if changes := one["changes"]; len(changes) > 1 { // an empty map has one byte
			r.Changed++
		}
		if result := one["result"]; len(result) == 1 && result[0] == msgpackFalse {
			name := string(event.Bytes(one["__id__"]))
			if parts := strings.Split(tag, "_|-"); name == "" && len(parts) == 4 {
				name = parts[1]
			}
			failed = append(failed, cmp.Or(name, tag))
		}
	}
	slices.Sort(failed)
	r.Failed = len(failed)
	for _, name := range failed[:min(len(failed), maxNames)] {
		r.Names = append(r.Names, cut(name))
	}
}

const msgpackFalse = 0xc2

// firstText returns how a text, or the first of a list, begins.
func firstText(body []byte) string {
	text := event.Bytes(body)
	if text == nil {
		_ = event.Elements(body, func(value []byte) { // else there is none to show
			if text == nil {
				text = event.Bytes(value)
			}
		})
	}
	return cut(string(text[:min(len(text), 2*maxText)]))
}

// cut makes a short line of a text.
func cut(text string) string {
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "\uFFFD")), " ")
	if len(text) <= maxText {
		return strings.Clone(text) // it may be a part of a whole event
	}
	end := maxText
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

// dryRun reports whether a job was given test=True: in fun_args, which end with a map of
// keyword arguments.
func dryRun(data []byte) (test bool) {
	args, err := event.Field(data, "fun_args")
	if err != nil || args == nil {
		return false
	}
	_ = event.Elements(args, func(value []byte) { // a list that is none has no test
		kwargs, err := event.Fields(value)
		if v := kwargs["test"]; err == nil && len(v) == 1 && v[0] == 0xc3 {
			test = true
		}
	})
	return test
}
