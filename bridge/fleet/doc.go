// Package fleet is the vocabulary of Phoenix: minions, masters, the claim to a minion's
// first highstate, and the Store that remembers them.
//
// # Rows and changes
//
// A [Minion] is the row of one minion, by the id of its instance. [Add] makes it, [Bind] ties
// the digest of a key to it, and [Retire] ends it for good. A row changes only by a [Change],
// which is a pure function of the row before it. A [Store] adds atomicity and durability and
// nothing else: the same Change on the same row gives the same row in every store. The
// conformance suite in fleettest checks that, and the simulator of the claim protocol
// relies on it.
//
// A change that was made already succeeds and writes nothing. So a caller whose answer was
// lost repeats the change. One that does not apply returns a sentinel error of this
// package ([ErrTerminated], [ErrConflict] and others) and the row as it is.
//
// # Claims
//
// A master that is to run a minion's first highstate writes a [Claim] first. The claim
// names the version of the row that it was decided on, its owner and the job id. Another
// master takes a claim over with the same job id, since a minion drops a job id that it
// remembers. [Finish] records how the job ended.
//
// # Masters
//
// A [Master] is the row of one master. Its bridge writes it with each [Beat]. Other masters
// read whether the counter Heartbeat changes.
//
// # Bad rows
//
// A read of many rows returns all that can be decoded, and a [BadRowsError] that names the
// others. [WithoutBadRows] separates the two, so that one damaged row does not hide the
// others.
//
// # Caveats
//
// Times are written by many hosts and never compared between them. What must be ordered is
// ordered by versions ([Minion.ClaimVersion]) and counters ([Master.Heartbeat]);
// [Minion.Modified] is for people and for the index that finds changed rows.
package fleet
