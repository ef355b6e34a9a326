package decide

import (
	"fmt"
	"strings"
	"testing"

	"phoenix/bridge/fleet"
)

// situation is one combination of what a master may know of an id, in letters.
//
//	row:      U unknown, L listed, B listed and bound to A, E likewise, in the place of B, D adopted (bound to A), T terminated
//	pending:  - none, A the bound key, B another, j no RSA key
//	accepted: likewise, and f the bound key, F another, that a terminated instance of the name had
//	rejected, denied: - none, x any
//	admit:    l listed, b bound, and proven: n without a proof, p with A, q with B,
//	          and P, Q likewise, with the public key
type situation struct{ row, pending, accepted, rejected, denied, admit string }

func (s situation) String() string {
	return fmt.Sprintf("row %s pending %s accepted %s rejected %s denied %s admit %s",
		s.row, s.pending, s.accepted, s.rejected, s.denied, s.admit)
}

func (s situation) decide(valid bool) KeyDecision { return Keys(s.rule(), s.view(valid)) }

func (s situation) rule() Admit {
	switch s.admit {
	case "l":
		return Listed
	case "b":
		return Bound
	}
	return Proven
}

func (s situation) view(valid bool) KeyView {
	v := KeyView{ID: "i-1", Valid: valid, Known: s.row != "U",
		Pending: key(s.pending), Accepted: key(s.accepted), Rejected: key(s.rejected), Denied: key(s.denied)}
	if v.Known {
		v.Row = fleet.Minion{InstanceID: "i-1", Status: fleet.Launch}
	}
	v.Former = strings.Contains("fF", s.accepted)
	v.Wrong = s.accepted == "w"
	v.Proof = map[string]string{"p": "A", "P": "A", "q": "B", "Q": "B"}[s.admit]
	v.ProofKey = s.admit == "P" || s.admit == "Q"
	switch s.row {
	case "G":
		v.Row.Group = "web"
	case "V":
		v.Row.ClaimVersion = 1
	case "O":
		v.Row.HighstateRunner = fleet.RunnerAdopted
	case "B":
		v.Row.KeySHA256 = "A"
	case "E":
		v.Row.KeySHA256, v.Row.ReplacedSHA256 = "A", "B"
	case "R":
		v.Row.KeySHA256, v.Removed = "A", true
	case "D":
		v.Row.KeySHA256, v.Row.HighstateRunner = "A", fleet.RunnerAdopted
	case "T":
		v.Row.Status, v.Row.KeySHA256 = fleet.Terminate, "A"
	}
	return v
}

func key(letter string) Key {
	switch letter {
	case "-":
		return Key{}
	case "j", "x":
		return Key{Present: true}
	case "f", "F", "w":
		letter = map[string]string{"f": "A", "F": "B", "w": "W"}[letter]
	}
	return Key{Present: true, Digest: letter}
}

// everySituation calls fn with each combination there is.
func everySituation(fn func(situation)) {
	for _, row := range "ULGVOBERDT" {
		for _, pending := range "-ABj" {
			for _, accepted := range "-ABjfFw" {
				for _, rejected := range "-x" {
					for _, denied := range "-x" {
						for _, admit := range "lbnpPqQ" {
							fn(situation{string(row), string(pending), string(accepted), string(rejected),
								string(denied), string(admit)})
						}
					}
				}
			}
		}
	}
}

