package doctor

import (
	"bytes"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"phoenix/bridge/files"
)

const (
	// phoenixConfig, minionConfig are what an agent reads if nothing else is said.
	phoenixConfig = "/etc/phoenix/phoenix.yaml"
	minionConfig  = "/etc/salt/minion"
	// masterConfig is the default of salt_config, which an agent takes for its minion's.
	masterConfig = "/etc/salt/master"
)

// agentRuns reports whether the agent of the minion with this configuration file runs on
// this machine; known is false where the processes of others cannot be seen (hidepid), or
// the configuration of an agent cannot be read. Several minions, each with an agent, may
// run on one machine.
func (h host) agentRuns(minion string) (runs, known bool) {
	known = len(h.command(1)) > 0
	for pid, words := range h.processes() {
		if len(words) < 2 || filepath.Base(words[0]) != "phoenix" || !slices.Contains(words[1:], "agent") ||
			slices.Contains(words, "--dry-run") {
			continue
		}
		switch path, read := h.minionOf(pid, words); {
		case !read:
			known = false
		case real(path) == real(minion):
			return true, true
		}
	}
	return false, known
}

// minionOf returns the configuration file of an agent's minion, as flags, variables and the
// agent's own configuration say, in that order. It reports false if what says it cannot be
// read.
func (h host) minionOf(pid int, words []string) (path string, read bool) {
	folder := filepath.Join(h.proc, strconv.Itoa(pid))
	environ, err := files.Head(filepath.Join(folder, "environ"), maxCommand)
	said := func(flag, variable string) string {
		for i, word := range words {
			if word == "--"+flag && i+1 < len(words) {
				return words[i+1]
			}
			if value, ok := strings.CutPrefix(word, "--"+flag+"="); ok {
				return value
			}
		}
		for line := range bytes.SplitSeq(environ, []byte{0}) {
			if value, ok := strings.CutPrefix(string(line), variable+"="); ok {
				return value
			}
		}
		return ""
	}
	at := func(path string) string {
		if filepath.IsAbs(path) {
			return path
		}
		cwd, _ := filepath.EvalSymlinks(filepath.Join(folder, "cwd"))
		return filepath.Join(cwd, path)
	}
	if path := said("salt-config", "PHOENIX_SALT_CONFIG"); path != "" {
		return at(path), true
	}
	config := said("config", "PHOENIX_CONFIG")
	if config == "" && err != nil {
		return "", false
	}
	usual := config == ""
	if usual {
		config = phoenixConfig
	}
	doc, err := readYAML(at(config))
	if err != nil || doc == nil && !usual {
		return "", false
	}
	path, _ = doc["salt_config"].(string)
	if path == "" || path == masterConfig {
		path = minionConfig
	}
	return at(path), true
}
