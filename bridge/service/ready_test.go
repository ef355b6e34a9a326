package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/health"
	"phoenix/bridge/retry"
)

// shelf is a store that has masters' rows and no minions, within one process: the
// clock of synctest knows no file and no socket.
type shelf struct {
	mu   sync.Mutex
	rows map[string]fleet.Master
}

func (s *shelf) change(id string, to func(fleet.Master, bool) (fleet.Master, error)) (fleet.Master, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	row, found := s.rows[id]
	row, err := to(row, found)
	if err == nil {
		if s.rows == nil {
			s.rows = map[string]fleet.Master{}
		}
		s.rows[id] = row
	}
	return row, err
}

func (s *shelf) row(id string) fleet.Master {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rows[id]
}

func (s *shelf) Beat(_ context.Context, b fleet.Beat) (fleet.Master, error) {
	return s.change(b.InstanceID, b.Apply)
}

func (s *shelf) RetireMaster(_ context.Context, id string) error {
	_, err := s.change(id, func(row fleet.Master, _ bool) (fleet.Master, error) {
		return row.Retired(id, time.Now()),
			nil
	})
	return err
}

func (s *shelf) DrainMaster(_ context.Context, id string, draining bool) error {
	_, err := s.change(id, func(row fleet.Master, _ bool) (fleet.Master, error) {
		row.Draining = draining
		return row, nil
	})
	return err
}

func (s *shelf) Masters(context.Context) (rows []fleet.Master, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, row := range s.rows {
		rows = append(rows, row)
	}
	return rows, nil
}

func (s *shelf) Minion(context.Context, string) (fleet.Minion, error) {
	return fleet.Minion{}, fleet.ErrNotFound
}

func (s *shelf) Minions(context.Context, []string) (map[string]fleet.Minion, error) {
	return map[string]fleet.Minion{}, nil
}

func (s *shelf) Apply(context.Context, []fleet.Change) ([]fleet.Result, error) {
	return nil, errors.New("a shelf has no minions")
}

func (s *shelf) ByStatus(context.Context, fleet.Status, string, func([]fleet.Minion) error) error {
	return nil
}

func (s *shelf) Proofs(context.Context, []string) (map[string]fleet.Proof, error) { return nil, nil }

func (s *shelf) Prune(context.Context) (int, error)       { return 0, nil }
func (s *shelf) Since(context.Context) (time.Time, error) { return time.Time{}, nil }
func (s *shelf) Close() error                             { return nil }

// served is a bridge whose master and gate the test controls.
type served struct {
	*Service
	store *shelf
	log   *lines

	mu          sync.Mutex
	fault, gate error
}

func (s *served) set(to *error, err error) {
	s.mu.Lock()
	*to = err
	s.mu.Unlock()
}

func (s *served) get(of *error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *of
}

// errBusy is the fault of a master that answers, each time after 20 s.
var errBusy = errors.New("much to do")

type lines struct {
	mu   sync.Mutex
	text []string
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, string(p))
	return len(p), nil
}

func (l *lines) count(of string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.text {
		if strings.Contains(line, of) {
			n++
		}
	}
	return n
}

// proberFunc is a master's answer to a request.
type proberFunc func(context.Context) error

func (f proberFunc) Prove(ctx context.Context) error { return f(ctx) }

// connectedBus is an event bus that is always connected.
type connectedBus struct{}

func (connectedBus) Connected() bool { return true }

// setup is what a bridge is made of.
type setup struct {
	cfg    Config
	parts  Parts
	beside func(s *Service) func(context.Context) error // a loop beside the service; nil: none
}

// newSetup has a master without minions that answers at once.
func newSetup(store fleet.Store, incarnation string, log *slog.Logger) setup {
	fake := newPlain()
	return setup{
		cfg: Config{InstanceID: "m", Incarnation: incarnation, Admit: decide.Bound,
			ValidID:   func(string) bool { return true },
			Highstate: decide.Policy{Lease: 30 * time.Second}, ResyncEvery: time.Hour, PollEvery: time.Hour},
		parts: Parts{Store: store, Master: fake, Keys: fake, Inbox: NewInbox(), Bus: connectedBus{},
			Counters: &Counters{}, Log: log, Decisions: log,
			Prober:      proberFunc(func(context.Context) error { return nil }),
			MasterKey:   func() (string, error) { return "key", nil },
			Connections: func(bool) (int, error) { return 0, nil }},
	}
}

