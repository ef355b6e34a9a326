package event

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// ErrMismatch is returned when tag and data name different minions or jobs. No
// master does that; an accepted minion can.
var ErrMismatch = errors.New("tag and data disagree")

var errID = fmt.Errorf("%w: no id", ErrMalformed)

// Auth is what a master did about the auth request of a minion.
type Auth struct {
	ID     string
	Act    string // pend, accept, reject, denied, full, error; some branches of 3006 and 3007 send none
	Result bool
}

// Auth decodes the data of an event of KindAuth.
func (e Event) Auth() (Auth, error) {
	var a Auth
	data := fieldsOf(e.Data)
	for data.next() {
		switch string(textOf(data.key)) {
		case "id":
			a.ID = string(textOf(data.value))
		case "act":
			a.Act = string(textOf(data.value))
		case "result":
			a.Result = isTrue(data.value)
		}
	}
	return a, e.verify("auth", data.err, nil, a.ID)
}

// Key is a change of a minion's key.
type Key struct {
	ID  string
	Act string // as Salt 3006 has it: accept, reject, delete
}

// Key decodes the data of an event of KindKey.
func (e Event) Key() (Key, error) {
	var k Key
	data := fieldsOf(e.Data)
	for data.next() {
		switch string(textOf(data.key)) {
		case "id":
			k.ID = string(textOf(data.value))
		case "act":
			k.Act = string(textOf(data.value))
		}
	}
	// 3008 names the folder that the key was moved to (salt/key.py, DIR_MAP).
	switch k.Act {
	case "accepted":
		k.Act = "accept"
	case "rejected":
		k.Act = "reject"
	}
	return k, e.verify("key", data.err, nil, k.ID)
}

// Start is a minion that is connected.
type Start struct {
	ID string
}

// Start decodes the data of an event of KindStart.
func (e Event) Start() (Start, error) {
	var s Start
	data := fieldsOf(e.Data)
	for data.next() {
		if string(textOf(data.key)) == "id" {
			s.ID = string(textOf(data.value))
		}
	}
	return s, e.verify("start", data.err, e.ID, s.ID)
}

// Return is what became of a job on one minion.
type Return struct {
	JID, ID string
	Fun     string // of a job of several functions: joined with commas
	Retcode int    // 0 only if all functions succeeded; the highest of several
	Success bool   // all functions succeeded
	Body    []byte // msgpack of what the functions returned; a part of the frame
}

// Return decodes the data of an event of KindReturn.
func (e Event) Return() (Return, error) {
	var r Return
	var retcode, success []byte
	data := fieldsOf(e.Data)
	for data.next() {
		switch string(textOf(data.key)) {
		case "id":
			r.ID = string(textOf(data.value))
		case "jid":
			r.JID = string(textOf(data.value))
		case "fun":
			r.Fun = joined(data.value)
		case "retcode":
			retcode = data.value
		case "success":
			success = data.value
		case "return":
			r.Body = data.value
		}
	}
	if err := e.verify("return", data.err, e.ID, r.ID); err != nil {
		return Return{}, err
	}
	if r.JID != string(e.JID) {
		return Return{}, fmt.Errorf("decode return: %w: jid", ErrMismatch)
	}
	r.Retcode, r.Success = outcome(retcode, success)
	return r, nil
}

// verify reports whether data was whole and names the minion that the tag names.
func (e Event) verify(what string, err error, inTag []byte, inData string) error {
	switch {
	case err != nil:
	case inData == "":
		err = errID
	case inTag != nil && string(inTag) != inData:
		err = fmt.Errorf("%w: id", ErrMismatch)
	default:
		return nil
	}
	return fmt.Errorf("decode %s: %w", what, err)
}

// joined reads fun: a name, or a list of them.
func joined(raw []byte) string {
	if name := textOf(raw); name != nil {
		return string(name)
	}
	var names []string
	list := elementsOf(raw)
	for list.next() {
		names = append(names, string(textOf(list.value)))
	}
	return strings.Join(names, ",")
}

// outcome combines retcode and success, which are one value each, or, of a job
// of several functions, a map by function or a list. A function that raised has
// no retcode in those, only a success of false (salt/minion.py,
// _thread_multi_return); so a retcode of 0 is believed only beside success.
func outcome(retcode, success []byte) (int, bool) {
	code, reported, succeeded := 0, false, true
	each(retcode, func(value []byte) {
		n, ok := intOf(value)
		if !ok {
			n = 1
		}
		if code == 0 || n > code && n != 0 {
			code = n
		}
		reported = true
	})
	each(success, func(value []byte) {
		succeeded = succeeded && isTrue(value)
		reported = true
	})
	if code == 0 && !(reported && succeeded) {
		code = 1
	}
	return code, code == 0
}

// each calls see with raw, or with each value in it if it is a map or a list.
func each(raw []byte, see func([]byte)) {
	if len(raw) == 0 {
		return
	}
	values := elementsOf(raw)
	if h, _ := parse(raw); h.class == object {
		values = fieldsOf(raw)
	} else if h.class != array {
		see(raw)
		return
	}
	for values.next() {
		see(values.value)
	}
}

// Busy reports whether body, of a state function's return, is its refusal to run
// beside another; see [BusyLines].
func Busy(body []byte) bool { return len(BusyLines(body)) > 0 }

// maxBusyLines bounds what one refusal may name.
const maxBusyLines = 16

// BusyLines returns the lines of a state function's refusal to run beside others,
// one for each: a list with the text that state.running of Salt 3006 to 3008
// makes (salt/modules/state.py), `The function "state.highstate" is running as
// PID 4711 and was started at … with jid …`. Such a job ran nothing.
func BusyLines(body []byte) (lines []string) {
	list := elementsOf(body)
	for list.next() {
		text := textOf(list.value)
		line, ok := cutPrefix(text, `The function "state.`)
		if ok && bytes.Contains(line, []byte(`" is running as PID `)) && len(lines) < maxBusyLines {
			lines = append(lines, string(text[:min(len(text), 512)]))
		}
	}
	if list.err != nil {
		return nil
	}
	return lines
}
