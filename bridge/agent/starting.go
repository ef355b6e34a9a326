package agent

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"phoenix/bridge/files"
)

const (
	minionProgram = "salt-minion"
	// defaultConfigFolder is where a minion reads its configuration without -c.
	defaultConfigFolder = "/etc/salt"
)

// starts reports whether a minion with this configuration runs. Its pidfile comes a second
// or more after its process (3006.30 to 3008.5), and meanwhile it may find that it has no
// key, make one, and write it over any that is there by then.
func (l *Local) starts() bool {
	entries, err := os.ReadDir(l.proc)
	if err != nil {
		return false
	}
	for _, entry := range entries {
		if _, err := strconv.Atoi(entry.Name()); err != nil {
			continue
		}
		text, err := files.Head(filepath.Join(l.proc, entry.Name(), "cmdline"), maxCommand)
		if err == nil && runsMinion(string(text), filepath.Dir(l.minion.Path)) {
			return true
		}
	}
	return false
}

// runsMinion reports whether a command line is that of a minion with its configuration in
// a folder: the program itself, or an interpreter with it. Salt replaces the zeros between
// the arguments by spaces (setproctitle).
func runsMinion(cmdline, folder string) bool {
	args := strings.FieldsFunc(cmdline, func(r rune) bool { return r == 0 || r == ' ' })
	program := 0
	for program < min(len(args), 2) && filepath.Base(args[program]) != minionProgram {
		program++
	}
	if program >= min(len(args), 2) {
		return false
	}
	of := defaultConfigFolder
	args = args[program+1:]
	for i, arg := range args {
		switch value, joined := strings.CutPrefix(arg, "--config-dir="); {
		case joined:
			of = value
		case (arg == "-c" || arg == "--config-dir") && i+1 < len(args):
			of = args[i+1]
		}
	}
	return filepath.Clean(of) == filepath.Clean(folder)
}
