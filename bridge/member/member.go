package member

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"phoenix/bridge/retry"
	"phoenix/bridge/zmtp"
)

// Config says which master it is, and where on this host it keeps what.
type Config struct {
	RetEndpoint string // its request channel, as tcp://host:port
	Publish     string // its publish port, as host:port
	KeyFolder   string // pki_dir/minions
	Sessions    string // cachedir/sessions
	// MasterKey returns fleet.KeyDigest of the master's public key on this host.
	MasterKey func() (string, error)
}

// Validate says what is missing.
func (c Config) Validate() error {
	if c.RetEndpoint == "" || c.Publish == "" || c.KeyFolder == "" || c.Sessions == "" || c.MasterKey == nil {
		return errors.New("join the master as a member: incomplete configuration")
	}
	return nil
}

// Member is a bridge as a member of its master's fleet. Its methods may be called
// by any goroutine.
type Member struct {
	config   Config
	identity identity
	request  func(ctx context.Context, endpoint string, payload []byte, limit int) ([]byte, error)

	asking sync.Mutex // held while keys are asked for
	mu     sync.Mutex
	keys   keys
	asked  time.Time // when they were
	left   bool
}

// New makes a member's key pair. The master need not run yet.
func New(c Config) (*Member, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	id, err := newIdentity()
	if err != nil {
		return nil, err
	}
	return &Member{config: c, identity: id, request: zmtp.Request}, nil
}

// Sweep takes away the keys of members that were before this one.
func (m *Member) Sweep() error {
	return sweepBoth(m.config.KeyFolder, m.config.Sessions, m.identity.id)
}

// Sweep takes away the keys of all members: where there is none any more.
func Sweep(keyFolder, sessions string) error { return sweepBoth(keyFolder, sessions, "") }

func sweepBoth(keyFolder, sessions, except string) error {
	return errors.Join(sweep(keyFolder, except), sweep(sessions, except))
}

// Leave takes the key away. The member can ask its master nothing after it.
func (m *Member) Leave() error {
	m.asking.Lock() // nobody lays the key down again
	defer m.asking.Unlock()
	m.mu.Lock()
	m.left = true
	m.mu.Unlock()
	err := os.Remove(filepath.Join(m.config.KeyFolder, m.identity.id))
	_ = os.Remove(filepath.Join(m.config.Sessions, m.identity.id)) // made by the master, at its first answer
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("take the relay's key back: %w", err)
	}
	return nil
}

var errLeft = errors.New("this bridge is no member of its master's fleet any more")

// current returns the keys that the member has; none before the first ask.
func (m *Member) current() keys {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.keys
}

// askEvery bounds how often a master is asked for its keys. What makes that
// necessary is a rotation, once a minute at most, or a restart.
const askEvery = time.Second

// renew returns keys that are newer than old: it asks for them, unless somebody
// else did meanwhile.
func (m *Member) renew(ctx context.Context, old keys) (keys, error) {
	m.asking.Lock()
	defer m.asking.Unlock()
	m.mu.Lock()
	has, asked, left := m.keys, m.asked, m.left
	m.mu.Unlock()
	if left {
		return keys{}, errLeft
	}
	if has != old && has.publish != nil {
		return has, nil
	}
	if wait := askEvery - time.Since(asked); !asked.IsZero() && wait > 0 {
		if !retry.Sleep(ctx, wait) {
			return keys{}, ctx.Err()
		}
	}
	fresh, err := m.authenticate(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = time.Now()
	if err == nil {
		if fresh.former = has.publish; fresh.former != nil && fresh.former.same(fresh.publish) {
			fresh.former = has.former
		}
		m.keys = fresh
	}
	return fresh, err
}
