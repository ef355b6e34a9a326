package decide

import "phoenix/bridge/fleet"

// Admit is the rule by which keys are accepted.
type Admit string

const (
	// Listed: the id's row says LAUNCH. Any key will do (the rule of 2015).
	Listed Admit = "listed"
	// Bound: listed, and the key is the one bound to the row. The first
	// acceptance binds it, so this trusts the first auth request.
	Bound Admit = "bound"
	// Proven: bound, and the first key is bound only if the instance itself wrote
	// its digest under its own ARN; IAM allows that to no other instance.
	Proven Admit = "proven"
)

// Key is a public key in the master's key store, for one id and state.
type Key struct {
	Present bool
	Digest  string // fleet.KeyDigest; empty if the text is not an RSA public key
}

// KeyView is what a master knows of one id when it decides about its keys.
type KeyView struct {
	ID    string
	Valid bool // the id matches id_pattern
	Known bool // the fleet has a row for it
	Row   fleet.Minion
	Proof string // the digest that the instance wrote as proof; empty: none
	// ProofKey: the proof has the public key, too, so that the key can be accepted
	// before the minion's first auth request.
	ProofKey bool
	// Former: the accepted key was bound to a terminated instance that had the id
	// before.
	Former bool
	// Removed: the bound key was accepted on this master and is gone, although the
	// minion was not retired: somebody deleted it by hand.
	Removed bool
	// Wrong: Phoenix accepted this key in place of another: it became pending between
	// the decision and the call.
	Wrong bool

	Pending, Accepted, Rejected, Denied Key
}

// KeyAct is what to do about the keys of one id.
type KeyAct string

const (
	LeaveKey      KeyAct = "leave"  // nothing, and that is right
	ReportKey     KeyAct = "report" // nothing, and an operator should know
	AcceptKey     KeyAct = "accept" // bind the pending key's digest first
	AdoptKey      KeyAct = "adopt"  // bind the accepted key, run nothing
	BindKey       KeyAct = "bind"   // bind the accepted key; the highstate is still wanted
	WriteKey      KeyAct = "write"  // bind the proof's key and write it as accepted
	UnlinkPending KeyAct = "unlink" // so that the right minion can authenticate
	DeleteKeys    KeyAct = "delete" // every key but the pending one; paced
	// ReplaceKey deletes the accepted key, paced, and writes the bound one in its place.
	ReplaceKey KeyAct = "replace"
)

// KeyDecision is an act and the rule that chose it.
type KeyDecision struct {
	Act    KeyAct
	Rule   string // the rule's name, stable: audit lines and scripts know it
	Reason string // for people
	// Unlink: beside Act, take the pending key out of the key store.
	Unlink bool
	// Rebind: the key differs from the bound one and is bound anyway.
	Rebind bool
}

// RuleWrongKey is the rule about an accepted key that is not the one that was to be accepted.
const RuleWrongKey = "wrong-key"

// OtherAccepted reports whether the accepted key of an id is not the one that is bound to
// it, and an operator has to say which of the two is right.
func (d KeyDecision) OtherAccepted() bool {
	return d.Rule == "accepted-other-key" || d.Rule == "accepted-formerly"
}

type keyRule struct {
	name string
	rule func(Admit, KeyView) (KeyAct, string, bool)
}

