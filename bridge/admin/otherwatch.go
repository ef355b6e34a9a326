package admin

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"phoenix/bridge/audit"
	"phoenix/bridge/decide"
	"phoenix/bridge/open"
	"phoenix/bridge/plural"
	"phoenix/bridge/salt"
)

const (
	// otherEvery is how often a bridge looks for denied keys: a listing of folders, and a
	// read of the row of each denied key that is new.
	otherEvery = 15 * time.Second
	// rebindWindow is the time in which rebind.limit counts.
	rebindWindow = 24 * time.Hour
	// rebindLines bounds what is counted: more than the audit trail has.
	rebindLines = 200_000

	otherDenied = "another key is denied"
	rebound     = "key rebound"
	notRebound  = "key not rebound"
)

// Bridge is who asks where a bridge acts by itself.
const Bridge = "bridge"

// otherWatch follows the denied keys of a master.
type otherWatch struct {
	Admin
	keys     *salt.Keys
	read     map[string]salt.FileVersion // denied keys that nothing is left to be done about
	recorded map[string]string           // the digest that was recorded last, by id
	refused  map[string]string           // why a key is not rebound, by id
	rebound  []time.Time                 // by this process
	now      func() time.Time
}

// WatchOtherKeys records when Salt denies another key for an id whose key is known, once
// for each key, until ctx ends. Where rebind.limit is set it binds that key by itself,
// as keys accept --rebind does, so many times in 24 hours.
func (a Admin) WatchOtherKeys(ctx context.Context) error {
	_, keys, _, err := open.Master(a.Config)
	if err != nil {
		return err
	}
	w := newOtherWatch(a, keys)
	again := time.NewTicker(otherEvery)
	defer again.Stop()
	failing := ""
	for {
		err := w.check(ctx)
		if ctx.Err() != nil {
			return nil
		}
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != failing && err != nil {
			a.log().Warn("denied keys were not examined", "err", err)
		}
		failing = text
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
		}
	}
}

func newOtherWatch(a Admin, keys *salt.Keys) *otherWatch {
	return &otherWatch{Admin: a, keys: keys, read: map[string]salt.FileVersion{}, recorded: map[string]string{},
		refused: map[string]string{}, now: time.Now}
}

// check examines the denied keys that have changed, maxOtherKeys of them at most; the
// others are examined the next time.
func (w *otherWatch) check(ctx context.Context) error {
	list, err := w.keys.List()
	if err != nil {
		return fmt.Errorf("list keys: %w", err)
	}
	slices.Sort(list.Denied)
	versions := map[string]salt.FileVersion{}
	for _, id := range list.Denied {
		version, err := w.keys.Version(id, salt.Denied)
		if err != nil || len(versions) >= maxOtherKeys {
			continue
		}
		if known, done := w.read[id]; !done || known != version {
			versions[id] = version
		}
	}
	w.forget(list.Denied)
	if len(versions) == 0 {
		return nil
	}
	changed := slices.DeleteFunc(list.Denied, func(id string) bool { _, there := versions[id]; return !there })
	others, _, err := w.otherKeys(ctx, w.keys, salt.Listing{Denied: changed}, nil)
	if err != nil {
		return err
	}
	open := map[string]bool{}
	for _, k := range others {
		if err := w.record(k); err != nil {
			return err
		}
		if w.Config.Rebind.Limit > 0 && !w.rebind(ctx, k) {
			open[k.ID] = true // it may be allowed later
		}
	}
	for id, version := range versions {
		if !open[id] && version != (salt.FileVersion{}) { // it may still change unseen
			w.read[id] = version
		}
	}
	return nil
}

// forget forgets the ids that have no denied key any more.
func (w *otherWatch) forget(denied []string) {
	for id := range w.read {
		if _, there := slices.BinarySearch(denied, id); !there {
			delete(w.read, id)
			delete(w.refused, id)
		}
	}
}

// record records a key, unless it was recorded before, by an earlier bridge too.
func (w *otherWatch) record(k OtherKey) error {
	if w.recorded[k.ID] == k.Key {
		return nil
	}
	lines, err := audit.Last(w.Config.Audit.File, k.ID, unlinkedLines)
	if err != nil {
		return err
	}
	last := ""
	for _, line := range lines {
		if line.Text == otherDenied {
			last = attribute(line, "key")
		}
	}
	if last != k.Key {
		if err := w.append(slog.LevelWarn, otherDenied, k.ID, "key", k.Key, "bound", k.Known, "since",
			k.Since.UTC().Format(time.RFC3339)); err != nil {
			return err
		}
		w.log().Warn(otherDenied, "minion", k.ID, "key", k.Key, "bound", k.Known)
	}
	w.recorded[k.ID] = k.Key
	return nil
}

