package service

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"phoenix/bridge/decide"
	"phoenix/bridge/event"
	"phoenix/bridge/fleet"
)

// newBroken is an engine with a breaker of 2/3 and so many slots.
func newBroken(t *testing.T, slots int, ids ...string) *driven {
	d := newDriven(t, ids...)
	d.engine.cfg.Breakers = fleet.BreakersOf(d.Store)
	d.engine.cfg.Highstate.Breaker = decide.Breaker{Failed: 2, Last: 3}
	d.engine.cfg.Concurrency = slots
	return d
}

// end returns a retcode for the highstate of a minion, as it was published last.
func (d *driven) end(id string, retcode int) {
	d.t.Helper()
	for i := len(d.published) - 1; i >= 0; i-- {
		for _, target := range d.published[i].Targets {
			if target == id {
				d.returns(event.Return{JID: d.published[i].JID, ID: id, Fun: "state.highstate", Retcode: retcode})
				return
			}
		}
	}
	d.t.Fatalf("%s: nothing was published", id)
}

func (d *driven) resume() {
	d.t.Helper()
	b := d.engine.cfg.Breakers
	last, err := b.LastBreaker(d.t.Context())
	if err != nil && !errors.Is(err, fleet.ErrCorrupt) {
		d.t.Fatal(err)
	}
	if _, mine, err := b.WriteBreaker(d.t.Context(), decide.Resume(last, "root", d.clock)); !mine || err != nil {
		d.t.Fatal(mine, err)
	}
}

// With 2 slots and a breaker of 2/3, of 20 minions with broken states at most 4 run them.
func TestBreakerOpens(t *testing.T) {
	d := newBroken(t, 2, ids(20)...)
	_ = d.drive(0)
	sent := 0
	for round := 0; len(d.sent()) > sent; round++ {
		sent = len(d.sent())
		for id, h := range d.engine.highstates {
			if h.Row.ClaimState == fleet.Claimed && h.Ended == nil {
				d.end(id, 2)
			}
		}
		_ = d.drive(time.Minute)
	}
	if sent > 4 {
		t.Errorf("%d minions ran broken states", sent)
	}
	for id, n := range d.sent() {
		if n != 1 {
			t.Errorf("%s ran them %d times", id, n)
		}
	}
	s := d.engine.Status()
	d.engine.publishStatus()
	if s = d.engine.Status(); s.Breaker == "" || s.Halted != 20 || s.Running != 0 {
		t.Errorf("%q, %d halted, %d run", s.Breaker, s.Halted, s.Running)
	}
	if why := d.engine.highstates["i-019"].why; !strings.Contains(why, "phoenix highstate resume") {
		t.Errorf("it shows %q", why)
	}
	// One that an operator asks for runs, and closes nothing.
	if _, err := fleet.ApplyOne(t.Context(), d.Store, fleet.Rerun{InstanceID: "i-019"}); err != nil {
		t.Fatal(err)
	}
	d.here("i-019")
	d.engine.highstates["i-019"].stale = true // as a comparison has it
	_ = d.drive(time.Second)
	d.end("i-019", 0)
	_ = d.drive(time.Minute)
	if row := d.row("i-019"); !row.HighstateRan || row.HighstateRunner != "m" || len(d.sent()) != sent+1 {
		t.Errorf("%+v, %d ran", row, len(d.sent()))
	}
	// An operator closes it: all that are left run, those that failed once more.
	d.resume()
	d.engine.cfg.Concurrency = 100
	_ = d.drive(breakerEvery + time.Second)
	total := 0
	for _, id := range ids(20) {
		total += d.sent()[id]
		if id != "i-019" {
			d.end(id, 0)
		}
	}
	_ = d.drive(time.Second)
	if want := 20 + sent; total != want {
		t.Errorf("%d highstates were published, want %d", total, want)
	}
	for _, id := range ids(20) {
		if row := d.row(id); !row.HighstateRan {
			t.Errorf("%s: %+v", id, row)
		}
	}
}

// The breaker that another master opened holds here, from the next claim on.
func TestBreakerOpenedElsewhere(t *testing.T) {
	d := newBroken(t, 10, ids(3)...)
	open := fleet.Breaker{Version: 1, Writer: "other", Opened: "2026-01-01T00:00:00.000Z", OpenedBy: "other",
		Reason: "seen elsewhere"}
	_ = d.engine.readBreaker(t.Context()) // closed
	if _, mine, err := d.engine.cfg.Breakers.WriteBreaker(t.Context(), open); !mine || err != nil {
		t.Fatal(mine, err)
	}
	_ = d.drive(time.Minute)
	if len(d.sent()) != 0 {
		t.Errorf("published to %v", d.sent())
	}
	d.resume()
	_ = d.drive(breakerEvery + time.Second)
	if len(d.sent()) != 3 {
		t.Errorf("after it was closed, published to %v", d.sent())
	}
}

