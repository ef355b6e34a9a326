package admin

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"phoenix/bridge/audit"
	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
	"phoenix/bridge/plural"
)

// MasterCheck reports whether a master can be restarted now, and what follows.
type MasterCheck struct {
	InstanceID string `json:"instanceid"`
	// Safe: another master serves, no first highstate runs from this one, and no minion is
	// connected that is not connected to another master, too.
	Safe bool `json:"safe"`
	// Verdict is what a restart is, in words.
	Verdict string   `json:"verdict"`
	Why     []string `json:"why"`   // it is not safe, or not known to be; empty: it is
	Ready   []string `json:"ready"` // other masters that serve
	// Down is why the master does not serve now; empty: it does, or that is not known.
	Down string `json:"down,omitempty"`
	// Connected counts minions that are connected to it, as its row says; nil: its row is
	// too old to say so, or the master does not serve.
	Connected *int `json:"connected"`
	// Also is another master that each minion with an accepted key is connected to.
	Also string `json:"also,omitempty"`
	// Running are the minions whose first highstate it runs: another master takes them
	// over, and asks the minion before anything is sent.
	Running []string `json:"running"`
	// Waiting counts minions that want their first highstate and have none yet.
	Waiting int `json:"waiting"`
	// Draining: its row says so. Drain is the state in a word, as masters list has it.
	Draining bool   `json:"draining"`
	Drain    string `json:"drain,omitempty"`
	// DrainedAt is when the draining began, by its row, or else by the audit trail of this
	// machine; nil: neither says so.
	DrainedAt *time.Time `json:"drained_at,omitempty"`
}

// CheckMaster says what a restart of a master would do. It changes nothing.
func (a Admin) CheckMaster(ctx context.Context, id string) (*MasterCheck, error) {
	masters, err := a.Masters(ctx)
	if _, err := fleet.WithoutBadRows(err); err != nil {
		return nil, fmt.Errorf("check master %s: %w", id, err)
	}
	i := slices.IndexFunc(masters, func(m fleet.Master) bool { return m.InstanceID == id })
	if i < 0 {
		return nil, fmt.Errorf("check master %s: %w (phoenix masters list)", id, fleet.ErrNotFound)
	}
	own, now := masters[i], time.Now()
	c := &MasterCheck{InstanceID: id, Draining: own.Draining, Drain: DrainState(own, a.Config.Highstate.Lease, now),
		Why: []string{}, Ready: []string{}, Running: []string{}}
	rows, err := a.minions(ctx, fleet.Launch)
	if _, err := fleet.WithoutBadRows(err); err != nil {
		return nil, fmt.Errorf("check master %s: %w", id, err)
	}
	for _, row := range rows {
		switch {
		case row.ClaimState == fleet.Claimed:
			if row.ClaimOwner == id {
				c.Running = append(c.Running, row.SaltID())
			}
		case row.WantsHighstate():
			c.Waiting++
		}
	}
	slices.Sort(c.Running)
	if own.Draining {
		c.DrainedAt = a.drainedAt(own)
	}
	notReady := ""
	switch {
	case own.Status != fleet.Launch:
	case Stale(own, a.Config.Highstate.Lease, now):
		notReady = a.notWritten(ctx, own)
	default:
		c.Down, notReady = a.down(ctx, own)
	}
	c.judge(own, notReady, masters, a.Config, now)
	return c, nil
}

// down returns why a master does not serve, by the bridge beside it if that is the one of
// this machine: a row says ready for 15 s after the last answer.
func (a Admin) down(ctx context.Context, own fleet.Master) (down, notReady string) {
	switch r := a.bridgeReport(ctx); {
	case r.InstanceID != own.InstanceID:
		if !own.Ready {
			notReady = "its row says that it is not ready: it does not serve, or its bridge has just started (phoenix status on that machine)"
		}
	case r.Unproven:
		down = cmp.Or(r.NotReady, "it does not answer")
	case !r.Bus.Connected && r.Bus.Error != "":
		down = r.Bus.Error
	case r.NotReady != "":
		notReady = "it is not ready: " + r.NotReady
	}
	return down, notReady
}

// notWritten says that a master's row is not written any more, and what to do. A bridge on
// this machine that answers says why.
func (a Admin) notWritten(ctx context.Context, own fleet.Master) string {
	const unknown = "its row is not written any more, so whether and whom it serves is not known"
	switch r := a.bridgeReport(ctx); {
	case r.InstanceID == own.InstanceID:
		return unknown + ": " + cmp.Or(r.NotReady, r.StoreError, "its bridge runs (journalctl -u phoenix-bridge)")
	case a.Config.InstanceID == own.InstanceID:
		return unknown + ": no bridge answers on " + a.Config.Socket + " (systemctl start phoenix-bridge)"
	}
	return unknown + ": its bridge does not run, or does not reach the store (phoenix status on that machine)"
}

// drainedAt returns when the draining of a master began. A row that an older phoenix marked
// does not say so, and the trail only if that was done on this machine.
func (a Admin) drainedAt(m fleet.Master) *time.Time {
	if since, err := fleet.ParseTime(m.DrainingSince); err == nil {
		return &since
	}
	lines, err := audit.Last(a.Config.Audit.File, m.InstanceID, 1)
	if err != nil || len(lines) == 0 || !strings.HasPrefix(lines[0].Text, drainedText) {
		return nil
	}
	return &lines[0].Time
}

