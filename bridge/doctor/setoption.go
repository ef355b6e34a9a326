package doctor

import (
	"path/filepath"
	"slices"
	"strings"
)

// agentOptions are what the agent's drop-in may set. A fix sets one of these in a file
// that sorts before it, so that the agent's list of masters and what belongs to it count.
var agentOptions = []string{"master", "master_type", "master_port", "publish_port", "retry_dns",
	"master_alive_interval",
	"tcp_keepalive", "tcp_keepalive_idle", "tcp_keepalive_cnt", "tcp_keepalive_intvl", "random_master",
	"master_shuffle", "master_failback",
	"rejected_retry", "cache_jobs", "minion_jid_queue_hwm", "auth_tries", "auth_timeout"}

// optionFile is the name of the file by which a fix sets an option: the last of its
// folder, or the last before the agent's.
func optionFile(option string) string {
	if slices.Contains(agentOptions, option) {
		return "99-doctor-" + option + ".conf"
	}
	return "zz-" + option + ".conf"
}

// optionSet is a file besides the main one that sets an option.
type optionSet struct {
	Path string
	// DropIn is the name of the drop-in by which Salt comes to the file; empty: the main
	// file includes it, and Salt reads it after all drop-ins.
	DropIn string
}

// readOptionSets returns the files that set each option, in Salt's order. A file that
// cannot be read or decoded sets none, as for Salt.
func readOptionSets(path, folder string) map[string][]optionSet {
	sets := map[string][]optionSet{}
	if folder != "" {
		for _, file := range sortedGlob(filepath.Join(folder, "*.conf")) {
			addOptionSets(sets, file, filepath.Base(file), 0)
		}
	}
	main, _ := readYAML(path)
	for _, file := range included(main["include"], path) {
		addOptionSets(sets, file, "", 0)
	}
	return sets
}

// maxNested bounds files that include one another.
const maxNested = 4

func addOptionSets(sets map[string][]optionSet, file, dropIn string, depth int) {
	doc, err := readYAML(file)
	if err != nil || depth > maxNested {
		return
	}
	for option := range doc {
		sets[option] = append(sets[option], optionSet{file, dropIn})
	}
	for _, nested := range included(doc["include"], file) {
		addOptionSets(sets, nested, dropIn, depth+1)
	}
}

func included(patterns any, from string) (files []string) {
	for _, pattern := range list(patterns) {
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(filepath.Dir(from), pattern)
		}
		files = append(files, sortedGlob(pattern)...)
	}
	return files
}

func sortedGlob(pattern string) []string {
	found, _ := filepath.Glob(pattern)
	found = slices.DeleteFunc(found, func(path string) bool { return strings.HasPrefix(filepath.Base(path), ".") })
	slices.Sort(found)
	return found[:min(len(found), maxEntries)]
}

// options is how a fix sets options of a master or a minion.
type options struct {
	folder, restart string
	sets            map[string][]optionSet
}

// set sets an option by a file of its own, and restarts the service. Where Salt reads
// another file that sets it after that one, only an edit of the other helps.
func (o options) set(option, value string) Fix { return o.setAll(option + ": " + value) }

// setAll sets several options, given as "name: value".
func (o options) setAll(settings ...string) Fix {
	w, ok := word(o.folder)
	if !ok {
		return say("set " + strings.Join(settings, ", ") + " in the configuration, then: " + o.restart)
	}
	commands := []string{"mkdir -p " + w}
	var others []string
	for _, setting := range settings {
		option, _, _ := strings.Cut(setting, ": ")
		name := optionFile(option)
		commands = append(commands, "echo '"+setting+"' > "+filepath.Join(w, name))
		for _, set := range o.sets[option] {
			if (set.DropIn == "" || set.DropIn > name) && set.DropIn != dropInName &&
				!slices.Contains(others, quote(set.Path)) {
				others = append(others, quote(set.Path))
			}
		}
	}
	if len(others) > 0 {
		return say("set " + strings.Join(settings, ", ") + " in " + strings.Join(others, ", ") +
			", or take it out there, then: " + o.restart)
	}
	return run(append(commands, o.restart)...)
}

func (m Master) options() options {
	return options{m.Config.DropIns, restartMaster, m.OptionSets}
}

func (m Minion) options() options {
	return options{m.Config.DropIns, restartMinion, m.OptionSets}
}

// overriders are the files that Salt reads after the agent's drop-in and that set one of
// these options.
func (m Minion) overriders(changed []string) (paths []string) {
	for _, option := range changed {
		for _, set := range m.OptionSets[option] {
			if (set.DropIn == "" || set.DropIn > dropInName) && !slices.Contains(paths, set.Path) {
				paths = append(paths, set.Path)
			}
		}
	}
	return paths
}

// setting is the fix of an option that the agent's drop-in sets: the first list that the
// agent writes has it, and a file besides would restart the minion for nothing.
func (m Minion) setting(option, value string) Fix {
	if fix, ok := m.byAgent(); ok {
		return fix
	}
	return m.options().set(option, value)
}

// settings is setting for several options.
func (m Minion) settings(lines ...string) Fix {
	if fix, ok := m.byAgent(); ok {
		return fix
	}
	return m.options().setAll(lines...)
}

// byAgent reports whether an agent is there that has not written its drop-in yet.
func (m Minion) byAgent() (Fix, bool) {
	switch {
	case m.DropIn != nil || m.DropInErr != nil:
		return Fix{}, false
	case m.AgentRuns:
		return say("nothing: the agent sets this when it writes its first list of masters"), true
	case m.AgentInstalled:
		return say("the agent sets this when it writes its first list of masters: systemctl enable --now phoenix-agent"), true
	}
	return Fix{}, false
}
