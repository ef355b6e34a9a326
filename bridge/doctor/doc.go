// Package doctor looks at a Salt master or minion as it is, and says what would
// bypass or undermine Phoenix there, and what Phoenix would do.
//
// It reads, and nothing else: no file is written, no job is sent, and nothing
// connects to Salt. A connection to the master's event bus costs the master memory
// that it does not get back (3008.2), so the socket is looked up in the kernel's
// tables; so are the ports.
//
// Look functions gather facts; the others are pure and make findings of them.
package doctor
