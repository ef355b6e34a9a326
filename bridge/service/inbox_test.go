package service

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"phoenix/bridge/event"
	"phoenix/bridge/retry"
)

// sent makes the event that a frame with that tag and data would be split into.
func sent(t *testing.T, tag string, data map[string]any) event.Event {
	t.Helper()
	raw, err := msgpack.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	e, err := event.SplitBody(append([]byte(tag+"\n\n"), raw...))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestInboxHearsWhatMatters(t *testing.T) {
	in := NewInbox()
	in.subscribe("20260101000000000001")
	for _, e := range []event.Event{
		sent(t, "salt/auth", map[string]any{"id": "knocks", "act": "pend", "pub": "ignored"}),
		sent(t, "salt/auth", map[string]any{"id": "known", "act": "accept"}),
		sent(t, "salt/key", map[string]any{"id": "by-hand", "act": "accepted"}),
		sent(t, "salt/minion/here/start", map[string]any{"id": "here"}),
		sent(t, "minion_start", map[string]any{"id": "legacy"}),
		sent(t, "salt/minion/victim/start", map[string]any{"id": "liar"}),
		sent(t, "salt/job/20260101000000000001/ret/a",
			map[string]any{"id": "a", "jid": "20260101000000000001", "fun": "state.highstate", "retcode": 0}),
		sent(t, "salt/job/20260101000000000001/ret/victim",
			map[string]any{"id": "liar", "jid": "20260101000000000001", "retcode": 0}),
		sent(t, "salt/job/20260101000000000002/ret/a",
			map[string]any{"id": "a", "jid": "20260101000000000002", "retcode": 0}),
	} {
		in.Event(e)
	}
	w := in.drain()
	if fmt.Sprint(w.ids) != "map[by-hand:false here:true knocks:false]" {
		t.Errorf("looks %v", w.ids)
	}
	if len(w.returns) != 1 || w.returns[0].ID != "a" {
		t.Errorf("returns %+v", w.returns)
	}
}

// E8: an engine that is blocked costs a comparison, not memory without bound.
func TestG7InboxIsBounded(t *testing.T) {
	in := NewInbox()
	in.subscribe("20260101000000000001")
	for i := range 3 * maxQueued {
		in.Enqueue(fmt.Sprintf("minion-%d", i), false)
		in.Return(event.Return{ID: fmt.Sprintf("minion-%d", i), JID: "20260101000000000001"})
	}
	in.Enqueue(strings.Repeat("x", maxID+1), true)
	n, dropped := in.waiting()
	if n != 2*maxQueued || dropped != 4*maxQueued {
		t.Errorf("%d wait, %d dropped", n, dropped)
	}
	if w := in.drain(); w.gap == "" {
		t.Error("what was dropped is not compared")
	}
	if n, _ := in.waiting(); n != 0 {
		t.Errorf("%d wait after all was taken", n)
	}
}

func TestInboxWakesOnceForMany(t *testing.T) {
	in := NewInbox()
	for i := range 10 {
		in.Enqueue(fmt.Sprint(i), false)
	}
	<-in.Wake()
	select {
	case <-in.Wake():
		t.Error("woken twice")
	default:
	}
}

// A rush is worked off when it pauses, and not much later if it does not.
func TestGather(t *testing.T) {
	const apart = debouncePause / 4
	for name, test := range map[string]struct {
		events int
		took   time.Duration
	}{
		"no rush":          {0, debouncePause},
		"crowd":            {10, 9*apart + debouncePause},
		"rush without end": {1 << 20, debounceMost},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in := NewInbox()
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				wg.Go(func() {
					for i := 0; i < test.events && ctx.Err() == nil; i++ {
						in.Enqueue(fmt.Sprint(i%100), false)
						retry.Sleep(ctx, apart)
					}
				})
				begun := time.Now()
				in.debounce(ctx)
				if took := time.Since(begun); took != test.took {
					t.Errorf("took %v, not %v", took, test.took)
				}
				cancel()
				wg.Wait()
				begun = time.Now()
				in.debounce(ctx)
				if took := time.Since(begun); took != 0 {
					t.Errorf("took %v once told to stop", took)
				}
			})
		})
	}
}