// keyRules are tried in order; the first that applies decides.
var keyRules = [...]keyRule{
	// An administrator's decision: it stands until the next one.
	{"removed", func(_ Admit, v KeyView) (KeyAct, string, bool) {
		return ReportKey, "its key was accepted on this master and then deleted by hand (phoenix keys restore " + v.ID +
				", or phoenix minions retire " + v.ID + ")",
			v.Valid && v.Removed && !v.Accepted.Present && !v.Rejected.Present && (!v.Pending.Present ||
				v.Pending.Digest == v.Row.KeySHA256)
	}},
	// The minion's first auth request then finds its key accepted: a pending minion
	// sleeps until its next request (acceptance_wait_time, 10 s).
	{"proven-ahead", func(a Admit, v KeyView) (KeyAct, string, bool) {
		return WriteKey, "listed, and its instance wrote this key as proof before it asked to be accepted",
			a == Proven && v.ProofKey && v.Proof != "" && v.AwaitsKey()
	}},
	{"no-key", func(_ Admit, v KeyView) (KeyAct, string, bool) {
		none := !v.Pending.Present && !v.Accepted.Present && !v.Rejected.Present && !v.Denied.Present
		return LeaveKey, "this master holds no key for it", none
	}},
	{"id-pattern", func(_ Admit, v KeyView) (KeyAct, string, bool) {
		return LeaveKey, "the id does not match id_pattern", !v.Valid
	}},
	{"foreign", func(_ Admit, v KeyView) (KeyAct, string, bool) {
		return LeaveKey, "accepted before Phoenix knew of it, and not in the fleet: Phoenix never changes it",
			!v.Known && v.Accepted.Present
	}},
	{"not-listed", func(_ Admit, v KeyView) (KeyAct, string, bool) {
		return LeaveKey, "not in the fleet (phoenix minions add " + v.ID + ")", !v.Known
	}},
	{RuleWrongKey, func(_ Admit, v KeyView) (KeyAct, string, bool) {
		return DeleteKeys, "the accepted key is not the one that Phoenix had decided to accept",
			v.Wrong && v.Accepted.Present
	}},
	{"terminated", func(_ Admit, v KeyView) (KeyAct, string, bool) {
		if v.Accepted.Present || v.Rejected.Present || v.Denied.Present {
			return DeleteKeys, "its instance was terminated", v.Row.Status == fleet.Terminate
		}
		return UnlinkPending, "its instance was terminated", v.Row.Status == fleet.Terminate
	}},
	// Ids other than instance ids are reused: EC2 assigns an address, and with it a
	// private DNS name, again.
	{"former-key", func(_ Admit, v KeyView) (KeyAct, string, bool) {
		return DeleteKeys, "the accepted key is that of a terminated instance that had the same id",
			v.Former && v.Accepted.Present && v.Accepted.Digest != v.Row.KeySHA256
	}},
	// An id that is used again (minions add --again) begins without a key. A key that
	// is accepted on a master that missed the retirement may be the former machine's.
	{"accepted-formerly", func(a Admit, v KeyView) (KeyAct, string, bool) {
		return ReportKey, "the id is used again, and the key that is accepted here may be that of the former machine (phoenix keys accept --rebind " +
				v.ID + ", or phoenix keys delete " + v.ID + " --state accepted)",
			v.unboundAccepted() && a != Proven && v.Row.ClaimVersion > 0 && !v.Row.Adopted()
	}},
	// A row that says adopted was made by an explicit command. A row without a group
	// was made by an operator (phoenix minions add), for a minion that another master
	// had accepted. A row with a group is made when an instance launches: then its key
	// was not accepted before, and something other than Phoenix accepted it.
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
		return BindKey, "listed, and its key was accepted by something else (salt-key, autosign, another reactor)",
			v.unboundAccepted()
	}},
	// An administrator's decision (phoenix keys accept --rebind), made on another master.
	// A key that is neither the bound nor the replaced one is somebody else's decision. A
	// rejected key stays, and Salt 3008 would delete it with the accepted one
	// (salt/cache/localfs_key.py, flush).
	{"rebound", func(_ Admit, v KeyView) (KeyAct, string, bool) {
		return ReplaceKey, "the accepted key was replaced by another on another master (phoenix keys accept --rebind)",
			v.Accepted.Present && v.Accepted.Digest != "" && v.Accepted.Digest == v.Row.ReplacedSHA256 &&
				v.Row.KeySHA256 != "" && v.Row.KeySHA256 != v.Accepted.Digest && !v.Rejected.Present
	}},
	{"accepted-other-key", func(_ Admit, v KeyView) (KeyAct, string, bool) {
		return ReportKey, "the key that this master has accepted is not the one bound to it (phoenix keys accept --rebind " +
				v.ID + ", or phoenix keys delete " + v.ID + " --state accepted)",
			v.Accepted.Present && (v.Accepted.Digest == "" || v.Accepted.Digest != v.Row.KeySHA256)
	}},
	{"accepted", func(_ Admit, v KeyView) (KeyAct, string, bool) {
		// Salt 3008 uses the pending key before the accepted one, and a second key is
		// never accepted for an id.
		if v.Pending.Present {
			return UnlinkPending, "its key is accepted already", v.Accepted.Present
		}
		return LeaveKey, "its key is accepted", v.Accepted.Present
	}},
	{"rejected", func(_ Admit, v KeyView) (KeyAct, string, bool) {
		// key.accept_dict of Salt 3008 would also accept a rejected key.
		return LeaveKey, "an admin rejected a key for it (phoenix keys delete " + v.ID + " --state rejected)",
			v.Rejected.Present
	}},
	{"waiting", func(_ Admit, v KeyView) (KeyAct, string, bool) {
		return LeaveKey, "it has no pending key", !v.Pending.Present
	}},
	{"not-a-key", func(_ Admit, v KeyView) (KeyAct, string, bool) {
		return UnlinkPending, "its pending key is not an RSA public key", v.Pending.Digest == ""
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
		return AcceptKey, "listed, and the first key sent for its id", v.Row.KeySHA256 == ""
	}},
	{"bound-key", func(_ Admit, v KeyView) (KeyAct, string, bool) {
		return AcceptKey, "listed, and the key is the one bound to it", v.Row.KeySHA256 == v.Pending.Digest
	}},
	{"listed", func(a Admit, v KeyView) (KeyAct, string, bool) {
		return AcceptKey, "listed (admit: listed takes any key)", a == Listed
	}},
	// While a wrong key is pending, Salt denies the right one. A pending minion never
	// got the AES key, so nothing has to be rotated.
	{"other-key", func(_ Admit, v KeyView) (KeyAct, string, bool) {
		return UnlinkPending, "the pending key is not the one bound to it", true
	}},
}