// keyTable says what is to be done in every situation. Each field holds the
// letters that the line is about; the lines do not overlap.
var keyTable = []struct {
	situation
	act  KeyAct
	rule string
	also string // unlink, rebind
}{
	{situation{"UOBEDT", "-", "-", "-", "-", "lbnpPqQ"}, LeaveKey, "no-key", ""},
	{situation{"LGV", "-", "-", "-", "-", "lbnpq"}, LeaveKey, "no-key", ""},
	{situation{"LG", "-", "-", "-", "-", "PQ"}, WriteKey, "proven-ahead", ""},
	{situation{"V", "-", "-", "-", "-", "PQ"}, LeaveKey, "no-key", ""}, // the proof may be of its former key

	{situation{"LGVOBERDT", "-", "w", "-x", "-x", "lbnpPqQ"}, DeleteKeys, RuleWrongKey, ""},
	{situation{"LGVOBERDT", "ABj", "w", "-x", "-x", "lbnpPqQ"}, DeleteKeys, RuleWrongKey, "unlink"},

	{situation{"U", "-ABj", "ABjfFw", "-x", "-x", "lbnpPqQ"}, LeaveKey, "foreign", ""},
	{situation{"U", "ABj", "-", "-x", "-x", "lbnpPqQ"}, LeaveKey, "not-listed", ""},
	{situation{"U", "-", "-", "x", "-x", "lbnpPqQ"}, LeaveKey, "not-listed", ""},
	{situation{"U", "-", "-", "-", "x", "lbnpPqQ"}, LeaveKey, "not-listed", ""},

	{situation{"T", "-", "ABjfF", "-x", "-x", "lbnpPqQ"}, DeleteKeys, "terminated", ""},
	{situation{"T", "ABj", "ABjfF", "-x", "-x", "lbnpPqQ"}, DeleteKeys, "terminated", "unlink"},
	{situation{"T", "-", "-", "x", "-x", "lbnpPqQ"}, DeleteKeys, "terminated", ""},
	{situation{"T", "ABj", "-", "x", "-x", "lbnpPqQ"}, DeleteKeys, "terminated", "unlink"},
	{situation{"T", "-", "-", "-", "x", "lbnpPqQ"}, DeleteKeys, "terminated", ""},
	{situation{"T", "ABj", "-", "-", "x", "lbnpPqQ"}, DeleteKeys, "terminated", "unlink"},
	{situation{"T", "ABj", "-", "-", "-", "lbnpPqQ"}, UnlinkPending, "terminated", "unlink"},

	{situation{"LGVO", "-", "fF", "-x", "-x", "lbnpPqQ"}, DeleteKeys, "former-key", ""},
	{situation{"LGVO", "ABj", "fF", "-x", "-x", "lbnpPqQ"}, DeleteKeys, "former-key", "unlink"},
	{situation{"BERD", "-", "F", "-x", "-x", "lbnpPqQ"}, DeleteKeys, "former-key", ""},
	{situation{"BERD", "ABj", "F", "-x", "-x", "lbnpPqQ"}, DeleteKeys, "former-key", "unlink"},
	{situation{"O", "-ABj", "AB", "-x", "-x", "lbnpPqQ"}, AdoptKey, "adopt", ""},
	{situation{"V", "-ABj", "AB", "-x", "-x", "lb"}, ReportKey, "accepted-formerly", ""},
	{situation{"L", "-ABj", "AB", "-x", "-x", "lb"}, AdoptKey, "adopt", ""},
	{situation{"G", "-ABj", "AB", "-x", "-x", "lb"}, BindKey, "accepted-first", ""},
	{situation{"LGV", "-ABj", "A", "-x", "-x", "pP"}, BindKey, "accepted-proven", ""},
	{situation{"LGV", "-ABj", "B", "-x", "-x", "qQ"}, BindKey, "accepted-proven", ""},
	{situation{"LGV", "-ABj", "A", "-x", "-x", "nqQ"}, ReportKey, "accepted-unproven", ""},
	{situation{"LGV", "-ABj", "B", "-x", "-x", "npP"}, ReportKey, "accepted-unproven", ""},
	{situation{"LGVO", "-ABj", "j", "-x", "-x", "lbnpPqQ"}, ReportKey, "accepted-other-key", ""},
	{situation{"BRD", "-ABj", "Bj", "-x", "-x", "lbnpPqQ"}, ReportKey, "accepted-other-key", ""},
	{situation{"E", "-ABj", "j", "-x", "-x", "lbnpPqQ"}, ReportKey, "accepted-other-key", ""},
	{situation{"E", "-ABj", "B", "x", "-x", "lbnpPqQ"}, ReportKey, "accepted-other-key", ""},
	{situation{"E", "-", "B", "-", "-x", "lbnpPqQ"}, ReplaceKey, "rebound", ""},
	{situation{"E", "ABj", "B", "-", "-x", "lbnpPqQ"}, ReplaceKey, "rebound", "unlink"},
	{situation{"BERD", "-", "Af", "-x", "-x", "lbnpPqQ"}, LeaveKey, "accepted", ""},
	{situation{"BERD", "ABj", "Af", "-x", "-x", "lbnpPqQ"}, UnlinkPending, "accepted", "unlink"},

	{situation{"LGVOBERD", "-ABj", "-", "x", "-x", "lbnpPqQ"}, LeaveKey, "rejected", ""},
	{situation{"LGVOBED", "-", "-", "-", "x", "lbnpPqQ"}, LeaveKey, "waiting", ""},
	{situation{"LGVOBERD", "j", "-", "-", "-x", "lbnpPqQ"}, UnlinkPending, "not-a-key", "unlink"},
	{situation{"LGVO", "AB", "-", "-", "-x", "lb"}, AcceptKey, "first-knock", ""},
	{situation{"LGVO", "AB", "-", "-", "-x", "n"}, LeaveKey, "unproven", ""},
	{situation{"LGVO", "A", "-", "-", "-x", "pP"}, AcceptKey, "proven", ""},
	{situation{"LGVO", "B", "-", "-", "-x", "qQ"}, AcceptKey, "proven", ""},
	{situation{"LGVO", "B", "-", "-", "-x", "pP"}, UnlinkPending, "other-proof", "unlink"},
	{situation{"LGVO", "A", "-", "-", "-x", "qQ"}, UnlinkPending, "other-proof", "unlink"},
	{situation{"BED", "A", "-", "-", "-x", "lbnpPqQ"}, AcceptKey, "bound-key", ""},
	{situation{"R", "-A", "-", "-", "-x", "lbnpPqQ"}, ReportKey, "removed", ""},
	{situation{"BERD", "B", "-", "-", "-x", "l"}, AcceptKey, "listed", "rebind"},
	{situation{"BERD", "B", "-", "-", "-x", "bnpPqQ"}, UnlinkPending, "other-key", "unlink"},
}

