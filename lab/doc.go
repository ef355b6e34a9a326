// Package lab starts real Salt masters and minions, and the bridges beside
// them, on loopback addresses, for tests and for the demo.
//
// A [Lab] owns a short folder under the system's temporary one, with one folder
// for each process: its configuration, its keys, its caches and its log. The
// layout inside is Salt's own, moved by root_dir, so nothing outside is read or
// written, and any user can run it.
//
// Processes end with the test that started them. Should the test die first, by
// a panic, a time-out or Ctrl-C, a watchdog that outlives it ends every process
// of the lab and removes the folder.
//
// Starting returns at once and Ready waits, so that several can start together:
//
//	l := lab.New(t)
//	master := l.StartMaster(lab.MasterOptions{Version: lab.Salt3007})
//	minion := l.StartMinion(lab.MinionOptions{ID: "web-1", Masters: []*lab.Master{master}})
//	master.Ready()
//
// Within [Isolate], masters can be on hosts of their own ([Host]), whose packets
// can vanish.
//
// It needs Linux: processes are found by /proc.
package lab
