package lab

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"phoenix/bridge/bus"
	"phoenix/bridge/event"
	"phoenix/bridge/salt"
)

const (
	// pingEvery is how often a listener asks the minions that it waits for. Each ping
	// is a process on each of them, so on a busy machine, where an answer takes longer
	// than half of it, it asks less often: else they would only work off pings.
	pingEvery = time.Second
	// pingMost bounds the time between two pings.
	pingMost = 15 * time.Second
)

// Listener notes which minions a master serves: it pings those that it waits for
// every second, and hears on the master's event bus who answers.
type Listener struct {
	master *salt.Master
	bus    *bus.Bus

	mu      sync.Mutex
	waiting []string
	pings   map[string]time.Time // when they were sent, by jid, since Wait
	took    time.Duration        // the last answer
	heard   map[string]time.Time // by minion
	told    func(id string)      // of each answer; nil: the first is enough
	sent    map[string]time.Time // pings that the master took, by jid, since Wait
	answers map[string][]string  // who answered them, by jid
	err     error                // of the last ping
}

// Listen starts a listener, which ends with the test. The master must be ready.
func (m *Master) Listen() *Listener {
	m.lab.tb.Helper()
	l, stop := m.listen(false)
	m.lab.tb.Cleanup(stop)
	return l
}

// listen is Listen for a listener that its caller stops, and that asks less and less
// often if patient.
func (m *Master) listen(patient bool) (l *Listener, stop func()) {
	m.lab.tb.Helper()
	config, err := salt.ReadConfig(m.ConfigPath())
	if err != nil {
		m.lab.tb.Fatalf("listen to %s: %v", m.Name, err)
	}
	master, err := salt.NewMaster(config)
	if err != nil {
		m.lab.tb.Fatalf("listen to %s: %v", m.Name, err)
	}
	b, err := bus.New(bus.Config{Path: m.EventSocket(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		m.lab.tb.Fatalf("listen to %s: %v", m.Name, err)
	}
	l = &Listener{master: master, bus: b}
	l.Wait()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = b.Run(ctx, l) }) // it ends with ctx alone
	running.Go(func() { l.ask(ctx, patient) })
	return l, func() {
		cancel()
		running.Wait()
	}
}

// Wait forgets what was heard, and asks these minions from now on.
func (l *Listener) Wait(ids ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting, l.pings, l.heard, l.told = ids, map[string]time.Time{}, map[string]time.Time{}, nil
	l.sent, l.answers = map[string]time.Time{}, map[string][]string{}
}

// Follow is Wait without end: these minions are asked on and on, and each answer
// is told.
func (l *Listener) Follow(told func(id string), ids ...string) {
	l.Wait(ids...)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told = told
}

// Heard says when minions first answered, since Wait.
func (l *Listener) Heard() map[string]time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.heard)
}

// Pings returns how many pings the master took after a moment, and how many of them the
// minion has answered. It counts for Follow.
func (l *Listener) Pings(id string, after time.Time) (sent, answered int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for jid, at := range l.sent {
		if at.After(after) {
			sent++
			if slices.Contains(l.answers[jid], id) {
				answered++
			}
		}
	}
	return sent, answered
}

// Err is why the last ping was not sent; nil: it was.
func (l *Listener) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Event implements [bus.Handler].
func (l *Listener) Event(e event.Event) {
	if e.Kind != event.KindReturn {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	id := string(e.ID)
	sent, ours := l.pings[string(e.JID)]
	if !ours {
		return
	}
	l.took = time.Since(sent)
	if l.told != nil {
		l.answers[string(e.JID)] = append(l.answers[string(e.JID)], id)
	}
	if l.heard[id].IsZero() {
		l.heard[id] = time.Now()
	}
	if l.told != nil {
		l.told(id)
	}
}

// Gap implements [bus.Handler]: the next ping will tell.
func (l *Listener) Gap(string) {}

// ask pings until ctx ends, at once and then every so often; without any answer
// ever less often if patient. A master that is dead refuses at once, one whose packets
// are lost is given as long as a ping's turn.
func (l *Listener) ask(ctx context.Context, patient bool) {
	jid, pause := "", time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		jid = salt.NewJID(time.Now(), jid)
		l.mu.Lock()
		switch {
		case l.took > 0:
			pause = min(max(pingEvery, 2*l.took), pingMost)
		case patient:
			pause = min(max(pingEvery, pause*3/2), pingMost)
		default:
			pause = pingEvery
		}
		var ids []string
		for _, id := range l.waiting {
			if l.told != nil || l.heard[id].IsZero() {
				ids = append(ids, id)
			}
		}
		l.pings[jid] = time.Now()
		l.mu.Unlock()
		if len(ids) == 0 {
			continue
		}
		pinging, cancel := context.WithTimeout(ctx, pause)
		begun := time.Now()
		_, err := l.master.Ping(pinging, jid, ids)
		cancel()
		l.mu.Lock()
		if l.err = err; err == nil && l.told != nil {
			l.sent[jid] = begun
		}
		l.mu.Unlock()
	}
}
