package doctor

import (
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"phoenix/bridge/salt"
)

// Fix is what to do about a finding: commands for a shell, or words where a person
// must decide or edit. Commands touch exactly what the finding names.
type Fix struct {
	commands []string
	words    string
}

func run(commands ...string) Fix { return Fix{commands: commands} }
func say(words string) Fix       { return Fix{words: words} }

// then adds words to what there is.
func (f Fix) then(words string) Fix {
	if f.words != "" {
		words = f.words + "; " + words
	}
	f.words = words
	return f
}

// and adds a command to those that there are.
func (f Fix) and(command string) Fix {
	if f.commands == nil {
		f.words += ", then: " + command
		return f
	}
	f.commands = append(f.commands, command)
	return f
}

func (f Fix) String() string {
	text := strings.Join(f.commands, "; ")
	if text != "" && f.words != "" {
		text += " # "
	}
	return text + f.words
}

// special reports what a shell could read as more than a part of a word.
func special(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-/@:+", r)
}

// word quotes a text for a POSIX shell. It reports false for one that no line of text
// can show as it is.
func word(text string) (string, bool) {
	if text == "" || strings.ContainsFunc(text,
		func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) {
		return "", false
	}
	if !strings.ContainsFunc(text, special) {
		return text, true
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'", true
}

// words quotes texts; false if one cannot be quoted.
func words(texts []string) (string, bool) {
	out := make([]string, 0, len(texts))
	for _, text := range texts {
		w, ok := word(text)
		if !ok {
			return "", false
		}
		out = append(out, w)
	}
	return strings.Join(out, " "), true
}

// remove is how files are removed, each by its own name. What cannot be typed is left
// to whoever reads it.
func remove(command string, paths []string) Fix {
	list, ok := words(paths[:min(len(paths), shown)])
	if !ok {
		return say("remove it by hand: ls -b " + filepath.Dir(paths[0]))
	}
	return run(command + " -- " + list)
}

const restartMaster, restartMinion = "systemctl restart salt-master", "systemctl restart salt-minion"

// phoenix is the program, with the configuration that doctor was asked to read.
func (m Master) phoenix() string {
	if m.Phoenix != "" {
		return m.Phoenix
	}
	if path, ok := word(m.Config.Path); ok && m.Config.Path != "/etc/salt/master" {
		return "phoenix --salt-config " + path
	}
	return "phoenix"
}

// phoenixCommand is the program before one of its commands, in a fix.
var phoenixCommand = regexp.MustCompile(`\bphoenix (adopt|agent|doctor|highstate|history|identity|jobs|keys|masters|minions|status|store)\b`)

// CalledWith gives the commands of the findings' fixes the flags that doctor was called
// with: they are about the same fleet.
func CalledWith(findings []Finding, flags map[string]string) {
	program := programWith(flags)
	if program == "phoenix" {
		return
	}
	with := func(text string) string {
		return phoenixCommand.ReplaceAllStringFunc(text, func(found string) string {
			return program + strings.TrimPrefix(found, "phoenix")
		})
	}
	for i := range findings {
		findings[i].Mend = with(findings[i].Mend)
		for j := range findings[i].Commands {
			findings[i].Commands[j] = with(findings[i].Commands[j])
		}
	}
}

// programWith is phoenix with flags, for a shell. A value that cannot be typed is left out.
func programWith(flags map[string]string) string {
	program := "phoenix"
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		if value, ok := word(flags[name]); ok {
			program += " --" + name + " " + value
		}
	}
	return program
}

// stateNames are the states of keys in the order in which commands name them.
var stateNames = []string{"pending", "rejected", "denied", "accepted"}

// deleteKeys deletes keys by their exact ids and states, as many as a finding names.
func (m Master) deleteKeys(keys []Key) Fix {
	byState := map[salt.State][]string{}
	for _, k := range keys[:min(len(keys), shown)] {
		byState[k.State] = append(byState[k.State], k.ID)
	}
	var commands []string
	for _, name := range stateNames {
		ids := byState[salt.States[name]]
		if len(ids) == 0 {
			continue
		}
		slices.Sort(ids)
		list, ok := words(ids)
		if !ok {
			return say("the ids cannot be typed: ls -b " + m.Config.PKIDir)
		}
		commands = append(commands, m.phoenix()+" keys delete "+list+" --state "+name)
	}
	return run(commands...)
}