func (s situation) covers(of situation) bool {
	return strings.Contains(s.row, of.row) && strings.Contains(s.pending, of.pending) &&
		strings.Contains(s.accepted, of.accepted) && strings.Contains(s.rejected, of.rejected) &&
		strings.Contains(s.denied, of.denied) && strings.Contains(s.admit, of.admit)
}

func TestKeysInEverySituation(t *testing.T) {
	seen := map[string]bool{}
	explained := map[KeyAct]bool{}
	for _, a := range KeyActs() {
		explained[a.Act] = a.Meaning != ""
	}
	everySituation(func(s situation) {
		lines := 0
		for _, line := range keyTable {
			if !line.covers(s) {
				continue
			}
			lines++
			d := s.decide(true)
			also := ""
			if d.Unlink {
				also += "unlink"
			}
			if d.Rebind {
				also += "rebind"
			}
			if d.Act != line.act || d.Rule != line.rule || also != line.also || d.Reason == "" {
				t.Errorf("%v: %+v, want %s by %s, %s", s, d, line.act, line.rule, line.also)
			}
			if !explained[d.Act] {
				t.Errorf("%s is not explained", d.Act)
			}
			seen[d.Rule] = true
		}
		if lines != 1 {
			t.Errorf("%v: %d lines of the table", s, lines)
		}
	})
	seen["id-pattern"] = true // TestKeysOfAnInvalidID
	for _, r := range keyRules {
		if !seen[r.name] {
			t.Errorf("rule %s decided nothing", r.name)
		}
	}
}

