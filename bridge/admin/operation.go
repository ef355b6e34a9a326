package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"phoenix/bridge/config"
)

// Operation performs one operation with its arguments in JSON, and returns what is
// then written as JSON.
type Operation func(ctx context.Context, arguments json.RawMessage) (any, error)

// Operations returns the operations that end soon, by their names.
func (a Admin) Operations() map[string]Operation {
	return map[string]Operation{
		"status":           with(func(ctx context.Context, _ none) (any, error) { return a.Status(ctx, CountAll) }),
		"masters.list":     with(func(ctx context.Context, _ none) (any, error) { return a.Masters(ctx) }),
		"minions.list":     with(a.list),
		"minions.add":      with(func(ctx context.Context, r AddMinions) (any, error) { return a.Add(ctx, r) }),
		"minions.retire":   with(a.retire),
		"minions.explain":  with(func(ctx context.Context, r ExplainMinion) (any, error) { return a.Explain(ctx, r) }),
		"adopt":            with(func(ctx context.Context, r AdoptMinions) (any, error) { return a.Adopt(ctx, r) }),
		"keys.list":        with(func(ctx context.Context, _ none) (any, error) { return a.Keys(ctx) }),
		"keys.accept":      with(func(ctx context.Context, r AcceptKeys) (any, error) { return a.Accept(ctx, r) }),
		"keys.restore":     with(func(ctx context.Context, r RestoreKeys) (any, error) { return a.Restore(ctx, r) }),
		"highstate.list":   with(func(ctx context.Context, r ListHighstates) (any, error) { return a.Highstates(ctx, r) }),
		"highstate.run":    with(func(ctx context.Context, r RunHighstates) (any, error) { return a.RunHighstate(ctx, r) }),
		"highstate.resume": with(func(ctx context.Context, _ none) (any, error) { return a.ResumeHighstates(ctx) }),
		"prune":            with(func(ctx context.Context, r PruneMinions) (any, error) { return a.Prune(ctx, r) }),
		"roster":           with(func(ctx context.Context, r MakeRoster) (any, error) { return a.Roster(ctx, r) }),
	}
}

// none are the arguments of an operation that takes none.
type none struct{}

// list is Minions, or LastRuns where the request says so.
func (a Admin) list(ctx context.Context, r ListMinions) (any, error) {
	rows, err := a.Minions(ctx, r)
	if !r.LastRun || rows == nil {
		return rows, err
	}
	return a.LastRuns(ctx, rows), err
}

// retire is Retire, or RetireHeld where the request says so.
func (a Admin) retire(ctx context.Context, r struct {
	RetireMinions
	Held bool `json:"held"`
}) (any, error) {
	if !r.Held {
		return a.Retire(ctx, r.RetireMinions)
	}
	if len(r.IDs) > 0 {
		return nil, config.Invalid(errors.New("--held takes no ids"))
	}
	return a.RetireHeld(ctx)
}

// with makes an Operation of a function with typed arguments. A field that the
// operation does not have is an error: what is misspelt is not left out.
func with[R any](perform func(ctx context.Context, r R) (any, error)) Operation {
	return func(ctx context.Context, arguments json.RawMessage) (any, error) {
		var r R
		if err := Arguments(arguments, &r); err != nil {
			return nil, err
		}
		return perform(ctx, r)
	}
}

// Arguments decodes the arguments of an operation into a struct.
func Arguments(arguments json.RawMessage, into any) error {
	if len(arguments) == 0 {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(arguments))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return config.Invalid(fmt.Errorf("read arguments: %w", err))
	}
	return nil
}

// Texts is a list in JSON, or one text of items with commas between them.
type Texts []string

// UnmarshalJSON implements json.Unmarshaler.
func (t *Texts) UnmarshalJSON(data []byte) error {
	var text *string
	if err := json.Unmarshal(data, &text); err == nil && text != nil {
		*t = strings.Split(*text, ",")
		return nil
	}
	return json.Unmarshal(data, (*[]string)(t))
}

// Duration is a text like 48h in JSON.
type Duration time.Duration

// UnmarshalJSON implements json.Unmarshaler.
func (d *Duration) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	parsed, err := time.ParseDuration(text)
	*d = Duration(parsed)
	return err
}
