// Package fleet is the vocabulary of Phoenix: minions, masters, the claim to
// a minion's first highstate, and the Store that remembers them.
//
// A row changes only by a [Change], and a Change is a pure function of the row
// before it. Stores add nothing but atomicity and durability: whatever a store
// is made of, the same Change on the same row gives the same row. That is what
// the one conformance suite in fleettest checks, and what the simulator of the
// claim protocol relies on.
//
// # Caveats
//
// Times are written by many hosts and never compared between them. What must be
// ordered is ordered by versions ([Minion.ClaimVersion]) and counters
// ([Master.Heartbeat]); [Minion.Modified] is for people and for the index that
// finds changed rows.
package fleet
