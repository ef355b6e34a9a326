package service

import (
	"context"
	"log/slog"

	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
)

// Audit writes one line for each decision about a key or a highstate: who, why,
// key, row. The same decision about the same id again is not written again: an
// unknown minion knocks every ten seconds.
type Audit struct {
	log  *slog.Logger
	last map[string]string // id -> rule of the last line about its keys

	counters *Counters
}

// maxAudited bounds what is remembered so as not to repeat a line.
const maxAudited = 20_000

// NewAudit writes to log.
func NewAudit(log *slog.Logger) *Audit {
	return &Audit{log: log, last: map[string]string{}, counters: &Counters{}}
}

// Key tells a decision about the keys of one id; an acceptance is told when it is
// done, by Accepted.
func (a *Audit) Key(id string, d decide.KeyDecision, digest string, row fleet.Minion) {
	if !a.news(id, d.Rule) {
		return
	}
	a.counters.decided(d)
	switch d.Act {
	case decide.LeaveKey, decide.AcceptKey, decide.DeleteKeys:
		if leftPending(d) {
			a.line(slog.LevelInfo, "key left pending", id, "rule", d.Rule, "reason", d.Reason, "key", digest)
		}
	case decide.AdoptKey:
		a.line(slog.LevelInfo, "minion adopted", id, "rule", d.Rule, "reason", d.Reason)
	case decide.UnlinkPending:
		a.line(slog.LevelWarn, "pending key unlinked", id, "rule", d.Rule, "reason", d.Reason, "key", digest, "bound", row.KeySHA256)
	case decide.ReportKey:
		a.line(slog.LevelError, "key differs from the bound one", id, "rule", d.Rule, "reason", d.Reason, "bound", row.KeySHA256)
	}
}

// leftPending says whether a key was looked at and left outside.
func leftPending(d decide.KeyDecision) bool {
	return d.Act == decide.LeaveKey && (d.Rule == "not-listed" || d.Rule == "id-pattern" || d.Rule == "rejected")
}

// news says whether rule is another than the last one about id.
func (a *Audit) news(id, rule string) bool {
	if a.last[id] == rule {
		return false
	}
	if len(a.last) >= maxAudited {
		clear(a.last)
	}
	if rule == "no-key" || rule == "accepted" || rule == "foreign" || rule == "waiting" {
		delete(a.last, id) // the steady state needs no memory
	} else {
		a.last[id] = rule
	}
	return true
}

// Accepted tells that a key was accepted, and which.
func (a *Audit) Accepted(id string, d decide.KeyDecision, digest string) {
	delete(a.last, id)
	a.counters.accepted.Add(1)
	a.line(slog.LevelInfo, "key accepted", id, "rule", d.Rule, "reason", d.Reason, "key", digest)
}

// WrongKey tells that another key than the one decided on was accepted.
func (a *Audit) WrongKey(id, want, got string) {
	a.counters.refused.Add(1)
	a.line(slog.LevelError, "key accepted in another's place; deleted at once", id, "want", want, "key", got)
}

// Deleted tells that the keys of a terminated minion were deleted.
func (a *Audit) Deleted(id string, row fleet.Minion) {
	a.counters.deleted.Add(1)
	a.line(slog.LevelInfo, "keys deleted", id, "rule", "terminated", "modified", row.Modified)
}

// Unlinked tells that a pending key is out of the key store; why, Key has told.
func (a *Audit) Unlinked() { a.counters.unlinked.Add(1) }

// HeldUp tells that a step could not be ended.
func (a *Audit) HeldUp() { a.counters.heldUp.Add(1) }

// Unreadable tells that a key could not be read, and that its id is passed over.
func (a *Audit) Unreadable(id string, err error) {
	if a.news(id, "unreadable") {
		a.line(slog.LevelError, "key passed over", id, "err", err)
	}
}

// Claimed tells that this master has the right to run a first highstate.
func (a *Audit) Claimed(id string, before, row fleet.Minion) {
	msg := "highstate claimed"
	if before.ClaimState == fleet.Claimed {
		msg = "highstate taken over"
		a.counters.takenOver.Add(1)
	}
	a.line(slog.LevelInfo, msg, id, "jid", row.ClaimJID, "attempt", row.Attempt, "version", row.ClaimVersion,
		"from", before.ClaimOwner)
}

// Published tells that a first highstate was sent.
func (a *Audit) Published(id string, row fleet.Minion, err error) {
	a.counters.published.Add(1)
	if err != nil {
		a.line(slog.LevelWarn, "highstate perhaps published", id, "jid", row.ClaimJID, "attempt", row.Attempt, "err", err)
		return
	}
	a.line(slog.LevelInfo, "highstate published", id, "jid", row.ClaimJID, "attempt", row.Attempt)
}

// Finished tells how a first highstate ended.
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
