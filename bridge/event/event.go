// Package event reads one event of a Salt master's bus: it splits the frame,
// says by the tag what kind it is, and decodes the few kinds that matter into
// small structs, on demand.
//
// Whatever comes is bounded first. An event is a hint, not a fact: any accepted
// minion can put any tag with any data on the bus. What is promised is only
// that ids in tag and data agree, and that nothing here panics, or allocates
// more than a small multiple of the frame.
package event

import "bytes"

// Kind is what an event says, as far as its tag goes.
type Kind uint8

const (
	Other      Kind = iota // of no interest; minion_start, the legacy twin of KindStart, too
	KindAuth               // salt/auth: a minion sent an auth request
	KindKey                // salt/key: a key was accepted, rejected or deleted
	KindStart              // salt/minion/<id>/start: a minion is connected
	KindReturn             // salt/job/<jid>/ret/<id>: a job returned
)

// Event is one event. Its slices are parts of the frame that it was split from.
type Event struct {
	Kind Kind
	Tag  []byte
	ID   []byte // the minion id in the tag, of KindStart and KindReturn
	JID  []byte // the jid in the tag, of KindReturn
	Data []byte // msgpack, unchecked
}

// usualBegin is how every frame of Salt 3006 to 3008 begins: {"head": {}, "body":
const usualBegin = "\x82\xa4head\x80\xa4body"

// Split reads a frame as the bus has it since Salt 2015.8: a msgpack map with
// head, of no interest, and body.
func Split(frame []byte) (e Event, err error) {
	body, err := bodyOf(frame)
	if err == nil {
		err = e.read(body)
	}
	return e, err
}

// SplitBody reads the body of a frame, which is all that masters before 2015.8
// sent, over ZeroMQ: tag, two line feeds, data.
func SplitBody(body []byte) (e Event, err error) {
	err = e.read(body)
	return e, err
}

func bodyOf(frame []byte) ([]byte, error) {
	if rest, ok := cutPrefix(frame, usualBegin); ok {
		if h, err := parse(rest); err == nil && h.class == text && h.n == uint64(len(rest)-h.width) {
			return rest[h.width:], nil
		}
	}
	var body []byte
	fields := fieldsOf(frame)
	for fields.next() {
		if string(textOf(fields.key)) == "body" {
			body = textOf(fields.value)
		}
	}
	if fields.err == nil && body == nil {
		return nil, errBody
	}
	return body, fields.err
}

func (e *Event) read(body []byte) error {
	tag, data, found := cutTag(body)
	if oldTag, oldData, old := splitPadded(body); old && (!found || len(tag) > paddedTag) {
		tag, data, found = oldTag, oldData, true
	}
	if !found {
		return errTag
	}
	e.Tag, e.Data = tag, data
	e.classify()
	return nil
}

// cutTag finds the first two line feeds. Tags of Salt hold no single one, and
// looking for a byte is what the machine does fastest.
func cutTag(body []byte) (tag, data []byte, found bool) {
	if i := bytes.IndexByte(body, '\n'); i >= 0 && i+1 < len(body) && body[i+1] == '\n' {
		return body[:i], body[i+2:], true
	}
	return bytes.Cut(body, []byte("\n\n"))
}

// paddedTag is the width of the tag in events of Salt before 2015: shorter ones
// were padded with |, and nothing stood between tag and data.
const paddedTag = 20

func splitPadded(body []byte) (tag, data []byte, ok bool) {
	if len(body) <= paddedTag || body[paddedTag-1] != '|' {
		return nil, nil, false
	}
	h, err := parse(body[paddedTag:])
	if err != nil || h.class != object {
		return nil, nil, false
	}
	return bytes.TrimRight(body[:paddedTag], "|"), body[paddedTag:], true
}

// classify reads the tag. A minion's id may hold anything, slashes too.
func (e *Event) classify() {
	rest, ok := cutPrefix(e.Tag, "salt/")
	if !ok {
		return
	}
	if string(rest) == "auth" {
		e.Kind = KindAuth
		return
	}
	if string(rest) == "key" {
		e.Kind = KindKey
		return
	}
	if id, ok := cutPrefix(rest, "minion/"); ok {
		if id, ok = bytes.CutSuffix(id, []byte("/start")); ok && len(id) > 0 {
			e.Kind, e.ID = KindStart, id
		}
		return
	}
	if job, ok := cutPrefix(rest, "job/"); ok {
		jid, job, _ := bytes.Cut(job, []byte("/"))
		if id, ok := cutPrefix(job, "ret/"); ok && len(jid) > 0 && len(id) > 0 {
			e.Kind, e.JID, e.ID = KindReturn, jid, id
		}
	}
}

func cutPrefix(b []byte, prefix string) (rest []byte, ok bool) {
	if len(b) < len(prefix) || string(b[:len(prefix)]) != prefix {
		return nil, false
	}
	return b[len(prefix):], true
}
