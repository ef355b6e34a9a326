package service

import (
	"context"
	"log/slog"
	"slices"

	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
)

// Audit writes one line for each decision about a key or a highstate: who, why,
// key, row. The same decision about the same id again is not written again: an
// unknown minion asks to be accepted every ten seconds.
type Audit struct {
	log       *slog.Logger
	last      map[string]string    // id -> rule of the last line about its keys
	unlinked  map[string][][8]byte // the pending keys of an id that there is a line about
	unlisted  int                  // of those, of minions that the fleet does not list
	unwritten int                  // decisions about unlisted minions that got no line

	counters *Counters
}

const (
	// maxAudited bounds what is remembered so as not to repeat a line.
	maxAudited = 200_000
	// maxUnlinked bounds the lines about pending keys of one id that are unlinked by the
	// same rule: anyone who reaches the master can send any number of them.
	maxUnlinked = 8
	// maxUnlisted bounds the lines about minions that the fleet does not list, one
	// for each. Anyone who reaches the master can make up such ids.
	maxUnlisted = 1_000
)

// NewAudit writes to log.
func NewAudit(log *slog.Logger) *Audit {
	return &Audit{log: log, last: map[string]string{}, unlinked: map[string][][8]byte{}, counters: &Counters{}}
}

// Key records a decision about the keys of one id. Accepted records an acceptance,
// after it was made.
func (a *Audit) Key(id string, d decide.KeyDecision, digest string, row fleet.Minion) {
	switch fresh := a.isNew(id, d.Rule); {
	case fresh:
		a.counters.decided(d)
	case !a.otherUnlinked(id, d, digest):
		return
	}
	if d.Act == decide.UnlinkPending && a.last[id] == d.Rule {
		a.unlinked[id] = append(a.unlinked[id], shortKey(digest))
	}
	switch d.Act {
	case decide.LeaveKey, decide.AcceptKey, decide.DeleteKeys, decide.ReplaceKey:
		if leftPending(d) {
			a.line(slog.LevelInfo, "key left pending", id, "rule", d.Rule, "reason", d.Reason, "key", digest)
		}
	case decide.BindKey:
		a.line(slog.LevelWarn, "accepted key bound", id, "rule", d.Rule, "reason", d.Reason)
	case decide.AdoptKey:
		a.line(slog.LevelInfo, "minion adopted", id, "rule", d.Rule, "reason", d.Reason)
	case decide.UnlinkPending:
		a.line(slog.LevelWarn, "pending key unlinked", id, "rule", d.Rule, "reason", d.Reason, "key", digest, "bound",
			row.KeySHA256)
	case decide.ReportKey:
		a.line(slog.LevelError, "key needs an operator", id, "rule", d.Rule, "reason", d.Reason, "bound", row.KeySHA256)
	}
}

// otherUnlinked reports whether a pending key is unlinked by the rule of the last line
// about the id, and is another than those that there is a line about.
func (a *Audit) otherUnlinked(id string, d decide.KeyDecision, digest string) bool {
	known := a.unlinked[id]
	return d.Act == decide.UnlinkPending && a.last[id] == d.Rule && len(known) < maxUnlinked &&
		!slices.Contains(known, shortKey(digest))
}

// leftPending reports whether a key was examined and left pending.
func leftPending(d decide.KeyDecision) bool {
	return d.Act == decide.LeaveKey && (d.Rule == "not-listed" || d.Rule == "id-pattern" || d.Rule == "rejected")
}

// isNew reports whether rule is another than the last one about id. It is not where
// too much would have to be remembered to know.
func (a *Audit) isNew(id, rule string) bool {
	old, there := a.last[id]
	if there && old == rule {
		return false
	}
	if quiet(rule) { // the steady state needs no memory
		a.drop(id)
		return there
	}
	if !there && (len(a.last) >= maxAudited || unlisted(rule) && a.unlisted >= maxUnlisted) {
		a.unwritten++
		return false
	}
	a.drop(id)
	a.last[id] = rule
	if unlisted(rule) {
		a.unlisted++
	}
	return true
}

func (a *Audit) drop(id string) {
	if unlisted(a.last[id]) {
		a.unlisted--
	}
	delete(a.last, id)
	delete(a.unlinked, id)
}

func quiet(rule string) bool {
	return rule == "no-key" || rule == "accepted" || rule == "foreign" || rule == "waiting"
}

func unlisted(rule string) bool { return rule == "not-listed" || rule == "id-pattern" }

