package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"phoenix/bridge/bus"
	"phoenix/bridge/event"
	"phoenix/lab"
)

const (
	// authEvery: an impostor is more eager than a minion, which asks once a
	// second in the lab, and every ten by Salt's default.
	authEvery = 300 * time.Millisecond
	// lookEvery: Salt writes the file of an accepted key, and events, some
	// milliseconds apart; no key that was accepted is gone sooner.
	lookEvery = 5 * time.Millisecond
)

// impostor authenticates for a minion's id with a key of its own, on and on, while both
// the key store and the bus are watched for any sign that the key was accepted.
type impostor struct {
	master *lab.Master
	id     string
	key    string

	mu     sync.Mutex
	acts   map[string]int // what the master said of the impostor's requests
	caught []string       // signs of its being let in
}

// impersonate sets an impostor on a master, until the test ends.
func impersonate(t *testing.T, master *lab.Master, id string) *impostor {
	t.Helper()
	i := &impostor{master: master, id: id, key: lab.UnknownKey(), acts: map[string]int{}}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	events, err := bus.New(bus.Config{Path: master.EventSocket()})
	if err != nil {
		t.Fatal(err)
	}
	connected := make(chan struct{})
	wg.Go(func() {
		first := sync.OnceFunc(func() { close(connected) })
		if err := events.Run(ctx, handler{i.hear, first}); err != nil && !errors.Is(err, context.Canceled) {
			i.note("bus: " + err.Error())
		}
	})
	select {
	case <-connected: // nothing that follows is missed
	case <-time.After(within):
		t.Fatalf("no connection to the bus of %s within %v: %v", master.Name, within, events.State().LastErr)
	}
	wg.Go(func() { every(ctx, lookEvery, i.look) })
	// the master may be restarting
	wg.Go(func() { every(ctx, authEvery, func() { _ = master.TryRequestAuth(id, i.key) }) })
	return i
}

// look reads the key store.
func (i *impostor) look() {
	text, err := os.ReadFile(filepath.Join(i.master.PKIDir(), "minions", i.id))
	if err == nil && bytes.Contains(text, i.sign()) {
		i.note("its key is in the key store as accepted")
	}
}

// hear reads the bus: events of authentication and, on 3008, of keys carry the
// key that they are about.
func (i *impostor) hear(e event.Event) {
	if e.Kind != event.KindAuth && e.Kind != event.KindKey || !bytes.Contains(e.Data, i.sign()) {
		return
	}
	act := "unreadable"
	if a, err := e.Auth(); err == nil {
		act = a.Act
	}
	i.mu.Lock()
	i.acts[act]++
	i.mu.Unlock()
	if strings.HasPrefix(act, "accept") {
		i.note(fmt.Sprintf("event %s says %s", e.Tag, act))
	}
}

// sign is a piece of the key that no other key has.
func (i *impostor) sign() []byte {
	return []byte(strings.Split(i.key, "\n")[3])
}

func (i *impostor) note(what string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.caught) < 10 {
		i.caught = append(i.caught, what)
	}
}

// heard is how often the master said act ("pend", "denied") of its requests.
func (i *impostor) heard(act string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.acts[act]
}

// outside fails the test if the impostor was let in at any time until now.
func (i *impostor) outside(t *testing.T) {
	t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.caught) > 0 {
		t.Fatalf("the impostor was let in: %q; its requests: %v", i.caught, i.acts)
	}
}

// handler is a bus.Handler made of functions.
type handler struct {
	event     func(event.Event)
	connected func()
}

func (h handler) Event(e event.Event) { h.event(e) }
func (h handler) Gap(string)          { h.connected() }

// every calls do again and again until ctx ends.
func every(ctx context.Context, pause time.Duration, do func()) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		do()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
