package doctor

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"phoenix/bridge/files"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
)

const (
	// maxKeys bounds how many keys are read.
	maxKeys = 200_000
	// readers is how many read keys at the same time.
	readers = 4
	// maxFile bounds a file of the reactor, a runner, or a signing file.
	maxFile = 256 << 10
	// maxEntries bounds what is listed of a folder.
	maxEntries = 1000
)

// ReadMaster reads what there is to know of a master so configured. It changes nothing.
func ReadMaster(c salt.Config) Master {
	h := host{proc: "/proc"}
	m := Master{Config: c, PID: h.pid(c.PIDFile, "salt-master")}
	m.Version = h.version(m.PID)
	if network, address := c.EventSocket(); network == "unix" {
		m.EventBus.Name = address
		m.EventBus.Listening, m.EventBus.Err = h.listensUnix(m.PID, address)
	} else {
		m.EventBus.Name = "port " + fmt.Sprint(c.TCPMasterPubPort)
		m.EventBus.Listening, m.EventBus.Err = h.listensTCP(m.PID, "", c.TCPMasterPubPort)
	}
	m.RequestPort.Name = fmt.Sprint("port ", c.RetPort)
	m.RequestPort.Listening, m.RequestPort.Err = h.listensTCP(m.PID, c.Interface, c.RetPort)
	m.Keys, m.KeysLeft, m.KeysErr = readKeys(c)
	m.AutosignFile, m.AutorejectFile = readSigning(c.AutosignFile), readSigning(c.AutorejectFile)
	m.AutosignGrains = readGrains(c.AutosignGrainsDir)
	m.AutosignFolder = names(filepath.Join(c.PKIDir, "minions_autosign"))
	m.Actors = actors(c)
	m.Mounts, _ = mounts(filepath.Join(h.proc, "self", "mountinfo"))
	m.Shared = h.sharedFolders(c)
	m.Cron, m.CronErr = cronJobs("/")
	m.Returner, m.ForeignJobs = readReturner(c), foreignJobs(c)
	m.OptionSets = readOptionSets(c.Path, c.DropIns)
	m.Runners = readRunners(append([]string{filepath.Join(c.ExtensionModules, "runners")}, c.RunnerDirs...))
	return m
}

// readKeys reads the accepted and the pending keys, whose digests matter, by several
// workers: 100,000 take some seconds.
func readKeys(c salt.Config) (found []Key, left int, err error) {
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
	}{{salt.Accepted, list.Accepted}, {salt.Pending, list.Pending}, {salt.Rejected, list.Rejected},
		{salt.Denied, list.Denied}} {
		for _, id := range of.ids {
			if len(found) >= maxKeys {
				left++
				continue
			}
			found = append(found, Key{ID: id, State: of.state})
		}
	}
	var workers sync.WaitGroup
	share := len(found)/readers + 1
	for part := range slices.Chunk(found, share) {
		workers.Go(func() {
			for i, k := range part {
				if k.State != salt.Rejected {
					part[i] = readKey(keys, k)
				}
			}
		})
	}
	workers.Wait()
	found = slices.DeleteFunc(found, func(k Key) bool { return k.ID == "" })
	for name, err := range list.Bad {
		if len(found) >= maxKeys {
			left++
			continue
		}
		found = append(found, Key{ID: name, Fault: err, Paths: oddPaths(c, name)})
	}
	return found, left, nil
}

// readKey reads one key. One that is gone meanwhile loses its id.
func readKey(keys *salt.Keys, k Key) Key {
	text, err := keys.Read(k.ID, k.State)
	switch {
	case errors.Is(err, salt.ErrNoKey):
		return Key{}
	case err != nil && !errors.Is(err, salt.ErrUnsettled):
		k.Fault = err
	default:
		k.Digest, k.Fault = fleet.KeyDigest(text)
	}
	k.Empty = err != nil && len(bytes.TrimSpace(text)) == 0
	return k
}

// oddPaths are the entries of a name that are no keys.
func oddPaths(c salt.Config, name string) (paths []string) {
	for _, state := range []salt.State{salt.Accepted, salt.Pending, salt.Rejected, salt.Denied} {
		path := filepath.Join(c.PKIDir, string(state), name)
		if info, err := os.Lstat(path); err == nil {
			if info.IsDir() {
				path += "/"
			}
			paths = append(paths, path)
		}
	}
	return paths
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

// marks distinguish Phoenix's runners from others of the same names.
var marks = map[string]string{
	"key_runner.py":       `__salt__["phoenix.hint"]`,
	"highstate_runner.py": `__salt__["phoenix.hint"]`,
	"phoenix.py":          `/v1/hints`,
}

func readRunners(dirs []string) (found []Runner) {
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
