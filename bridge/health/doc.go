// Package health reports whether a master serves, and when it must be replaced.
//
// That a bridge lives proves nothing of the master beside it: salt-master may
// have ended, hang, or have lost its workers. A master counts as serving while
// one of its workers answers requests and its event bus is connected. What
// follows from what was seen, and when, is in [Proof] and [Cure], which do no
// I/O; [Watch] asks.
package health
