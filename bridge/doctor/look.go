package doctor

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"phoenix/bridge/event"
	"phoenix/bridge/files"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
)

const (
	// maxKeys bounds how many keys are read: 300 take some 20 ms.
	maxKeys = 20_000
	// maxFile bounds a file of the reactor, a runner, or a signing file.
	maxFile = 256 << 10
	// maxEntries bounds what is listed of a folder.
	maxEntries = 1000
)

// LookAtMaster gathers the facts of a master so configured. It changes nothing.
func LookAtMaster(c salt.Config) Master {
	h := host{proc: "/proc"}
	m := Master{Config: c, PID: h.pid(c.PIDFile, "salt-master")}
	m.Version = h.version(m.PID)
	if network, address := c.EventSocket(); network == "unix" {
		m.EventBus.Name = address
		m.EventBus.Listening, m.EventBus.Err = h.listensUnix(m.PID, address)
	} else {
		m.EventBus.Name = "port " + fmt.Sprint(c.TCPMasterPubPort)
		m.EventBus.Listening, m.EventBus.Err = h.listensTCP(m.PID, c.TCPMasterPubPort)
	}
	m.RequestPort.Name = fmt.Sprint("port ", c.RetPort)
	m.RequestPort.Listening, m.RequestPort.Err = h.listensTCP(m.PID, c.RetPort)
	m.Keys, m.KeysLeft, m.KeysErr = lookAtKeys(c)
	m.AutosignFile, m.AutorejectFile = readSigning(c.AutosignFile), readSigning(c.AutorejectFile)
	m.AutosignGrains = readGrains(c.AutosignGrainsDir)
	m.AutosignFolder = names(filepath.Join(c.PKIDir, "minions_autosign"))
	for _, reaction := range c.Reactions {
		m.Reactions = append(m.Reactions, lookAtReaction(reaction)...)
	}
	m.Runners = lookAtRunners(append([]string{filepath.Join(c.ExtensionModules, "runners")}, c.RunnerDirs...))
	return m
}

func lookAtKeys(c salt.Config) (found []Key, left int, err error) {
	keys, err := salt.OpenKeys(c)
	if err != nil {
		return nil, 0, err
	}
	list, err := keys.List()
	if err != nil {
		return nil, 0, err
	}
	for _, of := range []struct {
		state salt.State
		ids   []string
	}{{salt.Accepted, list.Accepted}, {salt.Pending, list.Pending}, {salt.Rejected, list.Rejected}, {salt.Denied, list.Denied}} {
		for _, id := range of.ids {
			k := Key{ID: id, State: of.state}
			if of.state == salt.Accepted || of.state == salt.Pending {
				if len(found) >= maxKeys {
					left++
				} else if text, err := keys.Read(id, of.state); err != nil {
					if errors.Is(err, salt.ErrNoKey) {
						continue // gone meanwhile
					}
					k.Fault = err
				} else {
					k.Digest, k.Fault = fleet.KeyDigest(text)
				}
			}
			found = append(found, k)
		}
	}
	for name, err := range list.Bad {
		if len(found) >= maxKeys {
			left++
			continue
		}
		found = append(found, Key{ID: name, Fault: err})
	}
	return found, left, nil
}

// readSigning reads patterns as salt.daemons.masterapi.AutoKey does.
func readSigning(path string) Signing {
	s := Signing{Path: path}
	if path == "" {
		return s
	}
	text, err := files.Head(path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return s
	}
	s.Err = err
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			s.Patterns = append(s.Patterns, line)
		}
	}
	return s
}

// readGrains reads a folder with a file for each grain.
func readGrains(dir string) Signing {
	s := Signing{Path: dir}
	for _, name := range names(dir) {
		one := readSigning(filepath.Join(dir, name))
		s.Err = errors.Join(s.Err, one.Err)
		for _, value := range one.Patterns {
			s.Patterns = append(s.Patterns, name+": "+value)
		}
	}
	return s
}

// names are the names in a folder; none if it is not there.
func names(dir string) (found []string) {
	if dir == "" {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer f.Close()
	found, _ = f.Readdirnames(maxEntries)
	slices.Sort(found)
	return found
}

// tags are what a bridge listens to, an example of each.
var tags = [][]byte{[]byte("salt/auth"), []byte("salt/key"), []byte("salt/minion/i-0123456789abcdef0/start")}

// ours are what Phoenix's own files call their reactions.
var ours = regexp.MustCompile(`(?m)^phoenix_(auth|key|start):`)

// called are calls that matter, by what a reaction must hold to make them.
var called = []struct {
	text *regexp.Regexp
	is   string
}{
	{regexp.MustCompile(`key\.accept|accept_dict`), callsAccept},
	{regexp.MustCompile(`\bkey\.(delete|reject)`), callsKeys},
	{regexp.MustCompile(`\bstate\.(highstate|apply|sls|orch\w*|top)\b`), callsStates},
	{regexp.MustCompile(`\b(key_runner|highstate_runner)\b`), callsOld},
}

// lookAtReaction reads the files of a reaction that reacts to what a bridge
// listens to.
func lookAtReaction(r salt.Reaction) (found []Reaction) {
	if !slices.ContainsFunc(tags, event.Glob(r.Tag)) {
		return nil
	}
	for _, pattern := range r.Files {
		files, err := filepath.Glob(pattern) // as Salt does
		if strings.HasPrefix(pattern, "salt://") {
			err = errors.New("it lies on the fileserver")
		} else if err == nil && len(files) == 0 {
			err = errors.New("there is no such file")
		}
		if err != nil {
			found = append(found, Reaction{Tag: r.Tag, File: pattern, Err: err})
			continue
		}
		for _, file := range files {
			found = append(found, readReaction(r.Tag, file))
		}
	}
	return found
}

func readReaction(tag, file string) Reaction {
	r := Reaction{Tag: tag, File: file}
	text, err := files.Head(file, maxFile)
	if err != nil {
		r.Err = err
		return r
	}
	text = withoutComments(text)
	r.Ours = ours.Match(text)
	for _, call := range called {
		if call.text.Match(text) {
			r.Calls = append(r.Calls, call.is)
		}
	}
	if slices.Contains(r.Calls, callsAccept) || slices.Contains(r.Calls, callsStates) {
		r.Ours = false // ours do neither
	}
	return r
}

// jinjaComment is what no renderer sees.
var jinjaComment = regexp.MustCompile(`(?s)\{#.*?#\}`)

func withoutComments(text []byte) []byte {
	var rest []byte
	lines := bufio.NewScanner(bytes.NewReader(jinjaComment.ReplaceAll(text, nil)))
	lines.Buffer(nil, maxFile)
	for lines.Scan() {
		if line := bytes.TrimSpace(lines.Bytes()); !bytes.HasPrefix(line, []byte("#")) || bytes.HasPrefix(line, []byte("#!")) {
			rest = append(append(rest, lines.Bytes()...), '\n')
		}
	}
	return rest
}

// marks tell our runners from others of the same names.
var marks = map[string]string{
	"key_runner.py":       `__salt__["phoenix.hint"]`,
	"highstate_runner.py": `__salt__["phoenix.hint"]`,
	"phoenix.py":          `/v1/hints`,
}

func lookAtRunners(dirs []string) (found []Runner) {
	for _, dir := range dirs {
		for _, name := range []string{"key_runner.py", "highstate_runner.py", "phoenix.py"} {
			path := filepath.Join(dir, name)
			if text, err := files.Head(path, maxFile); err == nil {
				found = append(found, Runner{Path: path, Ours: bytes.Contains(text, []byte(marks[name]))})
			}
		}
	}
	return found
}
