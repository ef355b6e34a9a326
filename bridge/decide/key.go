package decide

import "phoenix/bridge/fleet"

// Admit is the rule by which keys are let in.
type Admit string

const (
	// Listed: the id's row says LAUNCH. Any key will do (the rule of 2015).
	Listed Admit = "listed"
	// Bound: listed, and the key is the one bound to the row. The first
	// acceptance binds it, so this trusts the first knock.
	Bound Admit = "bound"
	// Proven: bound, and the first key is bound only if the instance itself wrote
	// its digest under its own ARN, which IAM lets no other instance do.
	Proven Admit = "proven"
)

// Key is a public key as the master's key store holds it for one id and state.
type Key struct {
	Present bool
	Digest  string // fleet.KeyDigest; empty if the text is no RSA public key
}

// KeyView is what a master knows of one id when it looks at its keys.
type KeyView struct {
	ID    string
	Valid bool // the id matches id_pattern
	Known bool // the fleet has a row for it
	Row   fleet.Minion
	Proof string // the digest that the instance wrote of itself; empty: none
	// Former: the accepted key is the one that was bound to a terminated instance
	// which bore the id before.
	Former bool
	// Removed: the bound key was accepted on this master, and is gone though nobody
	// retired the minion: somebody deleted it by hand.
	Removed bool
	// Wrong: the accepted key is one that Phoenix accepted in another's place: it was
	// pending in the moment of the call, and not a moment before.
	Wrong bool

	Pending, Accepted, Rejected, Denied Key
}

// KeyAct is what to do about the keys of one id.
type KeyAct string

const (
	LeaveKey      KeyAct = "leave"  // nothing, and that is right
	ReportKey     KeyAct = "report" // nothing, but an operator should know
	AcceptKey     KeyAct = "accept" // bind the pending key's digest first
	AdoptKey      KeyAct = "adopt"  // bind the accepted key, run nothing
	BindKey       KeyAct = "bind"   // bind the accepted key; the highstate is still wanted
	UnlinkPending KeyAct = "unlink" // so that the right minion can knock
	DeleteKeys    KeyAct = "delete" // every key but the pending one; paced
)

// KeyDecision is an act and the rule that chose it.
type KeyDecision struct {
	Act    KeyAct
	Rule   string // the rule's name, stable: audit lines and scripts know it
	Reason string // for people
	// Unlink: beside Act, take the pending key out of the key store.
	Unlink bool
	// Rebind: the key differs from the bound one and is taken all the same.
	Rebind bool
}

// RuleWrongKey is the rule about a key that was accepted in another's place.
const RuleWrongKey = "wrong-key"

type keyRule struct {
	name string
	rule func(Admit, KeyView) (KeyAct, string, bool)
}

