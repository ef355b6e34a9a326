package relay

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"phoenix/bridge/member"
)

// TestG12_MalformedReturns: what would end Salt's work on the returns beside it is not
// handed in.
func TestG12_MalformedReturns(t *testing.T) {
	for _, c := range []struct {
		values map[string]any
		good   bool
	}{
		{map[string]any{"return": 1, "fun": "test.ping", "retcode": 0}, true},
		{map[string]any{"return": nil, "fun": "test.ping"}, true},
		{map[string]any{"return": "x", "fun": "state.apply", "retcode": 70000}, true},
		{map[string]any{"return": 1, "fun": "x.y", "retcode": -1}, true},
		{map[string]any{"return": []int{1}, "fun": []string{"a.b"}, "retcode": []int{1}}, true},
		{map[string]any{"return": map[string]int{"a.b": 1}, "fun": []string{"a.b"},
			"retcode": map[string]int{"a.b": 1}}, true},
		{map[string]any{"return": 1, "fun": []string{"x"}, "retcode": 1}, false},
		{map[string]any{"return": 1, "fun": []string{"x"}}, false},
		{map[string]any{"return": 1}, false},
		{map[string]any{"return": 1, "fun": nil}, false},
		{map[string]any{"fun": "test.ping", "retcode": 0}, false},
		{map[string]any{"return": 1, "fun": map[string]int{"x": 1}, "retcode": 1}, false},
		{map[string]any{"return": 1, "fun": []any{"x", 1}, "retcode": []int{1}}, false},
		{map[string]any{"return": 1, "fun": []any{[]string{"x"}}, "retcode": map[string]int{"x": 1}}, false},
		{map[string]any{"return": []int{1}, "fun": []string{"x"}, "retcode": map[string]int{"x": 1}}, false},
		{map[string]any{"return": 1, "fun": "x.y", "retcode": []int{1}}, false},
		{map[string]any{"return": 1, "fun": "x.y", "retcode": map[string]int{"x": 1}}, false},
	} {
		m := message{JID: jid(1), ID: "web-1", Values: asRaw(nil)}
		for name, v := range c.values {
			m.Values[name] = packed(v)
		}
		if err := checkReturn(m); (err == nil) != c.good {
			t.Errorf("%v: %v", c.values, err)
		}
	}
}

// TestG12_OneReturnCostsNoOther: of a hundred returns that come together one is
// malformed, and one ends the master's work in a way that nobody foresaw.
func TestG12_OneReturnCostsNoOther(t *testing.T) {
	w := newWorld(t, "m1")
	m1 := w.sides[0]
	m1.mu.Lock() // the master takes nothing until all are there
	m1.poison = "web-050"
	var want []string
	for i := range 100 {
		m := message{Kind: kindReturn, JID: jid(1), ID: fmt.Sprintf("web-%03d", i), Values: asRaw(map[string][]byte{
			"return": packed(true), "fun": packed("test.ping"), "retcode": packed(0), "id": packed("somebody-else"),
			"jid": packed("req")})}
		switch i {
		case 20:
			m.Values["fun"], m.Values["retcode"] = packed([]string{"x"}), packed(1)
		case 50:
		default:
			want = append(want, jid(1)+" "+m.ID)
		}
		m1.receive("m2", m)
	}
	m1.mu.Unlock()
	has := func() []string {
		got := m1.seen(&m1.returned)
		slices.Sort(got)
		return slices.Compact(got)
	}
	w.waitFor("98 are handed in, and one is given up",
		func() bool { return len(has()) >= 98 && m1.Status().Dropped > 0 })
	if got := has(); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if c := m1.Status().Counts; c.Dropped != 1 || c.Malformed != 1 || c.Returns != 99 {
		t.Errorf("%+v", c)
	}
}

// away is a master that does not answer.
type away struct {
	Member
	asked int
}

func (a *away) Return(context.Context, []member.Returns) error {
	a.asked++
	return member.ErrRefused
}

// TestRefusedReturnsAreGivenUp: each is tried alone, once.
func TestRefusedReturnsAreGivenUp(t *testing.T) {
	a := &away{}
	r := &Relay{o: Options{Member: a, Now: time.Now, Log: silent}}
	r.passBatch(t.Context(), make([]message, 3))
	if a.asked != 4 || r.counts.Dropped != 3 {
		t.Errorf("asked %d times, %d dropped", a.asked, r.counts.Dropped)
	}
}