// faultyBreakers fails for some of what it is asked.
type faultyBreakers struct {
	fleet.Breakers
	read, write error
	rivals      int // so many writes are overtaken by another master's result
}

func (f *faultyBreakers) LastBreaker(ctx context.Context) (fleet.Breaker, error) {
	if f.read != nil {
		return fleet.Breaker{}, f.read
	}
	return f.Breakers.LastBreaker(ctx)
}

func (f *faultyBreakers) WriteBreaker(ctx context.Context, next fleet.Breaker) (fleet.Breaker, bool, error) {
	if f.write != nil {
		return fleet.Breaker{}, false, f.write
	}
	if f.rivals > 0 {
		f.rivals--
		last, err := f.LastBreaker(ctx)
		if err != nil {
			return last, false, err
		}
		last.Version, last.Writer = last.Version+1, fmt.Sprint("rival ", f.rivals)
		if _, _, err := f.Breakers.WriteBreaker(ctx, last); err != nil {
			return last, false, err
		}
	}
	return f.Breakers.WriteBreaker(ctx, next)
}

// A store that is away while failures are to be counted loses none of them, and lets
// nothing begin; nor does a master that writes at the same time.
func TestBreakerHalfFailures(t *testing.T) {
	away := fmt.Errorf("read: %w", fleet.ErrUnavailable)
	for name, fault := range map[string]faultyBreakers{
		"cannot be read": {read: away}, "cannot be written": {write: away}, "written by others": {rivals: 5},
	} {
		t.Run(name, func(t *testing.T) {
			d := newBroken(t, 2, ids(6)...)
			faulty := &faultyBreakers{Breakers: d.engine.cfg.Breakers}
			d.engine.cfg.Breakers = faulty
			_ = d.drive(0)
			if len(d.sent()) != 2 {
				t.Fatalf("published to %v", d.sent())
			}
			faulty.read, faulty.write, faulty.rivals = fault.read, fault.write, fault.rivals
			for id := range d.sent() {
				d.end(id, 2)
			}
			_ = d.drive(time.Minute)
			faulty.read, faulty.write = nil, nil
			_ = d.drive(time.Hour)
			last, err := faulty.LastBreaker(t.Context())
			if err != nil || !last.Open() || len(last.Last) != 2 || len(d.sent()) != 2 {
				t.Errorf("%+v, %v; published to %v", last, err, d.sent())
			}
			for id := range d.sent() {
				if row := d.row(id); row.ClaimState != fleet.Failed {
					t.Errorf("%s: %+v", id, row)
				}
			}
		})
	}
}

// A record that cannot be decoded counts as open, and an operator's resume repairs it.
// What is under way ends.
func TestBreakerDamaged(t *testing.T) {
	d := newBroken(t, 1, ids(2)...)
	faulty := &faultyBreakers{Breakers: d.engine.cfg.Breakers}
	d.engine.cfg.Breakers = faulty
	_ = d.drive(0)
	faulty.read = fmt.Errorf("item #breaker: %w", fleet.ErrCorrupt)
	for id := range d.sent() {
		d.end(id, 0)
	}
	_ = d.drive(time.Minute)
	if row := d.row("i-000"); !row.HighstateRan || len(d.sent()) != 1 {
		t.Errorf("%+v; published to %v", row, d.sent())
	}
	if why := d.engine.breakerOpen(); !strings.Contains(why, "#breaker") || !strings.Contains(why, "resume") {
		t.Errorf("it says %q", why)
	}
	d.resume()
	faulty.read = nil
	_ = d.drive(breakerEvery + time.Second)
	if len(d.sent()) != 2 {
		t.Errorf("published to %v", d.sent())
	}
}

// A return that comes while its highstate waits for the breaker is recorded at once.
func TestBreakerLateReturn(t *testing.T) {
	d := newBroken(t, 1, ids(1)...)
	_ = d.drive(0)
	d.end("i-000", 2)
	_ = d.drive(0)
	open := fleet.Breaker{Version: 2, Writer: "other", Opened: "2026-01-01T00:00:00.000Z", Reason: "seen elsewhere"}
	if _, mine, err := d.engine.cfg.Breakers.WriteBreaker(t.Context(), open); !mine || err != nil {
		t.Fatal(mine, err)
	}
	_ = d.drive(time.Minute)
	if h := d.engine.highstates["i-000"]; !h.halted {
		t.Fatalf("it waits for something else: %s", h.why)
	}
	d.end("i-000", 0)
	_ = d.drive(0)
	if row := d.row("i-000"); !row.HighstateRan {
		t.Errorf("%+v", row)
	}
}
