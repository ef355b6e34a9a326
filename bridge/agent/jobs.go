package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"phoenix/bridge/event"
	"phoenix/bridge/files"
)

// maxJob bounds what is read of one job: its file holds the arguments, which may
// be a whole file's text. One that is larger runs, whatever it is.
const maxJob = 4 << 20

// maxCommand is as much of a command line as names the program.
const maxCommand = 64 << 10

// emptyFor: the minion writes a job's file in place, so that one which is empty is
// being written; one that is older was left by a loss of power. Salt removes it
// when it is next asked what runs (salt.utils.minion, _read_proc_file).
const emptyFor = 5 * time.Second

// jobs returns those that run on a minion, from the files that it keeps of them in
// <cachedir>/proc (salt.utils.minion.running, alike in 3006 to 3008). Those of
// Salt's own schedule (__mine_interval, __master_alive_…) do not count.
func jobs(proc, cacheDir string) ([]Job, error) {
	dir := filepath.Join(cacheDir, "proc")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // the minion never ran
	}
	if err != nil {
		return nil, fmt.Errorf("list running jobs: %w", err)
	}
	var found []Job
	for _, entry := range entries {
		job, runs, err := readJob(proc, filepath.Join(dir, entry.Name()))
		if err != nil {
			return nil, fmt.Errorf("read running job %s: %w", entry.Name(), err)
		}
		if runs {
			job.JID = entry.Name()
			found = append(found, job)
		}
	}
	return found, nil
}

// readJob reads one file. Salt leaves files of killed jobs behind, so the process must
// exist, and be Salt's.
func readJob(proc, path string) (job Job, runs bool, err error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.IsDir() {
		return Job{}, false, nil
	}
	if err == nil && info.Size() == 0 {
		return Job{}, time.Since(info.ModTime()).Abs() < emptyFor, nil
	}
	if err != nil {
		return Job{}, false, err
	}
	if info.Size() > maxJob {
		return Job{}, true, nil
	}
	raw, err := files.Read(path, maxJob)
	if errors.Is(err, fs.ErrNotExist) {
		return Job{}, false, nil // it has just ended
	}
	if err != nil {
		return Job{}, false, err
	}
	value, err := event.Any(raw)
	if err != nil {
		return Job{}, true, nil // it is being written
	}
	data, _ := value.(map[string]any)
	schedule, _ := data["schedule"].(string)
	pid, _ := data["pid"].(int64)
	if !isSalt(proc, int(pid)) || strings.HasPrefix(schedule, "__") {
		return Job{}, false, nil
	}
	switch fun := data["fun"].(type) {
	case string:
		job.Funs = []string{fun}
	case []any:
		for _, f := range fun {
			job.Funs = append(job.Funs, fmt.Sprint(f))
		}
	}
	return job, true, nil
}

// isSalt reports whether a process lives and is Salt's, by the same test as Salt's
// (salt.utils.minion, _check_cmdline). A zombie has no command line.
func isSalt(proc string, pid int) bool {
	if pid <= 0 {
		return false
	}
	text, err := files.Head(filepath.Join(proc, strconv.Itoa(pid), "cmdline"), maxCommand)
	return err == nil && bytes.Contains(text, []byte("salt"))
}
