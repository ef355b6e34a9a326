package decide

// KeyRules returns the names of the rules about keys in the order in which they are
// tried, each with the reason that it gives.
func KeyRules() []Verdict {
	rules := make([]Verdict, 0, len(keyRules))
	for _, r := range keyRules {
		_, reason, _ := r.rule(Bound, KeyView{ID: "ID"})
		rules = append(rules, Verdict{Rule: r.name, Reason: reason})
	}
	return rules
}

// KeyActMeaning is an act, and what it does, for people.
type KeyActMeaning struct {
	Act     KeyAct
	Meaning string
}

// KeyActs returns all acts, for people.
func KeyActs() []KeyActMeaning {
	return []KeyActMeaning{
		{AcceptKey, "bind the pending key to the id, and accept it"},
		{AdoptKey, "bind the key that is accepted already; no highstate is run"},
		{BindKey, "bind the key that is accepted already; the first highstate is run"},
		{WriteKey, "bind the key that the instance wrote as proof, and write it as accepted"},
		{UnlinkPending, "remove the pending key; the minion may send another one"},
		{DeleteKeys, "delete the keys of the id, except a pending one"},
		{ReplaceKey, "delete the accepted key, and write the bound key as accepted"},
		{ReportKey, "change nothing, and report it to operators (phoenix status, log)"},
		{LeaveKey, "change nothing"},
	}
}
