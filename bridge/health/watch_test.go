package health

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A master with much to do is not ready, but known to live; one that hangs, or of
// which most workers do, is neither. Requests are bounded whatever it does.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var waiting, most, asked atomic.Int64
		var how atomic.Value
		how.Store("well")
		bus := atomic.Bool{}
		bus.Store(true)
		w := NewWatch(func(ctx context.Context) error {
			for now := waiting.Add(1); ; {
				if was := most.Load(); now <= was || most.CompareAndSwap(was, now) {
					break
				}
			}
			defer waiting.Add(-1)
			n, takes := asked.Add(1), time.Millisecond
			switch how.Load() {
			case "refuses":
				return errors.New("connection refused")
			case "busy":
				takes = 20 * time.Second
			case "hangs":
				takes = time.Hour
			case "workers hang":
				if n%3 != 0 {
					takes = time.Hour
				}
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(takes):
				return nil
			}
		}, bus.Load)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		for _, c := range []struct {
			how           string
			bus           bool
			lasts         time.Duration
			serves, lives bool
			says          string
		}{
			{"well", true, time.Minute, true, true, ""},
			{"busy", true, time.Hour, false, true, "no answer within 15s"},
			{"well", true, 2 * time.Minute, true, true, ""},
			{"well", false, time.Minute, false, true, "event bus"},
			{"well", true, time.Minute, true, true, ""},
			{"hangs", true, 2 * time.Minute, false, false, "no answer within 15s"},
			{"well", true, 2 * time.Minute, true, true, ""},
			{"workers hang", true, 10 * time.Minute, false, false, "most requests"},
			{"well", true, 2 * time.Minute, true, true, ""},
			{"refuses", true, time.Minute, false, false, "refused"},
		} {
			how.Store(c.how)
			bus.Store(c.bus)
			time.Sleep(c.lasts)
			synctest.Wait()
			err := w.Fault()
			lives := time.Since(w.Alive()) < 15*time.Second
			if (err == nil) != c.serves || lives != c.lives || err != nil && !strings.Contains(err.Error(), c.says) ||
				!w.Served() {
				t.Errorf("%+v: %v; last answer %v ago", c, err, time.Since(w.Alive()))
			}
		}
		if most.Load() > int64(atATime) {
			t.Errorf("%d requests at a time", most.Load())
		}
		t.Logf("%d requests at a time at most, %d in all", most.Load(), asked.Load())
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A hung master at the start is not asked in a hurry for ever.
func TestWatchFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		w := NewWatch(func(ctx context.Context) error {
			asked.Add(1)
			<-ctx.Done()
			return ctx.Err()
		}, func() bool { return true })
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		if err := w.Run(ctx); err != nil {
			t.Error(err)
		}
		if asked.Load() > 125 || w.Served() || !w.Alive().IsZero() {
			t.Errorf("asked %d times; served %v, alive %v", asked.Load(), w.Served(), w.Alive())
		}
	})
}