// forgetAbsent forgets the decisions about ids of which this master has no key any
// more, and logs the number of unlisted minions that got no line.
func (a *Audit) forgetAbsent(here func(id string) bool) {
	for id := range a.last {
		if !here(id) {
			a.drop(id)
		}
	}
	if a.unwritten > 0 {
		a.log.Warn("too many unlisted minions are pending to log each",
			"logged", a.unlisted, "not_logged", a.unwritten)
		a.unwritten = 0
	}
}

// Accepted records that a key was accepted, and which.
func (a *Audit) Accepted(id string, d decide.KeyDecision, digest string) {
	a.drop(id)
	a.counters.accepted.Add(1)
	a.line(slog.LevelInfo, "key accepted", id, "rule", d.Rule, "reason", d.Reason, "key", digest)
}

// WrongKey records that another key than the one decided on was accepted.
func (a *Audit) WrongKey(id, want, got string) {
	a.counters.refused.Add(1)
	a.line(slog.LevelError, "key accepted in another's place; deleted at once", id, "want", want, "key", got)
}

// Deleted records that the keys of a terminated minion were deleted.
func (a *Audit) Deleted(id, rule string, row fleet.Minion) {
	a.counters.deleted.Add(1)
	a.line(slog.LevelInfo, "keys deleted", id, "rule", rule, "modified", row.Modified)
}

// Replaced records that an accepted key was deleted, since another was bound in its place.
func (a *Audit) Replaced(id, digest string, row fleet.Minion) {
	a.counters.deleted.Add(1)
	a.line(slog.LevelWarn, "replaced key deleted", id, "rule", "rebound", "key", digest, "bound", row.KeySHA256)
}

// Unlinked counts a pending key that was removed; Key has recorded the reason.
func (a *Audit) Unlinked() { a.counters.unlinked.Add(1) }

// HeldUp counts a step that could not be completed.
func (a *Audit) HeldUp() { a.counters.heldUp.Add(1) }

// Problem records that an id is passed over, or odd. The caller reports each problem
// once, until it changes.
func (a *Audit) Problem(kind ProblemKind, id string, what error) {
	a.line(slog.LevelError, "minion passed over", id, "kind", string(kind), "err", what)
}

// Preloaded counts that a known key was written as accepted.
func (a *Audit) Preloaded() { a.counters.preloaded.Add(1) }

// Claimed records that this master has the right to run a first highstate.
func (a *Audit) Claimed(id string, before, row fleet.Minion) {
	msg := "highstate claimed"
	if before.ClaimState == fleet.Claimed {
		msg = "highstate taken over"
		a.counters.takenOver.Add(1)
	}
	a.line(slog.LevelInfo, msg, id, "jid", row.ClaimJID, "attempt", row.Attempt, "version", row.ClaimVersion,
		"from", before.ClaimOwner)
}

// Published records that a first highstate was sent.
func (a *Audit) Published(id string, row fleet.Minion, err error) {
	a.counters.published.Add(1)
	if err != nil {
		a.line(slog.LevelWarn, "highstate may have been published", id, "jid", row.ClaimJID, "attempt",
			row.Attempt, "err", err)
		return
	}
	a.line(slog.LevelInfo, "highstate published", id, "jid", row.ClaimJID, "attempt", row.Attempt)
}

// Drained records that minions are to leave this master.
func (a *Audit) Drained(id, why string) {
	a.line(slog.LevelWarn, "master drained", id, "reason", why)
}

// Healed records that this master reported its own instance, to have it replaced.
func (a *Audit) Healed(id, why string, err error) {
	if err != nil {
		a.line(slog.LevelError, "master is not called unhealthy", id, "reason", why, "err", err)
		return
	}
	a.line(slog.LevelError, "master called unhealthy", id, "reason", why)
}

// Opened records that the circuit breaker of first highstates was opened by this master.
func (a *Audit) Opened(master string, b fleet.Breaker) {
	a.line(slog.LevelError, "circuit breaker opened: no new first highstate begins", master, "reason", b.Reason, "hint",
		"phoenix highstate resume")
}

// Finished records how a first highstate ended.
func (a *Audit) Finished(id string, end decide.Ended, row fleet.Minion) {
	a.counters.ended(end.Outcome)
	level := slog.LevelInfo
	if end.Outcome != fleet.Succeeded {
		level = slog.LevelWarn
	}
	a.line(level, "highstate "+string(end.Outcome), id, "jid", end.JID, "attempt", row.Attempt, "retcode", end.Retcode)
}

func (a *Audit) line(level slog.Level, msg, id string, args ...any) {
	a.log.Log(context.Background(), level, msg, append([]any{"minion", id}, args...)...)
}