// G3: a key that is not admitted is never accepted.
func TestG3AcceptsOnlyAnAdmittedKey(t *testing.T) {
	everySituation(func(s situation) {
		d := s.decide(true)
		if v := s.view(true); d.Act == WriteKey && (s.rule() != Proven || v.Proof == "" || !v.ProofKey ||
			v.Row.KeySHA256 != "" ||
			!v.Known || v.Row.Status != fleet.Launch || v.Pending.Present || v.Accepted.Present || v.Rejected.Present ||
			v.Denied.Present) {
			t.Errorf("%v: a key was written that its instance did not prove, or beside another", s)
		}
		if d.Act != AcceptKey {
			if d.Rebind {
				t.Errorf("%v: rebinds without accepting", s)
			}
			return
		}
		v := s.view(true)
		switch {
		case !v.Known || v.Row.Status != fleet.Launch:
			t.Errorf("%v: accepted, but is not listed", s)
		case !v.Pending.Present || v.Pending.Digest == "":
			t.Errorf("%v: accepted, but no key is pending", s)
		case v.Accepted.Present || v.Rejected.Present:
			t.Errorf("%v: accepted beside an accepted or a rejected key", s)
		case d.Unlink:
			t.Errorf("%v: accepted and unlinked", s)
		case s.rule() == Proven && v.Row.KeySHA256 == "" && v.Proof != v.Pending.Digest:
			t.Errorf("%v: a key was accepted that its instance did not prove", s)
		case s.rule() != Listed && v.Row.KeySHA256 != "" && v.Row.KeySHA256 != v.Pending.Digest:
			t.Errorf("%v: a key that is not the bound one was accepted", s)
		case d.Rebind != (v.Row.KeySHA256 != "" && v.Row.KeySHA256 != v.Pending.Digest):
			t.Errorf("%v: rebind is %v", s, d.Rebind)
		}
	})
}

// G4: a terminated instance is never accepted again, and its keys go.
func TestG4NothingOfATerminatedInstanceStays(t *testing.T) {
	everySituation(func(s situation) {
		d, v := s.decide(true), s.view(true)
		if s.row != "T" {
			if d.Act == DeleteKeys && !v.Wrong && (!v.Former || v.Accepted.Digest == v.Row.KeySHA256) {
				t.Errorf("%v: keys of a living instance are deleted", s)
			}
			return
		}
		if v.Pending.Present && !d.Unlink {
			t.Errorf("%v: its pending key stays", s)
		}
		if kept := v.Accepted.Present || v.Rejected.Present || v.Denied.Present; kept != (d.Act == DeleteKeys) {
			t.Errorf("%v: %s", s, d.Act)
		}
	})
}

// G9: an accepted key gives way to another only where the row says that this very key
// was replaced, and no key of the id is rejected.
func TestG9OnlyTheReplacedKeyIsReplaced(t *testing.T) {
	everySituation(func(s situation) {
		d, v := s.decide(true), s.view(true)
		if d.Act == ReplaceKey && (s.row != "E" || v.Accepted.Digest != "B" || v.Rejected.Present) {
			t.Errorf("%v: %+v", s, d)
		}
		v.Row.KeySHA256 = "" // half a row
		if d := Keys(s.rule(), v); d.Act == ReplaceKey {
			t.Errorf("%v, and no key bound: %+v", s, d)
		}
	})
}

// G9: what was accepted before Phoenix came is not touched.
func TestG9ForeignKeysAreLeftAlone(t *testing.T) {
	everySituation(func(s situation) {
		d, v := s.decide(true), s.view(true)
		if s.row == "U" && (d.Act != LeaveKey || d.Unlink) {
			t.Errorf("%v: %+v", s, d)
		}
		if s.row != "T" && !v.Former && !v.Wrong && v.Accepted.Present && (d.Act == AcceptKey || d.Act == DeleteKeys) {
			t.Errorf("%v: an accepted key is %s", s, d.Act)
		}
	})
}

func TestKeysOfAnInvalidID(t *testing.T) {
	everySituation(func(s situation) {
		if d := s.decide(false); d.Act != LeaveKey || d.Unlink || d.Rebind {
			t.Errorf("%v: %+v", s, d)
		}
	})
}

func TestExplainKeysEndsWithTheDecision(t *testing.T) {
	everySituation(func(s situation) {
		for _, valid := range []bool{true, false} {
			d, verdicts := s.decide(valid), ExplainKeys(s.rule(), s.view(valid))
			for i, v := range verdicts {
				last := i == len(verdicts)-1
				if v.Rule != keyRules[i].name || v.Decides != last ||
					last && (v.Rule != d.Rule || v.Reason != d.Reason) {
					t.Errorf("%v: verdict %d is %+v, decided %+v", s, i, v, d)
				}
			}
		}
	})
}
