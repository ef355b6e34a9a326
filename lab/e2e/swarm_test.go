package e2e_test

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"

	"phoenix/lab"
	"phoenix/lab/swarm"
)

// released plays minions of these ids on a master until the test ends. They send an
// auth request every second, and share a few key pairs.
func released(t *testing.T, l *lab.Lab, master *lab.Master, highstate time.Duration, ids ...string) *swarm.Swarm {
	t.Helper()
	s, err := swarm.New(swarm.Config{IDs: ids,
		Masters: []string{net.JoinHostPort(master.Addr, strconv.Itoa(l.RetPort))},
		Keys:    4, Retry: time.Second, Highstate: highstate})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return s
}

// numbered makes ids that have the form of instance ids.
func numbered(from, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("i-%08x", from+i)
	}
	return ids
}
