// Package relay makes one fleet of the minions of several masters: a job that one
// master publishes is published by the others, too, under the same job id, and what
// their minions return goes back to the master that asked. docs/fleet-commands.md
// draws it.
//
// Each bridge reads what its own master publishes (package member), and dials every
// other bridge: over that connection go its jobs, and come their returns. The other
// direction has a connection of its own, so that on each the one side asks and the
// other answers.
//
// A job is sent to a peer at most once and never kept for later: over a connection
// that is up, or not at all. A peer that gets it late refuses it.
package relay
