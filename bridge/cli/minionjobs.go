package cli

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"phoenix/bridge/bus"
	"phoenix/bridge/event"
	"phoenix/bridge/retry"
	"phoenix/bridge/salt"
)

const (
	// jobChunk minions get a job at a time: their answers come at the same moment.
	jobChunk = 500
	// jobQuiet is how long nobody has to answer before a job counts as over: minions that
	// the master knows need not be connected to it. jobMost bounds it in any case.
	jobQuiet = 10 * time.Second
	jobMost  = 2 * time.Minute
	// jobPoll is how often it is decided whether it is over.
	jobPoll = 100 * time.Millisecond
)

// minionJobs runs functions on the minions that are connected to this master.
type minionJobs struct {
	client *salt.Master
	quiet  time.Duration

	mu      sync.Mutex
	jid     string
	answers map[string]any // by minion, of the job that runs
	last    time.Time      // when the last one came
	linked  bool           // the event bus was connected once
}

// openJobs listens to the master's event bus until ctx ends.
func openJobs(ctx context.Context, master salt.Config, client *salt.Master) (*minionJobs, error) {
	events, err := quietBus(master)
	if err != nil {
		return nil, err
	}
	j := &minionJobs{client: client, quiet: jobQuiet}
	go func() { _ = events.Run(ctx, j) }() // it ends with ctx alone
	return j, nil
}

// quietBus returns the event bus of a master, which logs nothing.
func quietBus(master salt.Config) (*bus.Bus, error) {
	where := bus.Config{Logger: slog.New(slog.DiscardHandler)}
	if network, address := master.EventSocket(); network == "unix" {
		where.Path = address
	} else {
		where.Address = address
	}
	events, err := bus.New(where)
	if err != nil {
		return nil, usageError(err)
	}
	return events, nil
}

// Event implements [bus.Handler].
func (j *minionJobs) Event(e event.Event) {
	if e.Kind != event.KindReturn {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if string(e.JID) != j.jid || j.jid == "" {
		return
	}
	r, err := e.Return()
	if err != nil {
		return
	}
	if body, err := event.Any(r.Body); err == nil {
		j.answers[r.ID], j.last = body, time.Now()
	}
}

// Gap implements [bus.Handler]: who has not answered is asked again by the next run.
func (j *minionJobs) Gap(string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.linked = true
}

// run runs functions on minions, and gives what those that are connected here returned:
// of several functions, one value for each by its name.
func (j *minionJobs) run(ctx context.Context, ids []string, calls ...salt.Call) (map[string]any, error) {
	all := map[string]any{}
	for chunk := range slices.Chunk(ids, jobChunk) {
		answers, err := j.once(ctx, chunk, calls...)
		if err != nil {
			return nil, err
		}
		maps.Copy(all, answers)
	}
	return all, nil
}

func (j *minionJobs) once(ctx context.Context, ids []string, calls ...salt.Call) (map[string]any, error) {
	j.mu.Lock()
	jid := salt.NewJID(time.Now(), j.jid)
	j.jid, j.answers, j.last = jid, map[string]any{}, time.Now()
	j.mu.Unlock()
	for published, until := false, time.Now().Add(jobMost); time.Now().Before(until); {
		if !published && j.connected() {
			if _, err := j.client.Publish(ctx, salt.Job{JID: jid, Calls: calls, Targets: ids}); err != nil {
				return nil, err
			}
			published = true
			j.mu.Lock()
			j.last = time.Now()
			j.mu.Unlock()
		}
		j.mu.Lock()
		over := published && (len(j.answers) >= len(ids) || time.Since(j.last) > j.quiet)
		answers := maps.Clone(j.answers) // one that comes late is still written to the other
		j.mu.Unlock()
		if over {
			return answers, nil
		}
		if !retry.Sleep(ctx, jobPoll) {
			return nil, ctx.Err()
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.linked {
		return nil, fmt.Errorf("run job on minions: event bus is not connected: %w", salt.ErrUnreachable)
	}
	return maps.Clone(j.answers), nil
}

func (j *minionJobs) connected() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.linked
}

// returned returns what one of several functions returned as text.
func returned(answer any, fun string) string {
	byName, _ := answer.(map[string]any)
	text, _ := byName[fun].(string)
	return text
}

// below names a file in a folder of a minion's, whose system may be another.
func below(folder, name string) string {
	if strings.Contains(folder, `\`) {
		return strings.TrimRight(folder, `\`) + `\` + name
	}
	return path.Join(folder, name)
}

// minionWrites has a minion write a text, line by line, as file.write takes it.
func minionWrites(name, text string) salt.Call {
	call := salt.Call{Fun: "file.write", Args: []any{name}}
	for line := range strings.Lines(text) {
		call.Args = append(call.Args, strings.TrimRight(line, "\r\n"))
	}
	return call
}

func call(fun string, args ...any) salt.Call { return salt.Call{Fun: fun, Args: args} }
