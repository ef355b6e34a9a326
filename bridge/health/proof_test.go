package health

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// seen lets time pass in seconds, with a request each 5 s, and gives when the
// master began and ceased to serve.
func seen(seconds int, answered func(second, request int) bool, bus func(second int) bool) (serves []bool) {
	var p Proof
	request := 0
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for s := range seconds {
		now := start.Add(time.Duration(s) * time.Second)
		p.Bus(bus(s), now)
		if s%5 == 0 || p.Hurry() {
			request++
			if answered(s, request) {
				p.Answered(now)
			} else {
				p.Failed(errors.New("connection refused"))
			}
		}
		serves = append(serves, p.Check(now) == nil)
	}
	return serves
}

func always(int) bool      { return true }
func served(_, _ int) bool { return true }

// changes are the seconds at which serving begins or ends.
func changes(serves []bool) (at []int) {
	was := false
	for s, is := range serves {
		if is != was {
			at = append(at, s)
		}
		was = is
	}
	return at
}

func TestProof(t *testing.T) {
	between := func(from, to int) func(int) bool { return func(s int) bool { return s < from || s >= to } }
	away := func(from, to int) func(int, int) bool { return func(s, _ int) bool { return s < from || s >= to } }
	for _, c := range []struct {
		name     string
		answered func(second, request int) bool
		bus      func(int) bool
		want     []int
	}{
		{"all is well", served, always, []int{0}},
		{"never answers", func(_, _ int) bool { return false }, always, nil},
		{"no bus at all", served, func(int) bool { return false }, nil},
		{"the bus comes later", served, func(s int) bool { return s > 7 }, []int{8}},
		{"away for less than the proof holds", away(11, 24), always, []int{0}},
		{"away, and back", away(11, 60), always, []int{0, 25, 62}},
		{"the bus away, and back", served, between(11, 60), []int{0, 25, 60}},
		{"one worker in three is gone", func(_, n int) bool { return n%3 != 0 }, always, []int{0}},
		{"two workers in three are gone", func(s, n int) bool { return s < 60 || n%3 == 0 }, always, []int{0, 125}},
		{"half of the workers are gone", func(_, n int) bool { return n%2 == 1 }, always, []int{0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := changes(seen(300, c.answered, c.bus))
			if len(got) != len(c.want) {
				t.Fatalf("changed at %v s, want %v", got, c.want)
			}
			for i := range got {
				if d := got[i] - c.want[i]; d < 0 || d > 1 {
					t.Errorf("changed at %v s, want %v", got, c.want)
				}
			}
		})
	}
}

// Why a master does not serve is told with what stood in the way.
func TestProofSaysWhy(t *testing.T) {
	var p Proof
	now := time.Now()
	want := func(text string) {
		t.Helper()
		if err := p.Check(now); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("says %v, want %q", err, text)
		}
	}
	want("has answered yet")
	p.Failed(errors.New("connection refused"))
	want("refused")
	p.Answered(now)
	want("event bus is not connected")
	p.Bus(true, now)
	if err := p.Check(now); err != nil {
		t.Error(err)
	}
	p.Failed(errors.New("connection reset"))
	now = now.Add(Lost)
	p.Bus(true, now)
	want("for 15s: connection reset")
	p.Answered(now)
	want("1 of 3")
	p.Answered(now)
	p.Answered(now)
	now = now.Add(Lost)
	p.Answered(now)
	want("event bus has not been connected for 15s")
	if p.Proven().IsZero() {
		t.Error("it was never proven")
	}
}
