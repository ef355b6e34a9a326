package fleettest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"phoenix/bridge/fleet"
)

// History is what was seen of claims, by whoever, in any order. The versions of
// the claims order it: they rise by one with each write of a claim. The zero
// History is ready for use, from many goroutines.
type History struct {
	mu        sync.Mutex
	writes    map[string]map[int64]write // by minion and version
	published []Publish
	runs      []run
	faults    []error
}

// write is the claim of a minion's row at one version.
type write struct {
	state              fleet.ClaimState
	owner, incarnation string
	jid                string
	attempt            int
}

// Publish is one publish of a minion's job, under the claim that its owner held.
type Publish struct {
	Minion  string
	Version int64 // of the claim; 0: not known
	Owner   string
	JID     string
	Attempt int
}

type run struct {
	minion, jid string
	success     bool
}

// Saw takes a row as a store returned it, from a change or a read.
func (h *History) Saw(row fleet.Minion) {
	if row.InstanceID == "" || row.Expires != 0 {
		return // a tombstone keeps the version and forgets the rest
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.writes == nil {
		h.writes = map[string]map[int64]write{}
	}
	of := h.writes[row.InstanceID]
	if of == nil {
		of = map[int64]write{}
		h.writes[row.InstanceID] = of
	}
	w := write{row.ClaimState, row.ClaimOwner, row.ClaimIncarnation, row.ClaimJID, row.Attempt}
	if before, ok := of[row.ClaimVersion]; ok && before != w {
		h.faults = append(h.faults, fmt.Errorf("%s: version %d was written twice: %+v, %+v", row.InstanceID,
			row.ClaimVersion, before, w))
	}
	of[row.ClaimVersion] = w
}

// Published takes a publish. A version of 0 means that it is not known, as for a
// job that was seen on a master's bus.
func (h *History) Published(minion string, version int64, owner, jid string, attempt int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.published = append(h.published, Publish{minion, version, owner, jid, attempt})
}

// Ran takes a run of the highstate on a minion, as the minion itself counts it.
func (h *History) Ran(minion, jid string, success bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.runs = append(h.runs, run{minion, jid, success})
}

// Watch returns a store that reports every row it returns to h. Put a Faulty around
// it, not within: then h sees the writes whose answers are lost.
func (h *History) Watch(s fleet.Store) fleet.Store { return &watched{s, h} }

type watched struct {
	fleet.Store
	history *History
}

// Apply reports the rows of all results, those of changes that lost included.
func (w *watched) Apply(ctx context.Context, changes []fleet.Change) ([]fleet.Result, error) {
	results, err := w.Store.Apply(ctx, changes)
	for _, r := range results {
		w.history.Saw(r.Row)
	}
	return results, err
}

// Publishes returns what was published, in the order of the calls.
func (h *History) Publishes() []Publish {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.published)
}

// Check says what in the history breaks a promise:
//   - no version is written twice, and each write follows from the one before
//     (where no version between them is missing): a takeover keeps jid and
//     attempt, a new attempt has a new jid and comes after a recorded failure,
//     no claim follows a success (G2);
//   - each publish is of a claim that was stored, so that all masters publish one
//     jid per minion and attempt (G1). A job that found another one running ("busy")
//     is no attempt: the next one has a jid of its own;
//   - no jid runs twice on a minion, and nothing runs after a success, until
//     somebody asks for it (G2).
func (h *History) Check() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	faults := slices.Clone(h.faults)
	lives := map[[2]string]int{} // life of a minion's jid: asking again begins one
	for _, minion := range slices.Sorted(maps.Keys(h.writes)) {
		before, last, life := write{}, int64(0), 0
		for _, version := range slices.Sorted(maps.Keys(h.writes[minion])) {
			w := h.writes[minion][version]
			if version == last+1 {
				if why := before.follows(w); why != "" {
					faults = append(faults, fmt.Errorf("%s: version %d %+v after %+v: %s", minion, version,
						w, before, why))
				}
			}
			if w.state == fleet.Unclaimed && w.jid == "" {
				life++
			}
			lives[[2]string{minion, w.jid}] = life
			before, last = w, version
		}
	}
	return errors.Join(append(append(faults, h.checkPublished()...), h.checkRuns(lives)...)...)
}

// follows says why next cannot come right after w, or nothing.
func (w write) follows(next write) string {
	same := next.jid == w.jid && next.attempt == w.attempt
	switch next.state {
	case fleet.Claimed:
		switch {
		case w.state == fleet.Done:
			return "claimed after success"
		case w.state == fleet.Claimed && !same && (next.owner != w.owner || next.incarnation != w.incarnation || next.attempt != w.attempt): // else renamed
			return "taken over with another jid or attempt"
		case w.state != fleet.Claimed && (next.jid == w.jid || next.attempt != w.attempt+1):
			return "new attempt without a new jid, or with a wrong number"
		}
	case fleet.Done:
		if !same || w.state != fleet.Claimed && w.state != fleet.Failed {
			return "success of a job that was not claimed"
		}
	case fleet.Failed:
		if !same || w.state != fleet.Claimed {
			return "failure of a job that was not claimed"
		}
	case fleet.Unclaimed:
		if next.jid != "" && (w.state != fleet.Claimed || next.jid != w.jid || next.attempt != w.attempt-1) {
			return "busy, of a job that was not claimed"
		}
	}
	return ""
}

func (h *History) checkPublished() (faults []error) {
	for _, p := range h.published {
		fits := func(w write) bool {
			return w.state == fleet.Claimed && w.jid == p.JID && w.owner == p.Owner && w.attempt == p.Attempt
		}
		of := h.writes[p.Minion]
		if p.Version != 0 {
			if !fits(of[p.Version]) {
				faults = append(faults, fmt.Errorf("%s: published %+v, but the claim was %+v", p.Minion, p,
					of[p.Version]))
			}
			continue
		}
		if !slices.ContainsFunc(slices.Collect(maps.Values(of)), func(w write) bool { return w.jid == p.JID }) {
			faults = append(faults, fmt.Errorf("%s: published %s, which no row names", p.Minion, p.JID))
		}
	}
	return faults
}

func (h *History) checkRuns(lives map[[2]string]int) (faults []error) {
	ran := map[[2]string]bool{}
	succeeded := map[string]map[int]string{} // jid by minion and life
	for _, r := range h.runs {
		key := [2]string{r.minion, r.jid}
		if ran[key] {
			faults = append(faults, fmt.Errorf("%s: %s ran twice", r.minion, r.jid))
		}
		ran[key] = true
		life := lives[key]
		if jid, ok := succeeded[r.minion][life]; ok {
			faults = append(faults, fmt.Errorf("%s: %s ran after the success of %s", r.minion, r.jid, jid))
		}
		if r.success {
			if succeeded[r.minion] == nil {
				succeeded[r.minion] = map[int]string{}
			}
			succeeded[r.minion][life] = r.jid
		}
	}
	slices.SortFunc(faults, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	return faults
}
