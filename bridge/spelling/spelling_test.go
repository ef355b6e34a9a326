package spelling_test

import (
	"slices"
	"testing"

	"phoenix/bridge/spelling"
)

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		n    int
		near bool
	}{
		{"address", "address", 0, true}, {"adress", "address", 1, true}, {"salt-confg", "salt-config", 1, true},
		{"stauts", "status", 2, true},
		{"", "abc", 3, false}, {"nonsense", "store", 6, false}, {"ab", "ac", 1, false},
	} {
		if n := spelling.Distance(c.a, c.b); n != c.n || spelling.Distance(c.b, c.a) != n {
			t.Errorf("%q and %q: %d, not %d", c.a, c.b, n, c.n)
		}
		if near := spelling.Near(c.a, c.b); near != c.near {
			t.Errorf("%q for %q: near %v", c.a, c.b, near)
		}
	}
	if got := spelling.Nearest("salt-confg",
		[]string{"salt-only", "config", "salt-config", "salt-config"}); !slices.Equal(got, []string{"salt-config"}) {
		t.Error(got)
	}
	if got := spelling.DidYouMean([]string{"store", "status"}); got != " (did you mean store, status?)" ||
		spelling.DidYouMean(nil) != "" {
		t.Error(got)
	}
}
