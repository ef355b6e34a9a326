package autoscaling

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"phoenix/bridge/fleet"
)

// Role distinguishes the instances that run a master from the others. A master runs a
// minion too, so it has a row in both tables.
type Role string

const (
	Minions Role = "minions"
	Masters Role = "masters"
)

// Item is one entry of sqs.queues or of autoscaling.groups.
type Item struct {
	Role Role // empty: not said
	Name string
}

// ParseItem reads NAME, masters:NAME or minions:NAME. A queue's name may be its URL.
func ParseItem(text string) (Item, error) {
	item := Item{Name: text}
	for _, role := range []Role{Masters, Minions} {
		if name, ok := strings.CutPrefix(text, string(role)+":"); ok {
			item = Item{role, name}
		}
	}
	switch {
	case item.Name == "":
		return Item{}, fmt.Errorf("%q: no name", text)
	case strings.ContainsFunc(item.Name, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		return Item{}, fmt.Errorf("%q: control character", text)
	case strings.HasPrefix(item.Name, "arn:"):
		return Item{}, fmt.Errorf("%q: give its name, or a queue's URL, not its ARN", text)
	}
	return item, nil
}

// Config is the configuration of all parts of this package.
type Config struct {
	Queues []Item
	Groups []Item // empty: each instance that the queues report is ours, and nothing is reconciled

	// Self is the instance of this master.
	Self string

	// Hooks are the names of Phoenix's lifecycle hooks. Others are neither completed nor
	// extended, and their messages are ignored.
	Hooks []string
	// Left counts the minions that are still connected to this master; nil: they are not
	// counted.
	Left func() (minions int, err error)
	// Decisions gets a line for each decision about an instance; nil: the log gets it.
	Decisions *slog.Logger

	// Attempts is highstate.attempts: after so many a launching instance is abandoned. 0: no
	// highstates run, and its hook is completed when its key is accepted.
	Attempts int
	// LaunchFailures is autoscaling.launch_failures: after so many failed launches of a
	// group in a row, further failed instances are kept; see keep. 0: each is abandoned.
	LaunchFailures int
	// Halted reports whether the circuit breaker of first highstates is open; nil: there
	// is none. The hook of a launching instance that waits for it is extended: if it were
	// abandoned, its group would launch another that waits.
	Halted func(ctx context.Context) (bool, error)
	// Every is how often AutoScaling and EC2 are asked; see ReconcileEvery.
	Every time.Duration
	// Changed is called with rows that were written, or had been written before; may be nil.
	Changed func([]fleet.Minion)
	// Age is called with the age of each message that is received; may be nil.
	Age func(time.Duration)
}

func (c Config) validate() error {
	var faults []error
	for _, list := range [][]Item{c.Queues, c.Groups} {
		for i, item := range list {
			if slices.ContainsFunc(list[:i], func(other Item) bool { return other.Name == item.Name }) {
				faults = append(faults, fmt.Errorf("%s is named twice", item.Name))
			}
			if item.Name == "" || item.Role != "" && item.Role != Masters && item.Role != Minions {
				faults = append(faults, fmt.Errorf("%q, %q: not an item", item.Role, item.Name))
			}
		}
	}
	if slices.Contains(c.Hooks, "") {
		faults = append(faults, errors.New("a lifecycle hook without a name"))
	}
	if c.Attempts < 0 || c.LaunchFailures < 0 {
		faults = append(faults, fmt.Errorf("%d attempts, %d launch failures", c.Attempts, c.LaunchFailures))
	}
	return errors.Join(faults...)
}

func (c Config) ourHook(name string) bool { return slices.Contains(c.Hooks, name) }

// decided writes what was decided about a minion, or a master.
func (c Config) decided(log *slog.Logger, what, minion string, args ...any) {
	if c.Decisions != nil {
		log = c.Decisions
	}
	log.Warn(what, append([]any{"minion", minion}, args...)...)
}

func (c Config) changed(rows []fleet.Minion) {
	if c.Changed != nil && len(rows) > 0 {
		c.Changed(rows)
	}
}

// role returns the role of a group's instances that a queue reports, and whether they
// are ours at all. The group's configuration takes precedence over the queue's.
func (c Config) role(queue Item, group string) (role Role, configured bool) {
	i := slices.IndexFunc(c.Groups, func(g Item) bool { return g.Name == group })
	switch {
	case i >= 0 && c.Groups[i].Role != "":
		return c.Groups[i].Role, true
	case queue.Role != "":
		return queue.Role, true
	}
	return Minions, i >= 0 || len(c.Groups) == 0
}
