package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/health"
)

// record is a fleet's record of heals.
type record struct {
	mu   sync.Mutex
	heal fleet.Heal
}

func (r *record) LastHeal(context.Context) (fleet.Heal, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.heal, nil
}

func (r *record) ClaimHeal(_ context.Context, id string, seen int64) (fleet.Heal, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.heal.Count == seen {
		r.heal = fleet.Heal{Count: seen + 1, InstanceID: id}
	}
	return r.heal, r.heal.InstanceID == id, nil
}

// TestHeal lets masters fail, and counts which are called unhealthy, and when.
func TestHeal(t *testing.T) {
	const after = 5 * time.Minute
	fault := errors.New("connection refused")
	for _, c := range []struct {
		name   string
		before fleet.Heal    // the record as masters find it
		fails  []string      // of m1, m2, m3
		lasts  time.Duration // until they serve again; 0: they do not
		want   []time.Duration
		how    string // else they refuse
	}{
		{"one of three", fleet.Heal{}, []string{"m1"}, 0, []time.Duration{after}, ""},
		{"two together: the second waits", fleet.Heal{}, []string{"m1", "m2"}, 0,
			[]time.Duration{after, after + health.Apart}, ""},
		{"all: the last ready one never, nor any other then", fleet.Heal{}, []string{"m1", "m2", "m3"}, 0, nil, ""},
		{"it comes back in time", fleet.Heal{}, []string{"m1"}, after - time.Minute, nil, ""},
		{"another was healed, who knows when", fleet.Heal{Count: 7, InstanceID: "m9"}, []string{"m1"}, 0,
			[]time.Duration{health.Apart}, ""},
		{"drained, to be worked on", fleet.Heal{}, []string{"m1"}, 0, nil, "drained"},
		{"busy: each answer takes 20 s", fleet.Heal{}, []string{"m1"}, 0, nil, "busy"},
		{"never served: the launching hook's time bounds it", fleet.Heal{}, []string{"m1"}, 0, nil, "never"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, rec := &shelf{}, &record{heal: c.before}
				var mu sync.Mutex
				var reported []string
				var at []time.Duration
				begun := time.Now()
				bridges := map[string]*served{}
				for _, id := range []string{"m1", "m2", "m3"} {
					s, stop := serve(t, store, "1", func(_ *served, o *setup) {
						o.cfg.InstanceID = id
						if c.how == "never" && slices.Contains(c.fails, id) {
							o.parts.Prober = proberFunc(func(context.Context) error { return fault })
						}
						o.beside = func(s *Service) func(context.Context) error {
							return NewHealer(s, after, rec, func(context.Context) error {
								mu.Lock()
								defer mu.Unlock()
								reported, at = append(reported, id), append(at, time.Since(begun))
								return nil
							}).Run
						}
					})
					bridges[id] = s
					defer func() {
						if err := stop(); err != nil {
							t.Error(err)
						}
					}()
				}
				time.Sleep(2 * time.Second)
				for _, id := range c.fails {
					switch c.how {
					case "busy":
						bridges[id].set(&bridges[id].fault, errBusy)
						continue
					case "drained":
						if err := store.DrainMaster(t.Context(), id, true); err != nil {
							t.Fatal(err)
						}
					}
					bridges[id].set(&bridges[id].fault, fault)
				}
				if c.lasts > 0 {
					time.Sleep(c.lasts)
					for _, id := range c.fails {
						bridges[id].set(&bridges[id].fault, nil)
					}
				}
				time.Sleep(3 * time.Hour)
				for _, id := range c.fails {
					if ready := store.row(id).Ready; ready != (c.lasts > 0) {
						t.Errorf("%s: ready %v", id, ready)
					}
				}
				mu.Lock()
				defer mu.Unlock()
				if len(reported) != len(c.want) {
					t.Fatalf("called unhealthy: %v after %v, want %v", reported, at, c.want)
				}
				for i, want := range c.want {
					if late := at[i] - want; late < 0 || late > 2*time.Minute {
						t.Errorf("%s after %v, want %v", reported[i], at[i], want)
					}
					if n := bridges[reported[i]].log.count("master called unhealthy"); n != 1 {
						t.Errorf("%s: %d lines of audit", reported[i], n)
					}
				}
				if len(reported) == 2 && reported[0] == reported[1] {
					t.Error(fmt.Sprint(reported), "is one master twice")
				}
			})
		})
	}
}
