package doctor

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"phoenix/bridge/event"
	"phoenix/bridge/files"
	"phoenix/bridge/salt"
)

// An Actor is part of a master that may accept or delete keys or run states beside
// Phoenix: a file of the reactor, an engine, an orchestration, a scheduled job.
type Actor struct {
	Check string   // reactor, engines, orchestration, master-schedule
	On    string   // the tag that a reactor waits for, the engine, the job
	File  string   // empty: it has none
	Calls []string // what it calls, of what matters here
	Ours  bool     // it is one of Phoenix's own
	Ear   bool     // a reactor: it waits for what a bridge waits for, or for a minion's start
	Err   error    // why it was not read
}

// Calls that an actor may make.
const (
	callsAccept = "accepts keys"
	callsKeys   = "changes keys"
	callsStates = "runs states"
	callsOld    = "calls the runners of 2015"
	takesQueue  = "takes messages from an SQS queue"
)

// called are calls that matter, by what a text must have to make them: SLS with Jinja,
// Python, and command lines alike. A command line may be a list of texts, and a key
// object a variable (key = salt.key.get_key(opts); key.accept(id)).
var called = []struct {
	text *regexp.Regexp
	is   string
}{
	{regexp.MustCompile(`\bkey\.accept|accept_dict|get_key\([^)]*\)\.accept|salt-key\b[^\n]*(\s-[a-zA-Z]*[aA]\b|--accept)|` +
		`['"]salt-key['"]\s*,[^\])]{0,300}['"](-[a-zA-Z]*[aA]|--accept[a-z-]*)['"]|(?s:\bsalt\.key\b.*\.accept(_all|_dict)?\()`), callsAccept},
	{regexp.MustCompile(`\bkey\.(delete|reject|timeout)|get_key\([^)]*\)\.(delete|reject)|salt-key\b[^\n]*(\s-[a-zA-Z]*[dDrR]\b|--delete|--reject)|` +
		`['"]salt-key['"]\s*,[^\])]{0,300}['"](-[a-zA-Z]*[dDrR]|--(delete|reject)[a-z-]*)['"]|(?s:\bsalt\.key\b.*\.(delete|reject)(_key|_all|_dict)?\()`), callsKeys},
	{regexp.MustCompile(`\bstate\.(highstate|apply|sls|orch\w*|top)\b`), callsStates},
	{regexp.MustCompile(`\b(key_runner|highstate_runner)\b`), callsOld},
}

// tags are what a bridge waits for, and what else announces a minion's start, with an
// example of each.
var tags = [][]byte{[]byte("salt/auth"), []byte("salt/key"), []byte("salt/minion/i-0123456789abcdef0/start"),
	[]byte("minion_start"),
	[]byte("salt/presence/present"), []byte("salt/presence/change"), []byte("salt/engines/sqs"),
	[]byte("salt/engine/sqs/launch"),
	[]byte("salt/netapi/hook/launch"), []byte("salt/cloud/web-1/created")}

// ours are what Phoenix's own files call their reactions.
var ours = regexp.MustCompile(`(?m)^\s*"?phoenix_(auth|key|start|ret)"?:`)

const (
	// maxOrchestrations bounds how many files of the file server are read for what
	// they do about keys.
	maxOrchestrations = 5000
	// maxFollowed bounds how many files one file names that are read, too.
	maxFollowed = 50
)

// actors finds all of them. It reads files and nothing else.
func actors(c salt.Config) []Actor {
	a := scanner{c: c}
	for _, r := range c.Reactions {
		a.reaction(r)
	}
	a.engines()
	a.schedule()
	a.orchestrations()
	return a.found
}

type scanner struct {
	c     salt.Config
	found []Actor
}

// reaction reads the files of a reaction. Salt takes globs, and files of the file
// server.
func (s *scanner) reaction(r salt.Reaction) {
	ear := slices.ContainsFunc(tags, event.Glob(r.Tag))
	for _, pattern := range r.Files {
		paths, err := filepath.Glob(pattern)
		if name, served := strings.CutPrefix(pattern, "salt://"); served {
			paths, err = nil, errors.New("it is on a file server that is not in folders here")
			for _, root := range roots(s.c, "file_roots", "/srv/salt") {
				if path := filepath.Join(root, filepath.Clean("/"+name)); exists(path) {
					paths, err = []string{path}, nil
					break
				}
			}
		} else if err == nil && len(paths) == 0 {
			err = errors.New("there is no such file")
		}
		if err != nil {
			s.found = append(s.found, Actor{Check: "reactor", On: r.Tag, File: pattern, Ear: ear, Err: err})
		}
		for _, path := range paths {
			one := s.read("reactor", r.Tag, path)
			one.Ear = ear
			s.found = append(s.found, one)
		}
	}
}

// read reads a file and what it names: runners of one's own, orchestrations.
func (s *scanner) read(check, on, path string) Actor {
	a := Actor{Check: check, On: on, File: path}
	text, err := files.Head(path, maxFile)
	if err != nil {
		a.Err = err
		return a
	}
	text = withoutComments(text)
	a.Ours = ours.Match(text)
	a.Calls = callsOf(text)
	for _, next := range s.named(text, filepath.Dir(path)) {
		if text, err := files.Head(next, maxFile); err == nil {
			for _, call := range callsOf(withoutComments(text)) {
				if !slices.Contains(a.Calls, call) {
					a.Calls = append(a.Calls, call)
				}
			}
		}
	}
	if slices.Contains(a.Calls, callsAccept) || runsStates.Match(text) {
		a.Ours = false // Phoenix's own do neither
	}
	return a
}

// runsStates matches what a reaction must have to run states, where the name of the
// function alone may be data.
var runsStates = regexp.MustCompile(`\b(local|runner|caller|cmd)\.state\.`)

