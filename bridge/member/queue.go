package member

import (
	"context"
	"sync"
	"time"
)

// maxQueue bounds what was read and not decrypted yet, in bytes: two of the largest.
const maxQueue = 2 * MaxPublish

// published is what was read from the publish port, and when.
type published struct {
	message []byte
	read    time.Time
}

// queue is what waits for a key. Who puts does not wait.
type queue struct {
	wake chan struct{}

	mu    sync.Mutex
	list  []published
	bytes int
	left  int // that there was no room for
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

func (q *queue) put(message []byte, read time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	size := len(message) + 64
	if q.bytes+size > maxQueue {
		q.left++
		return
	}
	q.list = append(q.list, published{message, read})
	q.bytes += size
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take waits for the next one. left is how many were lost since the last.
func (q *queue) take(ctx context.Context) (p published, left int, err error) {
	for {
		q.mu.Lock()
		if len(q.list) > 0 {
			p, q.list = q.list[0], q.list[1:]
			q.bytes -= len(p.message) + 64
			left, q.left = q.left, 0
			q.mu.Unlock()
			return p, left, nil
		}
		q.mu.Unlock()
		select {
		case <-ctx.Done():
			return published{}, 0, ctx.Err()
		case <-q.wake:
		}
	}
}