// unboundAccepted reports whether a key is accepted on this master and none is bound
// to the row.
func (v KeyView) unboundAccepted() bool {
	return v.Accepted.Present && v.Accepted.Digest != "" && v.Row.KeySHA256 == ""
}

// AwaitsKey reports whether a minion is in the fleet, no key is bound to its row, and
// this master has none of it: its first auth request is still to come. A row with a
// claim had a key before (phoenix minions add --again): the proof may still be of that
// one, so the minion must ask with the new one first.
func (v KeyView) AwaitsKey() bool {
	return v.Valid && v.Known && v.Row.Status == fleet.Launch && v.Row.KeySHA256 == "" && !v.Row.Adopted() &&
		v.Row.ClaimVersion == 0 && !v.Pending.Present && !v.Accepted.Present && !v.Rejected.Present && !v.Denied.Present
}

// Keys decides about the keys of one id on one master.
func Keys(admit Admit, v KeyView) KeyDecision {
	for _, r := range keyRules {
		act, reason, applies := r.rule(admit, v)
		if !applies {
			continue
		}
		d := KeyDecision{Act: act, Rule: r.name, Reason: reason}
		d.Unlink = act == UnlinkPending || (act == DeleteKeys || act == ReplaceKey) && v.Pending.Present
		d.Rebind = act == AcceptKey && r.name == "listed"
		return d
	}
	panic("decide: the last rule applies to all") // unreachable: see keyRules
}

// Verdict is one line of an explanation: a rule, and whether it decided.
type Verdict struct {
	Rule    string `json:"rule"`
	Decides bool   `json:"decides"`
	Reason  string `json:"reason,omitempty"`
}

// ExplainKeys returns the rules that were tried, in order; the last one decided.
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
