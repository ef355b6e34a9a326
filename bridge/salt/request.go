package salt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"phoenix/bridge/event"
	"phoenix/bridge/files"
	"phoenix/bridge/zmtp"
)

var (
	// ErrAuth: the master does not know the root key, though it was read just now.
	ErrAuth = errors.New("the master refuses the root key (does salt_config name the configuration that the master runs with?)")
	// ErrDenied: the root key may not be read.
	ErrDenied = errors.New("the master's root key may not be read (run as root or as the master's user)")
	// ErrUnreachable: no answer, for whatever reason. What was asked may have
	// been done all the same.
	ErrUnreachable = errors.New("the master does not answer (is salt-master running?)")
	// ErrRefused: the master answered that it did not do it.
	ErrRefused = errors.New("the master says no")
	// ErrDoubt: the master answered, and what it says does not tell whether it did
	// it: "Some exception handling minion payload", or nothing that can be read.
	ErrDoubt = errors.New("whether it was done is not known")
)

// NotSent reports whether an error says that the master was not asked: no connection was
// made. Each call makes its own, and is repeated only if the master refused it.
func NotSent(err error) bool {
	dial, ok := errors.AsType[*net.OpError](err)
	return ok && dial.Op == "dial" && errors.Is(err, ErrUnreachable)
}

// The times a master is given to answer. A request lies in a queue until one of
// its workers is free, so both are long against the answer of an idle one.
const (
	// wheelTimeout: 200 keys in one call took up to 1.2 s (3008.3), and a master
	// that starts answers only when all its workers are up, some 10 s later.
	wheelTimeout = 30 * time.Second
	// publishTimeout: a publish took 12 to 70 ms. One that is late is better
	// repeated, under the same jid, than waited for.
	publishTimeout = 20 * time.Second
)

// answerLimit bounds an answer: the longest lists the pending ids, and anybody
// can make those. 8 MiB are 100,000 ids.
const answerLimit = 8 << 20

// Master drives a Salt master over its request channel.
type Master struct {
	endpoint string
	user     string
	keyPath  string
	request  func(ctx context.Context, endpoint string, payload []byte, limit int) ([]byte, error)
	noted    func(jid string) // called with each job before it is published; nil: none
}

// NewMaster returns the master so configured. It need not run yet.
func NewMaster(c Config) (*Master, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	request := zmtp.Request
	if c.Transport == TCP {
		request = tcpRequest
	}
	return &Master{endpoint: c.RetEndpoint(), user: c.User, keyPath: c.RootKeyPath(), request: request}, nil
}

// call sends one load and returns the decoded answer. The root key is read each
// time, since 3006 makes a new one whenever it starts (3007 and 3008 keep what
// they find); and once more if it is refused, for a master that started in
// between.
func (m *Master) call(ctx context.Context, timeout time.Duration, load map[string]any) (map[string]any, error) {
	key, err := m.rootKey()
	if err != nil {
		return nil, err
	}
	answer, err := m.send(ctx, timeout, load, key)
	if !errors.Is(err, ErrAuth) {
		return answer, err
	}
	again, keyErr := m.rootKey()
	if keyErr != nil {
		return nil, keyErr
	}
	if bytes.Equal(again, key) {
		return nil, err
	}
	return m.send(ctx, timeout, load, again)
}

func (m *Master) send(ctx context.Context, timeout time.Duration, load map[string]any,
	key []byte) (map[string]any, error) {
	load["key"] = string(key)
	payload, err := msgpack.Marshal(map[string]any{"enc": "clear", "version": 3, "load": load})
	if err != nil {
		return nil, err
	}
	timed, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	raw, err := m.request(timed, m.endpoint, payload, answerLimit)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	v, err := event.Any(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: read answer: %w", ErrDoubt, err)
	}
	answer, ok := v.(map[string]any)
	if !ok { // "bad load", "Some exception handling minion payload", …
		return nil, fmt.Errorf("%w (%w): %.200v", ErrRefused, ErrDoubt, v)
	}
	if fault, ok := answer["error"]; ok {
		return nil, refusal(fault)
	}
	return answer, nil
}

// refusal reads {"error": {"name", "message"}}; older masters put a text there.
func refusal(fault any) error {
	m, ok := fault.(map[string]any)
	if !ok {
		return fmt.Errorf("%w: %.200v", ErrRefused, fault)
	}
	switch m["name"] {
	case "AuthenticationError", "UserAuthenticationError":
		return fmt.Errorf("%w: %v", ErrAuth, m["name"])
	}
	return fmt.Errorf("%w: %v: %.200v", ErrRefused, m["name"], m["message"])
}

func (m *Master) rootKey() ([]byte, error) {
	key, err := files.Read(m.keyPath, maxSmall)
	switch {
	case err == nil && len(key) == 0: // a master that starts writes it in place
		return nil, fmt.Errorf("%w: %s: %w", ErrUnreachable, m.keyPath, ErrUnsettled)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%w: %w", ErrDenied, err)
	case errors.Is(err, fs.ErrNotExist): // the master makes it at each start
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return key, err
}
