// Package swarm plays Salt minions at protocol level against real masters: up to
// thousands in one process, on loopback addresses only.
//
// Each minion sends auth requests until it is let in, subscribes over a connection
// of its own, says that it has started, and answers jobs, as salt-minion of 3006,
// 3007 and 3008 does: nonces, signatures and serials are checked, an AES key that
// was rotated is fetched anew, a jid that is among the last 100 is dropped, a state
// function beside another is refused, what a job returned is cached, and a return
// that was not taken is sent again. With several masters it is a minion of failover
// type: one that loses its master goes to the next.
//
// Not played: pillar, files and the mine, so a real minion costs its master several
// times as much; grains, which are taken to match; connections for requests, which
// all minions share, a few to each master; key pairs, which they share as well. A
// publish is decrypted once for all of them: real minions pay for it on machines of
// their own.
package swarm
