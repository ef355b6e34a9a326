// Package decide says what to do: pure functions of what is known, what happened
// and what time it is. It does no I/O, reads no clock and starts no goroutine, so
// the same code runs in the bridge, in "phoenix minions explain" and in the simulator
// that looks for a way to break the promises.
//
// # Keys
//
// [Keys] decides about the keys of one id. A [KeyView] is what this master knows: the row, the
// keys in each state of the key store, and the proof that the instance wrote. The rules
// are tried in order, and the first that matches gives the [KeyDecision]: the act, the name
// of the rule, which does not change, and the reason for people. [Admit] selects what a key
// needs to be accepted.
//
// # First highstates
//
// [Highstate] decides about the first highstate of one minion. A [HighstateView] is what this
// master knows of it; its methods record events, such as a return, an answer of the minion
// or a row that was read. The [Step] is one act, or how long to wait and why. [FailureDetector]
// measures by the observer's own clock whether the master that owns a claim is alive, and
// [Breaker] decides from the last results whether new highstates may begin.
//
// # Phases
//
// [PhaseOf] names the state of a minion in one word, as status and metrics show it.
//
// Everything is level-triggered. An event, a message or a timer only names a minion to
// check; checking it twice is harmless.
package decide
