package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
)

// mark is an environment variable that every process of a lab inherits; its
// value is the process's folder. Process groups do not suffice: a Salt minion's
// jobs make sessions of their own (salt.utils.process.daemonize, 3006).
const mark = "PHOENIX_LAB"

// watchdogScript waits for the end of its input, which comes when the lab ends
// in whatever way, then kills what carries the mark and removes the folder.
const watchdogScript = `
cat >/dev/null
# Not by grep's exit code: it is 2 whenever a process ended under its eyes.
while left=$(grep -lsF "$1" /proc/[0-9]*/environ); [ -n "$left" ]; do
	for environ in $left; do
		pid=${environ#/proc/}
		kill -9 "${pid%/environ}" 2>/dev/null
	done
done
rm -rf "$2"
`

// watch starts the watchdog of a lab, in a process group of its own so that
// Ctrl-C does not end it. stop lets it do its work and waits
// until it is done.
func watch(dir string) (stop func(), err error) {
	cmd := exec.Command("sh", "-c", watchdogScript, "watchdog", mark+"="+dir+"/", dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	alive, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() {
		_ = alive.Close()
		_ = cmd.Wait() // its last command may well be a kill that came too late
	}, nil
}

// marked lists the processes whose mark begins with prefix.
func marked(prefix string) []int {
	files, _ := filepath.Glob("/proc/[0-9]*/environ") // the pattern is a good one
	var pids []int
	for _, file := range files {
		environ, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(environ, []byte(mark+"="+prefix)) {
			continue // not ours, or it ended meanwhile
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// killMarked kills until none is left: a process may fork while we look.
func killMarked(prefix string) {
	for pids := marked(prefix); len(pids) > 0; pids = marked(prefix) {
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// prSetChildSubreaper is PR_SET_CHILD_SUBREAPER of prctl(2).
const prSetChildSubreaper = 36

// adoptOrphans makes this process the parent of what its children leave behind,
// so that it can see them off. The first process of the machine does so late, in
// some containers never, and Salt takes a dead process that nobody waited for as
// one that runs: its successor ends with "An instance is already running"
// (claim_mantle_of_responsibility, 3006 to 3008).
func adoptOrphans() error {
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0); errno != 0 {
		return fmt.Errorf("prctl: %w", errno)
	}
	return nil
}

// buryGroup waits for all that is left of a process group that was killed.
func buryGroup(pgid int) {
	for {
		_, err := syscall.Wait4(-pgid, nil, 0, nil)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return // ECHILD: none is left
		}
	}
}
