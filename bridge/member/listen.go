package member

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"phoenix/bridge/event"
	"phoenix/bridge/zmtp"
)

const (
	// dialWithin: the master's I/O thread accepts within milliseconds, however busy
	// the master is.
	dialWithin = 5 * time.Second
	// MaxPublish bounds one publish: a list of 100,000 ids has 2 MiB.
	MaxPublish = 16 << 20
)

// Listen calls heard with the load of each job that the master publishes, values
// undecoded (see event.Fields), until ctx ends or the connection is lost, and
// returns why. connected is called once what is published from now on will be
// heard. Jobs that are published while nobody listens are not heard.
//
// The TCP connection goes to the master's own port on this host, so what comes over
// it is the master's; a minion, which holds the same key, cannot write there.
func (m *Member) Listen(ctx context.Context, connected func(), heard func(load map[string][]byte)) error {
	if k := m.known(); k.publish == nil {
		if _, err := m.renewed(ctx, k); err != nil {
			return fmt.Errorf("listen to the master's jobs: %w", err)
		}
	}
	dialer := net.Dialer{Timeout: dialWithin}
	conn, err := dialer.DialContext(ctx, "tcp", m.config.Publish)
	if err != nil {
		return fmt.Errorf("listen to the master's jobs: %w", err)
	}
	connected()
	err = zmtp.Subscribe(ctx, conn, MaxPublish, func(message []byte) error {
		load, err := m.open(ctx, message)
		if err != nil {
			return err
		}
		heard(load)
		return nil
	})
	return fmt.Errorf("listen to the master's jobs: %w", err)
}

// open decrypts one publish. A key that does not fit is out of date, once.
func (m *Member) open(ctx context.Context, message []byte) (map[string][]byte, error) {
	outer, err := event.Fields(message)
	if err != nil {
		return nil, err
	}
	sealed := event.Bytes(outer["load"])
	has := m.known()
	plain, err := has.publish.decrypt(sealed)
	if errors.Is(err, errMAC) {
		if has, err = m.renewed(ctx, has); err != nil {
			return nil, err
		}
		plain, err = has.publish.decrypt(sealed)
	}
	if err != nil {
		return nil, fmt.Errorf("decrypt a job: %w", err)
	}
	return event.Fields(plain)
}
