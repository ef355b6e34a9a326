// Package agent runs beside a Salt minion and keeps the list of masters that the
// minion may use: it reads the fleet's masters, writes a drop-in of the minion's
// configuration, and restarts the minion from outside Salt.
//
// [Watch] decides which masters are on the list and [Restart] when the minion is
// restarted; neither has effects. [Agent] is the loop around them, [DropIn] the file,
// [Local] the machine.
//
// # Caveats
//
// The agent never acts on what it could not read: an error, a table without
// rows, a key that it cannot parse leave file and minion as they are. The lists of a
// fleet whose store is lost do not change.
//
// A job that reaches the minion between the agent's last check of running jobs and the
// restart is cut off. Salt has no way to make a minion refuse new jobs.
package agent
