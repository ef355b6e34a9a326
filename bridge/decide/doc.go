// Package decide says what to do: pure functions of what is known, what
// happened and what time it is. It does no I/O, reads no clock and starts no
// goroutine, so the same code runs in the bridge, in "phoenix minions explain"
// and in the simulator that looks for a way to break the promises.
//
// Everything is level-triggered. An event, a message or a timer only names
// a minion to check; checking it twice is harmless.
package decide