// rebind binds another key, if rebind.limit allows it, and reports whether nothing is
// left to be done about it.
func (w *otherWatch) rebind(ctx context.Context, k OtherKey) (done bool) {
	why, err := w.forbidden(ctx, k)
	if err == nil && why == "" {
		// Recorded before: an act that cannot be counted is not done.
		if err = w.append(slog.LevelWarn, rebound+" by rebind.limit", k.ID, "key", k.Key, "bound",
			k.Known); err == nil {
			w.rebound = append(w.rebound, w.now())
			err = w.rebindTo(ctx, k)
		}
	}
	switch {
	case err != nil:
		why = err.Error()
	case why == "":
		w.log().Warn(rebound+" by rebind.limit", "minion", k.ID, "key", k.Key, "bound", k.Known)
		delete(w.refused, k.ID)
		return true
	}
	if w.refused[k.ID] != why+k.Key {
		w.refused[k.ID] = why + k.Key
		w.log().Warn(notRebound, "minion", k.ID, "key", k.Key, "err", why)
		_ = w.append(slog.LevelWarn, notRebound, k.ID, "key", k.Key, "bound", k.Known, "reason", why) // the log has it
	}
	return false
}

func (w *otherWatch) rebindTo(ctx context.Context, k OtherKey) error {
	r, err := w.rebinding(ctx, w.keys, k.ID, k.Key)
	if err != nil {
		return err
	}
	if r.State != "denied" {
		return fmt.Errorf("rebind key %s: %w", k.ID, salt.ErrChanged)
	}
	_, err = w.Rebind(ctx, r)
	return err
}

// forbidden says why a key is not bound without an administrator; empty: it may be.
func (w *otherWatch) forbidden(ctx context.Context, k OtherKey) (string, error) {
	view, err := w.keyView(ctx, w.keys, k.ID)
	switch {
	case err != nil:
		return "", err
	case !view.Known || view.Row.KeySHA256 == "":
		return "no key is bound to it", nil
	case view.Row.ReplacedSHA256 == k.Key: // by whichever master
		return "it was bound before, and replaced", nil
	case view.Rejected.Present:
		return "an administrator rejected a key of it", nil
	case decide.Admit(w.Config.Admit) == decide.Proven && view.Proof != k.Key:
		return "its instance has not written this key as proof", nil
	}
	// It is bound already where another master was first, or the last call failed halfway.
	again := view.Row.KeySHA256 == k.Key
	now := w.now()
	lines, err := audit.Between(w.Config.Audit.File, time.Time{}, now.Add(time.Hour), rebindLines)
	if err != nil {
		return "", err
	}
	recorded := 0
	for _, line := range lines {
		if !strings.HasPrefix(line.Text, rebound) {
			continue
		}
		// Two machines with one id would take the place from each other, over and over.
		if !again && line.Minion == k.ID && attribute(line, "bound") == k.Key {
			return "it was bound before, and replaced", nil
		}
		if line.Text == rebound+" by rebind.limit" && now.Sub(line.Time) < rebindWindow {
			recorded++
		}
	}
	w.rebound = slices.DeleteFunc(w.rebound, func(at time.Time) bool { return now.Sub(at) >= rebindWindow })
	if max(recorded, len(w.rebound)) >= w.Config.Rebind.Limit {
		return fmt.Sprintf("rebind.limit: %s rebound within %v", plural.Of(w.Config.Rebind.Limit, "key"), rebindWindow),
			nil
	}
	return "", nil
}

// append adds one line to the audit trail.
func (a Admin) append(level slog.Level, what, id string, more ...any) error {
	var line bytes.Buffer
	slog.New(slog.NewJSONHandler(&line, nil)).Log(context.Background(), level, what,
		append([]any{"minion", id}, more...)...)
	return audit.Append(a.Config.Audit.File, line.Bytes(), audit.MaxFile)
}

// attribute returns what a line of the audit trail says under a name.
func attribute(line audit.Line, name string) string {
	for _, more := range line.More {
		if value, ok := strings.CutPrefix(more, name+"="); ok {
			return value
		}
	}
	return ""
}
