// Package agent runs beside a Salt minion and keeps the list of masters that the
// minion may turn to: it reads the fleet's masters, writes a drop-in of the
// minion's configuration, and restarts the minion from outside Salt.
//
// What to do is decided by [Watch] (who is on the list) and [Restart] (when the
// minion is restarted), which do nothing themselves. [Agent] is the loop around
// them, [DropIn] the file, [Local] the machine.
//
// # Caveats
//
// The agent never acts on what it could not read: an error, a table without
// rows, a key that it cannot parse leave file and minion as they are. So a fleet
// whose store is away for good is one whose lists stand still.
//
// A job that reaches the minion between the agent's last look and its restart is
// cut off. Salt has no way to ask a minion to take no more jobs.
package agent
