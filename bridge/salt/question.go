package salt

import (
	"context"

	"phoenix/bridge/event"
)

// Question is what minions are asked, in a job of its own: while a job of several
// functions stands in a minion's proc folder, each state run that begins there
// fails with a TypeError, since saltutil.is_running takes "fun" for a text
// (3006.28, 3007.15; tried).
//
// Each question is one more jid for the minion to remember, and it remembers
// minion_jid_queue_hwm of them (100 by default, 3006 to 3008): so they are few.
type Question struct{ Fun, Arg string }

const (
	running    = "saltutil.running"
	findJob    = "saltutil.find_job"
	findCached = "saltutil.find_cached_job"
	configGet  = "config.get"
)

// WhatRuns asks for all jobs that run on a minion; see ReadRunning. One question
// does for minions with jobs of any jid.
func WhatRuns() Question { return Question{Fun: running} }

// FindJob asks whether a job runs, or waits in a queue of the minion's, which
// WhatRuns does not tell (state_queue, process_count_max); see Answers.
func FindJob(jid string) Question { return Question{findJob, jid} }

// FindCached asks what the minion's cache of jobs has of a job; see Answers.
func FindCached(jid string) Question { return Question{findCached, jid} }

// MasterType asks by how many masters the minion is served; see ReadFailover.
func MasterType() Question { return Question{configGet, "master_type"} }

// Ask puts a question to minions. Who is connected here returns.
func (m *Master) Ask(ctx context.Context, jid string, q Question, ids []string) error {
	call := Call{Fun: q.Fun}
	if q.Arg != "" {
		call.Args = []any{q.Arg}
	}
	_, err := m.Publish(ctx, Job{JID: jid, Targets: ids, Calls: []Call{call}})
	return err
}

// textOf reads a text that is not longer than any that matters.
func textOf(body []byte) (text string, ok bool) {
	if len(body) > maxText {
		return "", false
	}
	v, err := event.Any(body)
	if err != nil {
		return "", false
	}
	text, ok = v.(string)
	return text, ok
}

// maxText bounds the texts that answers consist of; a traceback is longer.
const maxText = 4 << 10
