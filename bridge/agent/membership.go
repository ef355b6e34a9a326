package agent

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"phoenix/bridge/fleet"
)

// keep returns the entry of a listed address. removal says why the address must leave
// the list; inferior says why it must if a better master is available. Addresses are
// reused: one good row is enough.
func (w *Watch) keep(address string, o Observation, now time.Time) (m Master, removal, inferior string) {
	for _, row := range o.Masters {
		if row.IPAddr != address {
			continue
		}
		entry, why, poor := w.entry(row, o)
		switch {
		case why == "" && poor == "":
			return entry, "", ""
		case why == "":
			m, inferior = entry, poor
		default:
			removal = why
		}
	}
	if m.Address != "" {
		return m, "", inferior
	}
	if removal != "" {
		return m, removal, ""
	}
	if since, rowless := w.rowless[address]; rowless && now.Sub(since) >= rowlessFor && !o.Answers[address] {
		return m, "has no row and does not answer", ""
	}
	if m, known := o.ByAddress[address]; known {
		return m, "", ""
	}
	return Master{Address: address}, "", ""
}

func (w *Watch) entry(row fleet.Master, o Observation) (m Master, removal, inferior string) {
	if removal = w.removal(row, o); removal != "" {
		return m, removal, ""
	}
	m, err := NewMaster(row)
	if err != nil { // an operator listed it
		m = Master{InstanceID: row.InstanceID, Address: row.IPAddr}
	}
	return m, "", w.inferior(row, o)
}

// unresponsive is the reason for a master that serves nobody, as far as can be seen.
const unresponsive = "is not ready and does not answer"

// removal says why a master must leave the list; empty: it need not.
func (w *Watch) removal(row fleet.Master, o Observation) string {
	switch {
	case row.Status == fleet.Terminate:
		return "terminated"
	case row.MasterKeySHA256 != "" && o.Trusted != "" && row.MasterKeySHA256 != o.Trusted:
		return "has another key than the one that the minion trusts"
	case !w.beats(row) && !row.Ready && !o.Answers[row.IPAddr]:
		return unresponsive
	case !w.beats(row) && !o.Answers[row.IPAddr]:
		return "its heartbeat has stopped and it does not answer"
	}
	return ""
}

// inferior says why a master must leave the list if a better one is available.
func (w *Watch) inferior(row fleet.Master, o Observation) string {
	answers, probed := o.Answers[row.IPAddr]
	switch {
	case !row.Ready && probed && !answers:
		return unresponsive
	case row.Draining:
		return "drains"
	case w.unready[row.InstanceID] >= unreadyReads:
		return "is not ready"
	}
	return ""
}

// eligible reports whether a master could join, provided that its key is the right one.
// A row was true when it was written, so the master must also be seen to live.
func (w *Watch) eligible(row fleet.Master, o Observation) bool {
	return row.Status == fleet.Launch && row.Ready && row.MasterKeySHA256 != "" && w.beats(row) && o.Answers[row.IPAddr]
}

// trusted returns the key that masters must have. A minion at its first boot has met
// none: it trusts the first that it meets (Salt then writes minion_master.pub), so the
// masters that it could meet must have the same key.
func (w *Watch) trusted(o Observation) (string, error) {
	if o.Trusted != "" && len(o.Others) > 0 {
		return w.choose(o), nil
	}
	if o.Trusted != "" {
		return o.Trusted, nil
	}
	keys := map[string]string{}
	for _, row := range o.Masters {
		if w.eligible(row, o) || slices.Contains(o.Listed, row.IPAddr) && row.MasterKeySHA256 != "" &&
			w.removal(row, o) == "" {
			keys[row.MasterKeySHA256] = row.InstanceID
		}
	}
	if len(keys) > 1 {
		return "", fmt.Errorf("masters have different keys (%s), and the minion has met none of them yet",
			strings.Join(slices.Sorted(maps.Values(keys)), ", "))
	}
	for key := range keys {
		return key, nil
	}
	return "", nil
}
