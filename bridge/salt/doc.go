// Package salt acts on a Salt master: it reads the master's own configuration
// as the master reads it, reads and writes its key store, and drives it over
// its ZeroMQ request channel.
//
// What it leans on was tried on Salt 3006.28, 3007.15 and 3008.3; docs/salt.md
// lists it.
package salt
