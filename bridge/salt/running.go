package salt

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/vmihailenco/msgpack/v5"

	"phoenix/bridge/event"
)

// Running is a job that a minion says is running.
type Running struct {
	JID string `msgpack:"jid"`
	Fun string `msgpack:"fun"` // empty: of several functions
	PID int    `msgpack:"pid"`
	// Started is when, as the minion says it; only a refusal tells.
	Started string `msgpack:"-"`
}

// State reports whether it keeps states from being run: Salt runs one function of
// the state module at a time (state.running).
func (r Running) State() bool { return strings.HasPrefix(r.Fun, "state.") }

const (
	maxRunning = 1000 // jobs that are read of one answer
	maxName    = 128  // a jid or a function that is longer is cut
)

var errRunning = errors.New(running + " returned no list of jobs")

// ReadRunning reads what a minion returned to WhatRuns: a list with the load of
// each job and its pid, but for the job that asks (3006 to 3008; tried). A
// function that raised returns a text, which is an error: it does not mean that
// nothing runs.
func ReadRunning(body []byte) (jobs []Running, err error) {
	whole := false
	if err := event.Elements(body, func(job []byte) {
		whole = whole || len(jobs) == maxRunning
		jid, err := event.Field(job, "jid")
		if err != nil || whole {
			return // no map: nothing that Salt makes
		}
		r := Running{JID: short(jid)}
		fun, _ := event.Field(job, "fun")
		r.Fun = short(fun)
		if pid, _ := event.Field(job, "pid"); pid != nil {
			v, _ := event.Any(pid)
			n, _ := v.(int64)
			r.PID = int(n)
		}
		jobs = append(jobs, r)
	}); err != nil {
		return nil, fmt.Errorf("%w: %s", errRunning, says(body))
	}
	if whole {
		return nil, fmt.Errorf("%w: more than %d", errRunning, maxRunning)
	}
	return jobs, nil
}

func short(raw []byte) string {
	text, _ := textOf(raw)
	return text[:min(len(text), maxName)]
}

// says returns the begin of an answer that is not what it should be.
func says(body []byte) string {
	if text, ok := textOf(body); ok {
		return fmt.Sprintf("%.200s", cause(text))
	}
	return fmt.Sprintf("%d bytes", len(body))
}

// refusal is a line of state.running (salt/modules/state.py, 3006 to 3008).
var refused = regexp.MustCompile(`^The function "([^"]*)" is running as PID (\d+) and was started at (.*) with jid (\S+)$`)

// ReadBusy reads the refusal of a state function to run beside others, which
// names them; nil if body is none. A job that was published again while it ran
// may name its own jid: then it runs.
func ReadBusy(body []byte) (jobs []Running) {
	for _, line := range event.BusyLines(body) {
		r := Running{Fun: "state", Started: "some time ago"} // of a Salt that says it otherwise
		if m := refused.FindStringSubmatch(line); m != nil {
			r.Fun, r.JID, r.Started = m[1], m[4], m[3]
			r.PID, _ = strconv.Atoi(m[2])
		}
		jobs = append(jobs, r)
	}
	return jobs
}

// ReadFailover reads what a minion returned to MasterType: whether one master at
// a time serves it.
func ReadFailover(body []byte) (bool, error) {
	kind, ok := textOf(body)
	if !ok || strings.Contains(kind, "\n") {
		return false, fmt.Errorf("%s returned no master_type: %s", configGet, says(body))
	}
	return kind == "failover", nil
}

// Brief reduces what a function returned to what is read of it here: a highstate's
// return may have 16 MiB, and what is decided on it are its return code and
// whether it was refused. Reading the brief gives what reading the whole does.
func Brief(fun string, body []byte) []byte {
	var v any
	switch fun {
	case running:
		jobs, err := ReadRunning(body)
		if v = jobs; err != nil {
			v = err.Error()
		} else if jobs == nil {
			v = []any{}
		}
	case findJob, configGet:
		if len(body) <= maxText {
			return body
		}
		if jid, err := event.Field(body, "jid"); err == nil && fun == findJob {
			v = map[string]any{}
			if jid != nil {
				v = map[string]any{"jid": short(jid)}
			}
		} else {
			v = says(body)
		}
	case findCached:
		if len(body) <= maxText {
			return body
		}
		retcode, err := event.Field(body, "retcode")
		if err != nil {
			v = says(body)
			break
		}
		success, _ := event.Field(body, "success")
		returned, _ := event.Field(body, "return")
		v = map[string]any{"retcode": small(retcode), "success": small(success), "return": event.BusyLines(returned)}
	default:
		v = event.BusyLines(body)
	}
	brief, err := msgpack.Marshal(v)
	if err != nil {
		return nil
	}
	return brief
}

// small keeps a small value as it stands.
func small(raw []byte) any {
	if raw == nil || len(raw) > 16 {
		return nil
	}
	return msgpack.RawMessage(raw)
}
