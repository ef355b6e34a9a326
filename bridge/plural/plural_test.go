package plural_test

import (
	"testing"

	"phoenix/bridge/plural"
)

func TestOf(t *testing.T) {
	for want, got := range map[string]string{
		"1 gap": plural.Of(1, "gap"), "0 gaps": plural.Of(0, "gap"),
		"2 first highstates": plural.Of(2, "first highstate"),
		"3 keys":             plural.Of(3, "key"), "1 entry": plural.Of(1, "entry"), "2 entries": plural.Of(2, "entry"),
	} {
		if got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}
