package salt

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"
)

// Call is one function and what it is given.
type Call struct {
	Fun    string
	Args   []any
	Kwargs map[string]any
}

func (c Call) arg() []any {
	arg := append([]any{}, c.Args...)
	if len(c.Kwargs) > 0 {
		kwargs := maps.Clone(c.Kwargs)
		kwargs["__kwarg__"] = true // how Salt marks the one argument that is all of them
		arg = append(arg, kwargs)
	}
	return arg
}

// Job is what minions are asked to run. Several calls run one after the other.
type Job struct {
	JID     string
	Calls   []Call
	Targets []string
}

// Publish hands a job to the minions named, under the job's own jid, and returns
// those that the master has accepted keys of. If there are none, nothing was
// published. Whether any of them is connected, the master does not know.
func (m *Master) Publish(ctx context.Context, j Job) (minions []string, err error) {
	minions, err = m.publish(ctx, j)
	if err != nil {
		return nil, fmt.Errorf("publish %s to %s: %w", j.JID, some(j.Targets), err)
	}
	return minions, nil
}

func (m *Master) publish(ctx context.Context, j Job) ([]string, error) {
	if !validJID(j.JID) {
		return nil, fmt.Errorf("%q is no jid", j.JID)
	}
	if len(j.Calls) == 0 || len(j.Targets) == 0 {
		return nil, fmt.Errorf("%d functions for %d minions", len(j.Calls), len(j.Targets))
	}
	if err := checkIDs(j.Targets); err != nil {
		return nil, err
	}
	load := map[string]any{"cmd": "publish", "tgt": j.Targets, "tgt_type": "list", "ret": "",
		"jid": j.JID, "user": m.user, "fun": j.Calls[0].Fun, "arg": j.Calls[0].arg()}
	if len(j.Calls) > 1 {
		var funs, args []any
		for _, c := range j.Calls {
			funs, args = append(funs, c.Fun), append(args, c.arg())
		}
		load["fun"], load["arg"] = funs, args
	}
	if m.noted != nil {
		m.noted(j.JID)
	}
	return m.handOut(ctx, j.JID, load)
}

// handOut has the master publish a load.
func (m *Master) handOut(ctx context.Context, jid string, load map[string]any) ([]string, error) {
	answer, err := m.call(ctx, publishTimeout, load)
	if err != nil {
		return nil, err
	}
	done, ok := answer["load"].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%w (%w): %.200v", ErrRefused, ErrDoubt, answer)
	}
	switch done["jid"] {
	case nil: // {"jid": null, "minions": [], "error": "Master could not resolve minions …"}
		return nil, nil
	case jid:
		return texts(done["minions"]), nil
	}
	other, _ := done["jid"].(string)
	if !validJID(other) {
		other = ""
	}
	return nil, &OtherJIDError{JID: other}
}

// OtherJIDError says that the master has published a job, but under another jid
// than it was given: its job cache (master_job_cache) generates its own jids. The
// minions do not know the jid that they were meant to see. JID is empty if it is
// no jid of Salt's kind.
type OtherJIDError struct{ JID string }

func (e *OtherJIDError) Error() string {
	return fmt.Sprintf("the master published it as %q: its master_job_cache generates its own jids", e.JID)
}

// Ping asks minions to answer. Who is connected here, returns.
func (m *Master) Ping(ctx context.Context, jid string, ids []string) ([]string, error) {
	return m.Publish(ctx, Job{JID: jid, Calls: []Call{{Fun: "test.ping"}}, Targets: ids})
}

// jidLayout is Salt's form of a jid: UTC to the microsecond, twenty digits.
const jidLayout = "20060102150405.000000"

// NewJID makes a jid of the time now that comes after last, the one made before
// (or empty): minions drop a jid that they have seen.
func NewJID(now time.Time, last string) string {
	now = now.UTC().Truncate(time.Microsecond)
	if len(last) == len("20060102150405000000") {
		if t, err := time.Parse(jidLayout, last[:14]+"."+last[14:]); err == nil && !now.After(t) {
			now = t.Add(time.Microsecond)
		}
	}
	return strings.Replace(now.Format(jidLayout), ".", "", 1)
}

// JIDTime is the time that a jid names, for people; empty if it names none.
func JIDTime(jid string) string {
	if len(jid) < 14 {
		return ""
	}
	t, err := time.Parse("20060102150405", jid[:14])
	if err != nil {
		return ""
	}
	return t.Format("2006-01-02 15:04:05")
}

// validJID keeps what is no jid from Salt, which makes a folder of that name.
func validJID(jid string) bool {
	return len(jid) == 20 && strings.Trim(jid, "0123456789") == ""
}
