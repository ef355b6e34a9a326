package fleettest_test

import (
	"strings"
	"testing"

	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/fleettest"
)

func row(version int64, state fleet.ClaimState, owner, jid string, attempt int) fleet.Minion {
	return fleet.Minion{InstanceID: "i", ClaimVersion: version, ClaimState: state, ClaimOwner: owner, ClaimJID: jid,
		Attempt: attempt}
}

func TestHistory(t *testing.T) {
	none, claimed, done, failed := fleet.Unclaimed, fleet.Claimed, fleet.Done, fleet.Failed
	c1 := row(1, claimed, "a", "j1", 1)
	for name, c := range map[string]struct {
		rows  []fleet.Minion
		tell  func(h *fleettest.History)
		fault string // "": none
	}{
		"nothing":        {nil, nil, ""},
		"one attempt":    {[]fleet.Minion{row(0, none, "", "", 0), c1, row(2, done, "a", "j1", 1)}, nil, ""},
		"any order":      {[]fleet.Minion{row(2, done, "a", "j1", 1), c1, c1, row(0, none, "", "", 0)}, nil, ""},
		"takeover":       {[]fleet.Minion{c1, row(2, claimed, "b", "j1", 1)}, nil, ""},
		"second attempt": {[]fleet.Minion{c1, row(2, failed, "a", "j1", 1), row(3, claimed, "b", "j2", 2)}, nil, ""},
		"busy":           {[]fleet.Minion{c1, row(2, none, "a", "j1", 0), row(3, claimed, "b", "j2", 1)}, nil, ""},
		"late success":   {[]fleet.Minion{c1, row(2, failed, "a", "j1", 1), row(3, done, "a", "j1", 1)}, nil, ""},
		"asked for again": {[]fleet.Minion{c1, row(2, done, "a", "j1", 1), row(3, none, "", "", 0),
			row(4, claimed, "a", "j2", 1)}, nil, ""},
		"renamed":   {[]fleet.Minion{c1, row(2, claimed, "a", "j2", 1), row(3, done, "a", "j2", 1)}, nil, ""},
		"gap":       {[]fleet.Minion{c1, row(9, claimed, "a", "j7", 2)}, nil, ""},
		"tombstone": {[]fleet.Minion{c1, {InstanceID: "i", ClaimVersion: 1, Expires: 1}}, nil, ""},

		"two winners": {[]fleet.Minion{c1, row(1, claimed, "b", "j1", 1)}, nil, "written twice"},
		"two jids":    {[]fleet.Minion{c1, row(2, claimed, "b", "j2", 1)}, nil, "another jid"},
		"claim after success": {[]fleet.Minion{c1, row(2, done, "a", "j1", 1), row(3, claimed, "a", "j2", 2)}, nil,
			"after success"},
		"old jid again": {[]fleet.Minion{c1, row(2, failed, "a", "j1", 1), row(3, claimed, "a", "j1", 2)}, nil,
			"without a new jid"},
		"same attempt": {[]fleet.Minion{c1, row(2, failed, "a", "j1", 1), row(3, claimed, "a", "j2", 1)}, nil,
			"wrong number"},
		"other job done": {[]fleet.Minion{c1, row(2, done, "a", "j2", 1)}, nil, "not claimed"},
		"failure from nothing": {[]fleet.Minion{row(1, failed, "a", "j1", 1)}, nil,
			"not claimed"},
		"success undone": {[]fleet.Minion{c1, row(2, done, "a", "j1", 1), row(3, failed, "a", "j1", 1)}, nil,
			"not claimed"},
		"busy unclaimed": {[]fleet.Minion{c1, row(2, failed, "a", "j1", 1), row(3, none, "a", "j1", 0)}, nil, "busy"},

		"published": {[]fleet.Minion{c1, row(2, claimed, "b", "j1", 1)}, func(h *fleettest.History) {
			h.Published("i", 1, "a", "j1", 1)
			h.Published("i", 2, "b", "j1", 1)
			h.Published("i", 1, "a", "j1", 1) // late, by a master that slept: the same jid
			h.Published("i", 0, "", "j1", 0)  // as a bus shows it
		}, ""},
		"published unclaimed": {nil, func(h *fleettest.History) { h.Published("i", 1, "a", "j1", 1) },
			"but the claim was"},
		"published another's": {[]fleet.Minion{c1},
			func(h *fleettest.History) { h.Published("i", 1, "b", "j1", 1) }, "but the claim was"},
		"published another jid": {[]fleet.Minion{c1},
			func(h *fleettest.History) { h.Published("i", 1, "a", "j2", 1) }, "but the claim was"},
		"published, not in any row": {[]fleet.Minion{c1},
			func(h *fleettest.History) { h.Published("i", 0, "", "j2", 0) }, "no row names"},
		"published after the ending": {[]fleet.Minion{c1, row(2, done, "a", "j1", 1)},
			func(h *fleettest.History) { h.Published("i", 2, "a", "j1", 1) }, "but the claim was"},

		"ran": {[]fleet.Minion{c1}, func(h *fleettest.History) { h.Ran("i", "j1", true) }, ""},
		"ran twice": {[]fleet.Minion{c1},
			func(h *fleettest.History) { h.Ran("i", "j1", false); h.Ran("i", "j1", true) }, "ran twice"},
		"ran two": {nil, func(h *fleettest.History) { h.Ran("i", "j1", true); h.Ran("i", "j2", true) },
			"after the success"},
		"retried":     {nil, func(h *fleettest.History) { h.Ran("i", "j1", false); h.Ran("i", "j2", true) }, ""},
		"two minions": {nil, func(h *fleettest.History) { h.Ran("i", "j1", true); h.Ran("k", "j1", true) }, ""},
		"asked and ran": {[]fleet.Minion{c1, row(2, done, "a", "j1", 1), row(3, none, "", "", 0),
			row(4, claimed, "a", "j2", 1)},
			func(h *fleettest.History) { h.Ran("i", "j1", true); h.Ran("i", "j2", true) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var h fleettest.History
			for _, r := range c.rows {
				h.Saw(r)
			}
			if c.tell != nil {
				c.tell(&h)
			}
			switch err := h.Check(); {
			case c.fault == "" && err != nil:
				t.Error(err)
			case c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)):
				t.Errorf("%v; want %q", err, c.fault)
			}
		})
	}
}