// keyRules are tried in order; the first that says anything decides.
var keyRules = [...]keyRule{
	// An admin's word: it stands until another one.
	{"removed", func(_ Admit, v KeyView) (KeyAct, string, bool) {
		return ReportKey, "its key was accepted on this master and then deleted by hand (phoenix keys restore " + v.ID +
				", or phoenix minions retire " + v.ID + ")",
			v.Valid && v.Removed && !v.Accepted.Present && !v.Rejected.Present && (!v.Pending.Present || v.Pending.Digest == v.Row.KeySHA256)
	}},
	{"no-key", func(_ Admit, v KeyView) (KeyAct, string, bool) {
		none := !v.Pending.Present && !v.Accepted.Present && !v.Rejected.Present && !v.Denied.Present
		return LeaveKey, "this master holds no key for it", none
	}},
	{"id-pattern", func(_ Admit, v KeyView) (KeyAct, string, bool) {
		return LeaveKey, "the id does not match id_pattern", !v.Valid
	}},
	{"foreign", func(_ Admit, v KeyView) (KeyAct, string, bool) {
		return LeaveKey, "accepted before Phoenix knew of it, and not in the fleet: not ours to touch",
			!v.Known && v.Accepted.Present
	}},
	{"not-listed", func(_ Admit, v KeyView) (KeyAct, string, bool) {
		return LeaveKey, "not in the fleet (phoenix minions add " + v.ID + ")", !v.Known
	}},
	{RuleWrongKey, func(_ Admit, v KeyView) (KeyAct, string, bool) {
		return DeleteKeys, "it was accepted in the place of the key that was decided on", v.Wrong && v.Accepted.Present
	}},
	{"terminated", func(_ Admit, v KeyView) (KeyAct, string, bool) {
		if v.Accepted.Present || v.Rejected.Present || v.Denied.Present {
			return DeleteKeys, "its instance was terminated", v.Row.Status == fleet.Terminate
		}
		return UnlinkPending, "its instance was terminated", v.Row.Status == fleet.Terminate
	}},
	// Off instance ids, names come again: the private DNS name of an address that
	// EC2 gives out anew.
	{"former-key", func(_ Admit, v KeyView) (KeyAct, string, bool) {
		return DeleteKeys, "the accepted key is that of a terminated instance, which bore this name before",
			v.Former && v.Accepted.Present && v.Accepted.Digest != v.Row.KeySHA256
	}},
	// A name that came again (minions add --again) begins without a key. What a master
	// that missed the end of its former life has accepted may be that life's.
	{"accepted-formerly", func(a Admit, v KeyView) (KeyAct, string, bool) {
		return ReportKey, "its name came again, and a key of it is accepted here that may be of its former machine (phoenix keys accept --rebind " +
				v.ID + ", or salt-key -d)",
			v.unboundAccepted() && a != Proven && v.Row.ClaimVersion > 0 && !v.Row.Adopted()
	}},
	// A row that says adopted was made in so many words. One without a group was made
	// by an operator (phoenix minions add), for a minion that another master had let
	// in; a group's is made when an instance launches, and then whatever accepted its
	// key was neither Phoenix nor there before.
	{"adopt", func(a Admit, v KeyView) (KeyAct, string, bool) {
		return AdoptKey, "its key was accepted before it was listed",
			v.unboundAccepted() && (v.Row.Adopted() || a != Proven && v.Row.Group == "")
	}},
	{"accepted-proven", func(a Admit, v KeyView) (KeyAct, string, bool) {
		return BindKey, "its key was accepted by something else, and its instance wrote this key as proof",
			v.unboundAccepted() && a == Proven && v.Proof == v.Accepted.Digest
	}},
	{"accepted-unproven", func(a Admit, v KeyView) (KeyAct, string, bool) {
		return ReportKey, "its key was accepted by something else (salt-key, autosign, another reactor), and its instance has not written it as proof",
			v.unboundAccepted() && a == Proven
	}},
	{"accepted-first", func(_ Admit, v KeyView) (KeyAct, string, bool) {
		return BindKey, "listed, and its key was accepted by something else (salt-key, autosign, another reactor)", v.unboundAccepted()
	}},
	{"accepted-other-key", func(_ Admit, v KeyView) (KeyAct, string, bool) {
		return ReportKey, "the key that this master has accepted is not the one bound to it (phoenix keys accept --rebind, or salt-key -d)",
			v.Accepted.Present && (v.Accepted.Digest == "" || v.Accepted.Digest != v.Row.KeySHA256)
	}},
	{"accepted", func(_ Admit, v KeyView) (KeyAct, string, bool) {
		// Salt 3008 serves the pending key before the accepted one, and nobody
		// accepts a second key for an id that has one.
		if v.Pending.Present {
			return UnlinkPending, "its key is accepted already", v.Accepted.Present
		}
		return LeaveKey, "its key is accepted", v.Accepted.Present
	}},
	{"rejected", func(_ Admit, v KeyView) (KeyAct, string, bool) {
		// key.accept_dict of Salt 3008 would accept a rejected key too.
		return LeaveKey, "an admin rejected a key for it (salt-key -d)", v.Rejected.Present
	}},
	{"waiting", func(_ Admit, v KeyView) (KeyAct, string, bool) {
		return LeaveKey, "no key of it is pending", !v.Pending.Present
	}},
	{"not-a-key", func(_ Admit, v KeyView) (KeyAct, string, bool) {
		return UnlinkPending, "what is pending for it is no RSA public key", v.Pending.Digest == ""
	}},
	{"unproven", func(a Admit, v KeyView) (KeyAct, string, bool) {
		return LeaveKey, "its instance has not written its proof yet (phoenix agent does)",
			a == Proven && v.Row.KeySHA256 == "" && v.Proof == ""
	}},
	{"other-proof", func(a Admit, v KeyView) (KeyAct, string, bool) {
		return UnlinkPending, "the pending key is not the one that its instance wrote as proof",
			a == Proven && v.Row.KeySHA256 == "" && v.Proof != v.Pending.Digest
	}},
	{"proven", func(a Admit, v KeyView) (KeyAct, string, bool) {
		return AcceptKey, "listed, and its instance wrote this key as proof", a == Proven && v.Row.KeySHA256 == ""
	}},
	{"first-knock", func(_ Admit, v KeyView) (KeyAct, string, bool) {
		return AcceptKey, "listed, and the first key to knock", v.Row.KeySHA256 == ""
	}},
	{"bound-key", func(_ Admit, v KeyView) (KeyAct, string, bool) {
		return AcceptKey, "listed, and the key is the one bound to it", v.Row.KeySHA256 == v.Pending.Digest
	}},
	{"listed", func(a Admit, v KeyView) (KeyAct, string, bool) {
		return AcceptKey, "listed (admit: listed takes any key)", a == Listed
	}},
	// While a wrong key lies there, Salt denies the right one. It never held the
	// AES key, so to unlink it rotates nothing.
	{"other-key", func(_ Admit, v KeyView) (KeyAct, string, bool) {
		return UnlinkPending, "the pending key is not the one bound to it", true
	}},
}

// unboundAccepted: a key is accepted on this master, and none is bound to the row.
func (v KeyView) unboundAccepted() bool {
	return v.Accepted.Present && v.Accepted.Digest != "" && v.Row.KeySHA256 == ""
}

// Keys decides about the keys of one id on one master.
func Keys(admit Admit, v KeyView) KeyDecision {
	for _, r := range keyRules {
		act, reason, applies := r.rule(admit, v)
		if !applies {
			continue
		}
		d := KeyDecision{Act: act, Rule: r.name, Reason: reason}
		d.Unlink = act == UnlinkPending || act == DeleteKeys && v.Pending.Present
		d.Rebind = act == AcceptKey && r.name == "listed"
		return d
	}
	panic("decide: the last rule applies to all") // unreachable: see keyRules
}

// Verdict is one line of an explanation: a rule and whether it decided.
type Verdict struct {
	Rule    string `json:"rule"`
	Decides bool   `json:"decides"`
	Reason  string `json:"reason,omitempty"`
}

// ExplainKeys lists the rules that were asked, in order; the last one decided.
func ExplainKeys(admit Admit, v KeyView) []Verdict {
	var out []Verdict
	for _, r := range keyRules {
		_, reason, applies := r.rule(admit, v)
		if applies {
			return append(out, Verdict{Rule: r.name, Decides: true, Reason: reason})
		}
		out = append(out, Verdict{Rule: r.name})
	}
	return out
}
