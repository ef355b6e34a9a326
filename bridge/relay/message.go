package relay

import (
	"fmt"

	"github.com/vmihailenco/msgpack/v5"

	"phoenix/bridge/event"
	"phoenix/bridge/salt"
)

// Versions of the protocol that this bridge speaks. Fields that a peer does not know
// are passed over; a change that it must know of is a new version.
const (
	oldestVersion = 1
	newestVersion = 1
)

// Kinds of messages.
const (
	kindHello  = "hello"  // each side's first
	kindJob    = "job"    // asker: publish this
	kindAck    = "ack"    // publisher: what became of it
	kindReturn = "return" // publisher: what a minion returned
	kindPing   = "ping"   // asker
	kindPong   = "pong"   // publisher
	kindHave   = "have"   // publisher: of which minions it has data
	kindWant   = "want"   // asker: send that of these
	kindData   = "data"   // publisher: here it is
)

// What becomes of a job at a peer.
const (
	statePublished = "published"
	stateNobody    = "nobody"  // its master has no key of any minion that the target means
	stateUnknown   = "unknown" // its master did not say in time; it may have published it
	stateRefused   = "refused" // why says for what reason
)

// message is any message: a msgpack map of the fields that its kind has.
type message struct {
	Kind string `msgpack:"k"`
	// At is when the sender had it to say: milliseconds since it opened or took the
	// connection, on its monotonic clock.
	At int64 `msgpack:"at"`

	// Seen is the At of the last message that came from the other side, Held for how many
	// milliseconds the sender had it before this one: by them the other side knows how
	// long the two took on their way together.
	Seen int64 `msgpack:"seen,omitempty"` // ping
	Held int64 `msgpack:"held,omitempty"`

	Oldest      int    `msgpack:"oldest,omitempty"` // hello: versions
	Newest      int    `msgpack:"newest,omitempty"`
	Instance    string `msgpack:"instance,omitempty"` // hello: who speaks
	Incarnation string `msgpack:"incarnation,omitempty"`
	All         bool   `msgpack:"all,omitempty"` // hello of an asker: send the returns of all jobs

	JID    string                        `msgpack:"jid,omitempty"`
	Load   salt.Load                     `msgpack:"load,omitempty"`   // job
	State  string                        `msgpack:"state,omitempty"`  // ack
	Why    string                        `msgpack:"why,omitempty"`    // ack
	Count  int                           `msgpack:"count,omitempty"`  // ack: minions that the master has keys of
	ID     string                        `msgpack:"id,omitempty"`     // return: of which minion
	Values map[string]msgpack.RawMessage `msgpack:"values,omitempty"` // return, data

	Stamps map[string]int64 `msgpack:"stamps,omitempty"` // have: by minion
	Fresh  bool             `msgpack:"fresh,omitempty"`  // have: the master has just written it
	Here   bool             `msgpack:"here,omitempty"`   // have: these minions were seen on that master last
	IDs    []string         `msgpack:"ids,omitempty"`    // want
	Stamp  int64            `msgpack:"stamp,omitempty"`  // data
}

func (m message) encode() ([]byte, error) { return msgpack.Marshal(m) }

// decode reads a message. All of it is scanned before the library sees a part.
func decode(raw []byte) (message, error) {
	fields, err := event.Fields(raw)
	if err != nil {
		return message{}, fmt.Errorf("%w: %w", errFrame, err)
	}
	m := message{Kind: string(event.Bytes(fields["k"])), Instance: string(event.Bytes(fields["instance"])),
		Incarnation: string(event.Bytes(fields["incarnation"])), JID: string(event.Bytes(fields["jid"])),
		State: string(event.Bytes(fields["state"])), Why: string(event.Bytes(fields["why"])),
		ID: string(event.Bytes(fields["id"]))}
	for name, into := range map[string]any{"at": &m.At, "seen": &m.Seen, "held": &m.Held, "oldest": &m.Oldest,
		"newest": &m.Newest, "all": &m.All, "count": &m.Count,
		"fresh": &m.Fresh, "here": &m.Here, "ids": &m.IDs, "stamp": &m.Stamp, "stamps": &m.Stamps} {
		if value, ok := fields[name]; ok {
			if err := msgpack.Unmarshal(value, into); err != nil {
				return message{}, fmt.Errorf("%w: %s: %w", errFrame, name, err)
			}
		}
	}
	if value, ok := fields["load"]; ok {
		load, err := event.Fields(value)
		if err != nil {
			return message{}, fmt.Errorf("%w: load: %w", errFrame, err)
		}
		m.Load = asRaw(load)
	}
	if value, ok := fields["values"]; ok {
		values, err := event.Fields(value)
		if err != nil {
			return message{}, fmt.Errorf("%w: values: %w", errFrame, err)
		}
		m.Values = asRaw(values)
	}
	return m, nil
}

func asRaw(fields map[string][]byte) map[string]msgpack.RawMessage {
	raw := make(map[string]msgpack.RawMessage, len(fields))
	for k, v := range fields {
		raw[k] = v
	}
	return raw
}

// version is the newest that both sides speak.
func version(hello message) (int, error) {
	v := min(newestVersion, hello.Newest)
	if v < oldestVersion || v < hello.Oldest {
		return 0, fmt.Errorf("it speaks versions %d to %d of the relay, and this bridge %d to %d",
			hello.Oldest, hello.Newest, oldestVersion, newestVersion)
	}
	return v, nil
}

// size is about what a message takes in memory, and on the wire.
func (m message) size() int {
	n := 128 + len(m.JID) + len(m.ID) + len(m.Why)
	for k, v := range m.Values {
		n += len(k) + len(v) + 16
	}
	for k, v := range m.Load {
		n += len(k) + len(v) + 16
	}
	for id := range m.Stamps {
		n += len(id) + 64
	}
	return n
}