func callsOf(text []byte) (calls []string) {
	for _, call := range called {
		if call.text.Match(text) {
			calls = append(calls, call.is)
		}
	}
	return calls
}

var (
	runnerCall = regexp.MustCompile(`\brunner\.(\w+)\.\w+`)
	// jinjaOf are templates that a template takes in: {% from "x.jinja" import accept %}.
	jinjaOf = regexp.MustCompile(`\{%-?\s*(?:from|import|include|extends)\s+['"](?:salt://)?([\w./-]+)['"]`)
	modsOf  = regexp.MustCompile(`\bmods['"]?\s*:\s*['"]?([\w./-]+)`)
	// ourRunners say what they do by themselves; see Runner.
	ourRunners = []string{"key_runner", "highstate_runner", "phoenix"}
)

// named are the files that a text in a folder leads to.
func (s *scanner) named(text []byte, dir string) (paths []string) {
	for _, match := range runnerCall.FindAllSubmatch(text, maxFollowed) {
		if name := string(match[1]); !slices.Contains(ourRunners, name) {
			for _, dir := range append([]string{filepath.Join(s.c.ExtensionModules, "runners")}, s.c.RunnerDirs...) {
				paths = append(paths, filepath.Join(dir, name+".py"))
			}
		}
	}
	for _, match := range jinjaOf.FindAllSubmatch(text, maxFollowed) {
		name := filepath.Clean("/" + string(match[1]))
		for _, root := range append(roots(s.c, "file_roots", "/srv/salt"), dir) {
			paths = append(paths, filepath.Join(root, name))
		}
	}
	for _, match := range modsOf.FindAllSubmatch(text, maxFollowed) {
		name := filepath.Clean("/" + strings.ReplaceAll(string(match[1]), ".", "/"))
		for _, root := range roots(s.c, "file_roots", "/srv/salt") {
			paths = append(paths, filepath.Join(root, name+".sls"), filepath.Join(root, name, "init.sls"))
		}
	}
	return paths
}

// engines finds those that work with keys, run commands of others, or read SQS.
func (s *scanner) engines() {
	list, _ := s.c.Options["engines"].([]any)
	if by, ok := s.c.Options["engines"].(map[string]any); ok {
		list = []any{by}
	}
	for _, entry := range list {
		switch entry := entry.(type) {
		case string:
			s.engine(entry, nil)
		case map[string]any:
			for name, options := range entry {
				options, _ := options.(map[string]any)
				s.engine(name, options)
			}
		}
	}
}

func (s *scanner) engine(name string, options map[string]any) {
	module := name
	if other, ok := options["engine_module"].(string); ok { // one engine, several times
		module = other
	}
	a := Actor{Check: "engines", On: name}
	switch module {
	case "sqs_events":
		a.Calls, a.File = []string{takesQueue}, fmt.Sprint(cmp.Or[any](options["queue"], "salt"))
	case "stalekey":
		a.Calls = []string{callsKeys}
	case "thorium":
		for _, root := range roots(s.c, "thorium_roots", "/srv/thorium") {
			for _, path := range sls(root) {
				if one := s.read("engines", name, path); len(one.Calls) > 0 || one.Err != nil {
					s.found = append(s.found, one)
				}
			}
		}
		return
	default:
		dirs := append([]string{filepath.Join(s.c.ExtensionModules, "engines")}, list(s.c.Options["engines_dirs"])...)
		for _, dir := range dirs {
			if path := filepath.Join(dir, module+".py"); exists(path) {
				a = s.read("engines", name, path)
			}
		}
	}
	s.found = append(s.found, a)
}

// schedule finds jobs of the master's own schedule, which runs runners.
func (s *scanner) schedule() {
	jobs, _ := s.c.Options["schedule"].(map[string]any)
	for name, job := range jobs {
		options, _ := job.(map[string]any)
		if options["enabled"] == false {
			continue
		}
		text := []byte(fmt.Sprint(job))
		a := Actor{Check: "master-schedule", On: name, Calls: callsOf(text)}
		for _, path := range s.named(append(append([]byte(nil), "runner."+fmt.Sprint(options["function"])...),
			modsIn(job)...), "") {
			if text, err := files.Head(path, maxFile); err == nil {
				a.Calls = append(a.Calls, callsOf(withoutComments(text))...)
			}
		}
		slices.Sort(a.Calls)
		a.Calls = slices.Compact(a.Calls)
		s.found = append(s.found, a)
	}
}

// modsIn writes what a job is given so that it reads as "mods: NAME".
func modsIn(job any) (text string) {
	options, _ := job.(map[string]any)
	for _, name := range list(options["args"]) {
		text += " mods: " + name
	}
	kwargs, _ := options["kwargs"].(map[string]any)
	for _, name := range list(kwargs["mods"]) {
		text += " mods: " + name
	}
	return text
}

// orchestrations finds files of the file server that accept or delete keys: they do so
// when somebody runs them, or a reactor that renders their names.
func (s *scanner) orchestrations() {
	left := maxOrchestrations
	for _, root := range roots(s.c, "file_roots", "/srv/salt") {
		for _, path := range sls(root) {
			if left--; left < 0 {
				return
			}
			text, err := files.Head(path, maxFile)
			if err != nil || !bytes.Contains(text, []byte("key")) {
				continue
			}
			calls := slices.DeleteFunc(callsOf(withoutComments(text)),
				func(call string) bool { return call != callsAccept && call != callsKeys })
			if len(calls) > 0 {
				s.found = append(s.found, Actor{Check: "orchestration", On: strings.TrimPrefix(path, root+"/"),
					File: path, Calls: calls})
			}
		}
	}
}
