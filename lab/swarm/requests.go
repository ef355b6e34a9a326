package swarm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// errUnanswered is returned for a request that the master did not answer.
var errUnanswered = errors.New("master does not answer")

// requests are a few connections to one master's request channel, shared by all
// minions. Each has one request on its way.
type requests struct {
	addr    string
	timeout time.Duration
	queue   chan request
}

type request struct {
	body   []byte
	answer chan<- answer
}

type answer struct {
	body []byte
	err  error
}

func newRequests(addr string, timeout time.Duration) *requests {
	return &requests{addr: addr, timeout: timeout, queue: make(chan request)}
}

// work serves with one connection until ctx ends.
func (r *requests) work(ctx context.Context) {
	var w *wire
	defer func() {
		if w != nil {
			_ = w.Close() // nothing more is asked
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case next := <-r.queue:
			body, again, err := r.try(ctx, &w, next.body)
			if again {
				body, _, err = r.try(ctx, &w, next.body)
			}
			next.answer <- answer{body, err}
		}
	}
}

// try sends one request. Again is true if the connection was an old one, which the
// master may have closed while it was idle.
func (r *requests) try(ctx context.Context, w **wire, body []byte) (reply []byte, again bool, err error) {
	reused := *w != nil
	if !reused {
		if *w, err = dial(r.addr, "REQ", 4<<10); err != nil {
			*w = nil
			return nil, false, fmt.Errorf("%w: %v", errUnanswered, err)
		}
	}
	conn := *w
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	err = conn.SetDeadline(time.Now().Add(r.timeout))
	if err == nil {
		// The empty frame ends the (empty) return path of a REQ socket.
		err = conn.send(append(frame(flagMore, nil), frame(0, body)...))
	}
	if err == nil {
		reply, err = conn.message(nil)
	}
	if err != nil {
		_ = conn.Close() // a REQ socket that lost its turn is of no more use
		*w = nil
		var timeout net.Error
		late := errors.As(err, &timeout) && timeout.Timeout()
		return nil, reused && !late && ctx.Err() == nil, fmt.Errorf("%w: %v", errUnanswered, err)
	}
	return reply, false, nil
}

// send sends one request, when a connection is free, and returns its answer.
func (r *requests) send(ctx context.Context, body []byte) ([]byte, error) {
	answers := make(chan answer, 1)
	select {
	case r.queue <- request{body, answers}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case a := <-answers:
		return a.body, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
