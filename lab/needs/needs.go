// Package needs keeps tests that need more than Go out of the fast loop, make unit.
package needs

import "testing"

// More skips a test under -short, and says what it needs. make test runs it.
func More(tb testing.TB, what string) {
	tb.Helper()
	if testing.Short() {
		tb.Skipf("-short: it needs %s (make test)", what)
	}
}
