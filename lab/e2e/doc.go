// Package e2e tries the whole of Phoenix on real masters and minions of each
// supported Salt. It has tests only; the lab does the work.
package e2e
