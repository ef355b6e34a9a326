// Package service is the bridge on a master: it reads the bus, checks keys and
// highstates, beats, and compares keys and fleet so that no lost event matters
// for longer than a few minutes.
//
// One goroutine, the [Engine]'s, owns all decisions. What happens meanwhile is
// gathered in the [Inbox], and what has gathered is worked off as one batch: one
// read of the store, one write, one call of the master. The engine knows neither
// sockets nor goroutines, so the simulator of the claim protocol drives the very
// same code.
package service
