package fleettest

import (
	"encoding/json"

	"phoenix/bridge/fleet"
)

// Model is the fleet as the pure changes make it: what a store must agree with.
type Model map[string]fleet.Minion

// Apply does to the model what Store.Apply does to a store.
func (m Model) Apply(changes ...fleet.Change) []fleet.Result {
	results := make([]fleet.Result, len(changes))
	for i, c := range changes {
		row, found := m[c.Instance()]
		next, err := c.Apply(row, found)
		if err == nil && next != row {
			m[c.Instance()] = next
			row = next
		}
		results[i] = fleet.Result{Row: row, Err: err}
	}
	return results
}

// Text renders a row for comparison, without Modified, which is the store's.
func Text(row fleet.Minion) string {
	row.Modified = ""
	text, err := json.Marshal(row)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