// serve runs a bridge until the returned stop, which gives what Run returned.
func serve(t *testing.T, store *shelf, incarnation string, edit func(*served, *setup)) (s *served, stop func() error) {
	t.Helper()
	s = &served{store: store, log: &lines{}}
	o := newSetup(store, incarnation, slog.New(slog.NewTextHandler(s.log, nil)))
	o.parts.Checks = []Check{func(context.Context) error { return s.get(&s.gate) }}
	o.parts.Prober = proberFunc(func(ctx context.Context) error {
		err := s.get(&s.fault)
		if err != errBusy {
			return err
		}
		if !retry.Sleep(ctx, 20*time.Second) {
			return ctx.Err()
		}
		return nil
	})
	if edit != nil {
		edit(s, &o)
	}
	var err error
	if s.Service, err = New(o.cfg, fleet.Beat{}, o.parts); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.Run(ctx) })
	if o.beside != nil {
		loop := o.beside(s.Service)
		g.Go(func() error { return loop(ctx) })
	}
	return s, func() error {
		cancel()
		return g.Wait()
	}
}

// Each part but the checks is needed; New names all that are missing.
func TestServiceNeedsItsParts(t *testing.T) {
	o := newSetup(&shelf{}, "1", slog.New(slog.DiscardHandler))
	if _, err := New(o.cfg, fleet.Beat{}, o.parts); err != nil {
		t.Error(err)
	}
	_, err := New(o.cfg, fleet.Beat{}, Parts{})
	for part := range reflect.TypeFor[Parts]().Fields() {
		name := strings.ToLower(part.Name)
		if name == "masterkey" {
			name = "master key"
		}
		if said := strings.Contains(fmt.Sprint(err), "it has no "+name); said == (name == "checks") {
			t.Errorf("%s: %v", part.Name, err)
		}
	}
}

// A master is ready while it is proven to serve, and not when that ends; it is
// again by itself.
func TestReadyIsTheMasters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &shelf{}
		s, stop := serve(t, store, "1", nil)
		time.Sleep(2 * time.Second)
		if row := store.row("m"); !row.Ready || row.MasterKeySHA256 != "key" || s.Ready() != nil ||
			!s.beats.LeaseValid(time.Now()) {
			t.Fatalf("%+v, %v", row, s.Ready())
		}
		s.set(&s.fault, errors.New("connection refused"))
		died := time.Now()
		for store.row("m").Ready {
			time.Sleep(time.Second)
			if time.Since(died) > 20*time.Second {
				t.Fatal("still ready 20 s after its master died")
			}
		}
		t.Logf("not ready %v after the master died", time.Since(died))
		if err := s.Ready(); err == nil ||
			!strings.Contains(err.Error(), "no worker of the master has answered for 15s: connection refused") {
			t.Errorf("says %v", err)
		}
		if s.beats.LeaseValid(time.Now()) {
			t.Error("it would still publish")
		}
		if r := s.Report(); r.Ready || r.NotReady == "" || !r.Unproven || !r.StoreReached {
			t.Errorf("reports %+v", r)
		}
		time.Sleep(time.Hour)
		if n := s.log.count("not ready"); n != 1 {
			t.Errorf("%d lines in an hour: %q", n, s.log.text)
		}
		s.set(&s.fault, nil)
		back := time.Now()
		for !store.row("m").Ready {
			time.Sleep(time.Second)
		}
		t.Logf("ready %v after the master came back", time.Since(back))
		if d := time.Since(back); d > 10*time.Second || !s.beats.LeaseValid(time.Now()) {
			t.Errorf("ready again after %v", d)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		if !store.row("m").Ready {
			t.Error("the end of a bridge moved the minions")
		}
	})
}

