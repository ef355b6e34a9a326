package lastrun

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"phoenix/bridge/event"
	"phoenix/bridge/files"
)

const (
	// maxReturn bounds a file of the job cache that is read.
	maxReturn = 64 << 20
	// maxLoads bounds how many jobs of one minion are read: those that ran no states,
	// after its last state run.
	maxLoads = 500
)

// FromJobCache finds the last state runs of minions in the job cache of a master, whoever
// started them, also those that a record does not have because it began later. A master keeps returns for
// keep_jobs_seconds, a day by default.
//
// The cache has no index by minion (salt/returners/local_cache.py, of 3006 to 3008: one
// folder a job, jobs/XX/YY…, with .load.p and ID/return.p for each return; a job that a
// minion began by itself has no file jid there), so all its folders are searched. If ctx
// ends first, what was found is not returned: the last run may be among the rest.
func FromJobCache(ctx context.Context, cachedir string, ids []string) (map[string]Run, error) {
	found, err := findReturns(ctx, filepath.Join(cachedir, "jobs"), ids)
	if err != nil {
		return nil, err
	}
	runs := map[string]Run{}
	for id, jobs := range found {
		slices.SortFunc(jobs, func(a, b cached) int { return b.at.Compare(a.at) }) // the newest first
		for _, job := range jobs[:min(len(jobs), maxLoads)] {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if run, ok := job.read(id); ok {
				runs[id] = run
				break
			}
		}
	}
	return runs, nil
}

// cached is a job with a return of a minion.
type cached struct {
	folder string
	at     time.Time // when the return was written
}

// findReturns finds the jobs with a return of each minion.
func findReturns(ctx context.Context, jobs string, ids []string) (map[string][]cached, error) {
	found := map[string][]cached{}
	groups, err := os.ReadDir(jobs)
	if err != nil {
		return nil, err
	}
	for _, group := range groups {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		folders, err := os.ReadDir(filepath.Join(jobs, group.Name()))
		if err != nil {
			continue // it is no folder, or was just removed, as old jobs are
		}
		for _, folder := range folders {
			job := filepath.Join(jobs, group.Name(), folder.Name())
			for _, id := range ids {
				if info, err := os.Lstat(filepath.Join(job, id, "return.p")); err == nil {
					found[id] = append(found[id], cached{job, info.ModTime()})
				}
			}
		}
	}
	return found, nil
}

// read reads what a minion returned, if the job ran states.
func (job cached) read(id string) (Run, bool) {
	load, err := fieldsOf(filepath.Join(job.folder, ".load.p"))
	if err != nil || load["fun"] == nil {
		return Run{}, false
	}
	if fun := string(event.Bytes(load["fun"])); fun != "" {
		if _, of := stateFunction(fun); !of {
			return Run{}, false
		}
	}
	returned, err := fieldsOf(filepath.Join(job.folder, id, "return.p"))
	if err != nil {
		return Run{}, false
	}
	e, err := job.event(id, load, returned)
	if err != nil {
		return Run{}, false
	}
	run, ok := read(e)
	run.At = job.at
	return run, ok
}

// event makes the event of the return as the bus had it. A job that a master published has
// arg in its load, one that a minion ran by itself has fun_args.
func (job cached) event(id string, load, returned map[string][]byte) (event.Event, error) {
	jid := string(event.Bytes(load["jid"]))
	data := map[string]any{"id": id, "jid": jid, "fun": msgpack.RawMessage(load["fun"])}
	if args := cmp.Or(string(load["fun_args"]), string(load["arg"])); args != "" {
		data["fun_args"] = msgpack.RawMessage(args)
	}
	for _, name := range []string{"return", "retcode", "success"} {
		if value := returned[name]; value != nil {
			data[name] = msgpack.RawMessage(value)
		}
	}
	raw, err := msgpack.Marshal(data)
	if err != nil {
		return event.Event{}, err
	}
	return event.SplitBody(append([]byte("salt/job/"+jid+"/ret/"+id+"\n\n"), raw...))
}

func fieldsOf(path string) (map[string][]byte, error) {
	raw, err := files.Read(path, maxReturn)
	if err != nil {
		return nil, err
	}
	return event.Fields(raw)
}

// IsNoJobCache reports whether an error of FromJobCache says that there is none.
func IsNoJobCache(err error) bool { return errors.Is(err, fs.ErrNotExist) }
