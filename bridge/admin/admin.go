// Package admin has the operations of administrators: on the minions of the fleet,
// on the keys of this master, on first highstates. The command line and the
// bridge's socket call them; they read no command line and print nothing.
//
// An operation that leaves rows out because they cannot be decoded returns the
// others together with an error that fleet.WithoutBadRows takes apart. One that is
// asked wrongly returns an error that is config.ErrInvalid.
package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"strings"
	"time"

	"phoenix/bridge/api"
	"phoenix/bridge/audit"
	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
	"phoenix/bridge/plural"
)

// Admin performs operations on one fleet and one master. It keeps no state: any
// number of goroutines may use it.
type Admin struct {
	Config config.Config
	Store  fleet.Store
	// By is who asks, for the audit trail.
	By  string
	Log *slog.Logger // nil: none

	// Warn is called with what a result leaves out, and Note with what the
	// administrator may want to know besides, one line each; nil: nobody reads it.
	Warn, Note func(text string)
	// Progress is called before what may take long. It returns a function to be
	// called afterwards; nil: nobody waits at a terminal.
	Progress func(what string) (done func())
}

func (a Admin) note(format string, args ...any) {
	if a.Note != nil {
		a.Note(fmt.Sprintf(format, args...))
	}
}

func (a Admin) warn(format string, args ...any) {
	if a.Warn != nil {
		a.Warn(fmt.Sprintf(format, args...))
	}
}

func (a Admin) progress(format string, args ...any) (done func()) {
	if a.Progress == nil {
		return func() {}
	}
	return a.Progress(fmt.Sprintf(format, args...))
}

func (a Admin) log() *slog.Logger {
	if a.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return a.Log
}

// checkIDs returns an error unless there are ids and each matches id_pattern.
func (a Admin) checkIDs(ids []string) error {
	if len(ids) == 0 {
		return config.Invalid(errors.New("no minion id"))
	}
	valid := a.Config.ValidID()
	for _, id := range ids {
		if !valid(id) {
			others := ""
			if len(ids) > 1 {
				others = "; nothing was done for the others either"
			}
			return config.Invalid(fmt.Errorf("minion id %q does not match id_pattern %s%s", id,
				a.Config.IDPattern, others))
		}
	}
	return nil
}

// Record adds what was done by hand to the audit trail. An error is noted and undoes
// nothing.
func (a Admin) Record(what string, ids ...string) {
	var lines bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&lines, nil))
	for _, id := range ids {
		log.Info(what+" by hand", "minion", id, "by", a.By)
	}
	a.recorded(audit.Append(a.Config.Audit.File, lines.Bytes(), audit.MaxFile))
}

// recorded notes that the audit trail was not written.
func (a Admin) recorded(err error) {
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // without its folder no bridge ever ran here
		a.note("%v", err)
	}
}

// notifyWithin bounds the call of the bridge: it only saves waiting.
const notifyWithin = 2 * time.Second

// notify lets a bridge on this machine know at once that rows were changed. None
// may run here; each bridge finds out by itself.
func (a Admin) notify(ctx context.Context, ids ...string) {
	ctx, cancel := context.WithTimeout(ctx, notifyWithin)
	defer cancel()
	err := api.NewClient(a.Config.Socket).Invalidate(ctx, ids)
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrPermission):
		a.note("no permission to notify the bridge on %s (run as root or as the master's user); it finds out within a few minutes", a.Config.Socket)
	default:
		a.note("%s", noBridge(a.Config))
	}
}

// noBridge says that no bridge runs here, and who does the work then. A store of one machine
// has no other bridges.
func noBridge(cfg config.Config) string {
	text := "no bridge answers on " + cfg.Socket + ": "
	if cfg.OnDynamoDB() {
		return text + "those of other masters find out within a few minutes; if this machine is a master, systemctl start phoenix-bridge"
	}
	return text + "it acts on this once it runs (systemctl start phoenix-bridge)"
}

// apply applies changes, notifies the bridge, and returns the rows as they are then.
// what is recorded; err has the faults of single rows.
func (a Admin) apply(ctx context.Context, verb, what string, changes []fleet.Change) ([]fleet.Minion, error) {
	done := a.progress("writing %s", plural.Of(len(changes), "row"))
	results, err := a.Store.Apply(ctx, changes)
	done()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", verb, err)
	}
	rows := []fleet.Minion{}
	var changed []string
	var faults []error
	for i, r := range results {
		id := changes[i].Instance()
		if r.Err != nil {
			faults = append(faults, fmt.Errorf("%s: %w%s", id, r.Err, hint(r.Err, id)))
			continue
		}
		changed = append(changed, id)
		rows = append(rows, r.Row)
	}
	if len(changed) > 0 {
		a.Record(what, changed...)
		a.notify(ctx, changed...)
	}
	return rows, errors.Join(faults...)
}

// hint names the one thing to do about an error of an id, where there is one.
func hint(err error, id string) string {
	switch {
	case errors.Is(err, fleet.ErrTerminated):
		return " (phoenix minions add --again " + id + " if its name has come again)"
	case errors.Is(err, fleet.ErrOtherKey):
		return " (phoenix keys accept --rebind " + id + " if the machine was rebuilt)"
	case errors.Is(err, fleet.ErrClaimed):
		return " (phoenix minions explain " + id + " shows its progress)"
	}
	return ""
}

// minions reads the rows of a status, or of both.
func (a Admin) minions(ctx context.Context, statuses ...fleet.Status) ([]fleet.Minion, error) {
	if len(statuses) == 0 {
		statuses = []fleet.Status{fleet.Launch, fleet.Terminate}
	}
	defer a.progress("reading the fleet")()
	rows, bad := []fleet.Minion{}, map[string]error{} // [] in JSON, not null
	for _, s := range statuses {
		more, err := fleet.WithoutBadRows(a.Store.ByStatus(ctx, s, "", func(page []fleet.Minion) error {
			rows = append(rows, page...)
			return nil
		}))
		if err != nil {
			return nil, err
		}
		maps.Copy(bad, more)
	}
	return rows, fleet.BadRows(bad)
}

// OneLine renders an error on one line.
func OneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' }), "; ")
}
