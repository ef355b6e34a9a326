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