// judge fills in what follows from the rows of the masters. notReady is why it is not known
// whom the master serves: it is not ready, or its row is not written.
func (c *MasterCheck) judge(own fleet.Master, notReady string, masters []fleet.Master, cfg config.Config,
	now time.Time) {
	lease, leaving, late := cfg.Highstate.Lease, 0, []string{}
	for _, m := range Serving(masters, lease, now) {
		switch {
		case m.InstanceID == own.InstanceID:
		case Late(m, lease, now):
			late = append(late, m.InstanceID)
		case m.Draining:
			leaving++
		default:
			c.Ready = append(c.Ready, m.InstanceID)
			// Accepted keys are at least as many as minions that run.
			if c.Also == "" && m.Minions > 0 && m.Connected >= m.Minions {
				c.Also = m.InstanceID
			}
		}
	}
	if own.Status != fleet.Launch {
		c.Safe, c.Verdict = true, "safe: it is retired"
		return
	}
	if c.Down != "" {
		c.Why = append(c.Why, c.Down)
		c.Verdict = "needed: the master does not serve now (systemctl start salt-master; restart, if its process hangs)"
		return
	}
	if len(c.Ready) == 0 {
		why := "no other master serves: minions are alone until it is back"
		if leaving > 0 {
			why = fmt.Sprintf("the other masters that serve are draining (%d): minions have nowhere to go", leaving)
		}
		c.Why = append(c.Why, why)
		if len(late) > 0 {
			c.Why = append(c.Why, fmt.Sprintf("not counted, since no heartbeat of theirs came for %v: %s (phoenix masters list)", lateAfter(lease), strings.Join(late, ", ")))
		}
	}
	if n := len(c.Running); n > 0 {
		c.Why = append(c.Why, "it runs "+plural.Of(n, "first highstate"))
	}
	verdict := "NOT SAFE"
	if len(c.Why) == 0 {
		verdict = ""
	}
	switch {
	case notReady != "":
		c.Why = append(c.Why, notReady)
	default:
		c.Connected = &own.Connected
		if own.Connected > 0 && c.Also == "" && len(c.Ready) > 0 {
			words, why := c.staying(cfg, now)
			verdict, c.Why = cmp.Or(verdict, words), append(c.Why, why...)
		}
	}
	c.Safe = len(c.Why) == 0
	c.Verdict = cmp.Or(verdict, map[bool]string{true: "safe", false: "not known to be safe"}[c.Safe])
}

// staying says what becomes of minions that are connected. No row, proof or grain says
// which of them have an agent or several masters: the grain "master" has only the one that
// a minion uses now (Salt 3006 to 3008, grains/core.py get_master).
func (c *MasterCheck) staying(cfg config.Config, now time.Time) (verdict string, why []string) {
	n, within := plural.Of(*c.Connected, "minion"), short(leaveWithin(cfg))
	const jobs = " (10m while jobs run, 1h while a highstate runs)"
	switch others := strings.Join(c.Ready, ", "); {
	case !c.Draining:
		return "safe only for minions that have an agent or several masters", []string{
			n + " connected: those that have an agent or several masters can move to " + others +
				", the others wait until it is back",
			"which have is not known here: after phoenix masters drain " + c.InstanceID + " these leave within " +
				within + ", and the others stay connected"}
	case c.DrainedAt == nil:
		return "not known to be safe yet", []string{
			n + " still connected: agents move theirs within " + within + " of the drain" + jobs,
			"when the drain began is not known: wait " + within + ", or let phoenix masters drain " +
				c.InstanceID + " record it",
			"minions without an agent wait until it is back"}
	case now.Sub(*c.DrainedAt) > leaveWithin(cfg):
		return "safe for all but " + n + " that did not leave", []string{
			"phoenix minions list --on " + c.InstanceID + " lists them",
			"it was drained " + short(now.Sub(*c.DrainedAt)) + " ago, and agents move minions within " + within + jobs,
			"minions without an agent wait until it is back"}
	}
	return "not known to be safe yet", []string{
		n + " still connected: it was drained " + short(max(now.Sub(*c.DrainedAt), 0)) +
			" ago, and agents move theirs within " + within + jobs,
		"minions without an agent wait until it is back"}
}

// short renders a duration without seconds that are none.
func short(d time.Duration) string {
	text := d.Round(time.Second).String()
	if whole, ok := strings.CutSuffix(text, "m0s"); ok {
		return whole + "m"
	}
	return text
}

// leaveWithin is how long the agent of a minion without jobs needs to leave a master that
// drains: it reads the masters every agent.interval and a fifth, waits up to 30 s at random,
// and restarts the minion (docs/agent-behaviour.md). It is longer in a fleet of thousands.
func leaveWithin(cfg config.Config) time.Duration {
	const restart = 18 * time.Second
	return cfg.Agent.Interval*6/5 + min(cfg.Agent.Splay, 30*time.Second) + restart
}