// A bridge that is started anew leaves the row as it is while it gets ready, and no
// longer than it may.
func TestReadyIsKeptOverARestart(t *testing.T) {
	for _, c := range []struct {
		name        string
		fault, gate error
		until       time.Duration // the row says ready; 0: it goes on to
	}{
		{"all is well", nil, nil, 0},
		{"the master has died meanwhile", errors.New("connection refused"), nil, health.Lost},
		{"the gate is not passed", nil, errors.New("no top.sls"), keepReadyFor},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &shelf{}
				_, stop := serve(t, store, "1", nil)
				time.Sleep(2 * time.Second)
				if err := stop(); err != nil || !store.row("m").Ready {
					t.Fatal("not ready at first", err)
				}
				s, stop := serve(t, store, "2", func(s *served, _ *setup) { s.fault, s.gate = c.fault, c.gate })
				begun, lasted := time.Now(), time.Duration(0)
				for time.Since(begun) < 2*keepReadyFor {
					time.Sleep(500 * time.Millisecond)
					row := store.row("m")
					if row.Incarnation == "2" && row.MasterKeySHA256 != "key" {
						t.Fatalf("the row lost the master's key: %+v", row)
					}
					if row.Ready {
						lasted = time.Since(begun)
					}
				}
				want := c.until
				if want == 0 {
					want = 2 * keepReadyFor
				}
				if off := want - lasted; off < 0 || off > 5*time.Second {
					t.Errorf("the row said ready for %v, want %v", lasted, want)
				}
				if c.until != 0 && s.Ready() == nil {
					t.Error("it says that it is ready")
				}
				if err := stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A gate that is not passed keeps a new master out, for as long as it takes.
func TestReadyWaitsForTheGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &shelf{}
		s, stop := serve(t, store, "1", func(s *served, _ *setup) { s.gate = errors.New("base has no top.sls") })
		time.Sleep(time.Hour)
		if err := s.Ready(); store.row("m").Ready || err == nil || err.Error() != "base has no top.sls" {
			t.Errorf("%+v, %v", store.row("m"), err)
		}
		s.set(&s.gate, nil)
		time.Sleep(time.Minute)
		if err := s.Ready(); err != nil || !store.row("m").Ready {
			t.Error(err)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// Of two bridges with one instance_id the one that came second ends, with a line
// that says why; the first says so while both run.
func TestTwoBridgesWithOneInstanceID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &shelf{}
		first, stopFirst := serve(t, store, "1", nil)
		time.Sleep(time.Minute + 2*time.Second)
		begun := time.Now()
		_, stopSecond := serve(t, store, "2", nil)
		time.Sleep(4 * beatEvery)
		err := stopSecond()
		if !errors.Is(err, ErrTwin) {
			t.Errorf("the second ended with %v", err)
		}
		if n := first.log.count(ErrTwin.Error()); n != 1 {
			t.Errorf("after %v the first has said: %q", time.Since(begun), first.log.text)
		}
		time.Sleep(time.Minute)
		if err := first.Ready(); err != nil || !store.row("m").Ready {
			t.Errorf("a minute later: %v", err)
		}
		if err := stopFirst(); err != nil {
			t.Error(err)
		}
		first.log.mu.Lock()
		defer first.log.mu.Unlock()
		if i := slices.IndexFunc(first.log.text,
			func(l string) bool { return strings.Contains(l, "other bridge with this instance_id is gone") }); i < 0 {
			t.Errorf("%q", first.log.text)
		}
	})
}

// A master whose instance is about to end marks itself, says so once, and begins no
// highstate as long as another master is ready; the last one goes on.
func TestDrainingByTheInstancesOwnWord(t *testing.T) {
	advice := filepath.Join(t.TempDir(), "followed-advice.m")
	synctest.Test(t, func(t *testing.T) {
		store := &shelf{}
		var mu sync.Mutex
		ends := false
		s, stop := serve(t, store, "1", func(_ *served, o *setup) {
			metadata := func(_ context.Context, path string) (string, bool, error) {
				mu.Lock()
				defer mu.Unlock()
				switch {
				case path == "placement/availability-zone":
					return "eu-west-1b", true, nil
				case path == "autoscaling/target-lifecycle-state" && ends:
					return "Terminated", true, nil
				}
				return "", false, nil
			}
			o.beside = func(s *Service) func(context.Context) error { return NewInstanceWatch(s, metadata, advice).Run }
		})
		time.Sleep(30 * time.Second)
		if row := store.row("m"); row.Draining || row.Zone != "eu-west-1b" {
			t.Fatalf("%+v", row)
		}
		mu.Lock()
		ends = true
		mu.Unlock()
		time.Sleep(2 * beatEvery)
		if row := store.row("m"); !row.Draining || !row.Ready {
			t.Errorf("%+v", row)
		}
		if s.beats.Draining() {
			t.Error("the only master takes no claims")
		}
		other := fleet.Beat{InstanceID: "other", Incarnation: "1", Ready: true}
		if _, err := store.Beat(t.Context(), other); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * beatEvery)
		if !s.beats.Draining() {
			t.Error("it takes claims, though another master is ready")
		}
		// The row of a bridge that died says ready for ever.
		time.Sleep(time.Hour)
		if s.beats.Draining() {
			t.Error("it takes no claims, though the other master's heart stands still")
		}
		if n := s.log.count("master drained"); n != 1 {
			t.Errorf("said %d times", n)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// A master that was retired says so, and neither that the store is away nor that it is ready.
func TestRetiredMasterSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &shelf{}
		if err := store.RetireMaster(t.Context(), "m"); err != nil {
			t.Fatal(err)
		}
		s, stop := serve(t, store, "1", nil)
		time.Sleep(time.Minute)
		r := s.Report()
		if r.Ready || !r.Retired || !r.StoreReached || !strings.Contains(r.NotReady, "set another instance_id") ||
			strings.Contains(r.NotReady, "store") {
			t.Errorf("reports %+v", r)
		}
		if s.beats.LeaseValid(time.Now()) {
			t.Error("it would publish")
		}
		if n := s.log.count(`msg=ready`); n != 0 {
			t.Errorf("%d times ready: %q", n, s.log.text)
		}
		if n := s.log.count("heartbeat not written"); n != 1 {
			t.Errorf("%d times: %q", n, s.log.text)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}
