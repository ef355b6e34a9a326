package service

import (
	"maps"
	"slices"
)

// ProblemKind is what is wrong with one id, in one word.
type ProblemKind string

const (
	BadRow      ProblemKind = "row"     // its row cannot be decoded
	BadKey      ProblemKind = "key"     // a key of it cannot be read or written
	Undeletable ProblemKind = "stuck"   // its instance ended, and its key cannot be deleted
	BadStamp    ProblemKind = "stamp"   // its row is stamped ahead of this host's clock
	BadEntry    ProblemKind = "entry"   // what lies among the keys and is none
	KeyRemoved  ProblemKind = "removed" // its key was deleted here by hand
	OtherKey    ProblemKind = "other"   // its accepted key here is not the bound one
)

var problemKinds = [...]ProblemKind{Undeletable, KeyRemoved, OtherKey, BadRow, BadKey, BadEntry, BadStamp}

// Problem is one id that is passed over, or odd, while all others are served.
type Problem struct {
	Minion string      `json:"minion"`
	Kind   ProblemKind `json:"kind"`
	What   string      `json:"what"`
}

// problems holds the latest of each kind and id. Each kind is bounded by itself:
// many of one hide none of another.
type problems map[ProblemKind]map[string]string

// maxProblems bounds each kind; briefProblems how many of each a brief report names.
const (
	maxProblems   = 10_000
	briefProblems = 20
)

// report records a problem, and reports whether it is new.
func (p problems) report(kind ProblemKind, id, what string) (fresh bool) {
	of := p[kind]
	if of == nil {
		of = map[string]string{}
		p[kind] = of
	}
	old, there := of[id]
	if !there && len(of) >= maxProblems {
		return false
	}
	of[id] = what
	return !there || old != what && kind != BadStamp
}

func (p problems) has(kind ProblemKind, id string) bool {
	_, there := p[kind][id]
	return there
}

func (p problems) over(kind ProblemKind, id string) { delete(p[kind], id) }

// forget drops all of a kind.
func (p problems) forget(kind ProblemKind) { delete(p, kind) }

// keep drops those of a kind that are not in ids.
func (p problems) keep(kind ProblemKind, ids map[string]error) {
	maps.DeleteFunc(p[kind], func(id, _ string) bool { return ids[id] == nil })
}

// list returns all of them, by kind and id.
func (p problems) list() []Problem {
	out := make([]Problem, 0, p.len())
	for _, kind := range problemKinds {
		for _, id := range slices.Sorted(maps.Keys(p[kind])) {
			out = append(out, Problem{Minion: id, Kind: kind, What: p[kind][id]})
		}
	}
	return out
}

// brief returns the first problems of each kind.
func brief(all []Problem) []Problem {
	out, counts := []Problem{}, map[ProblemKind]int{}
	for _, p := range all {
		if counts[p.Kind]++; counts[p.Kind] <= briefProblems {
			out = append(out, p)
		}
	}
	return out
}

// counts returns how many there are of each kind.
func (p problems) counts() map[ProblemKind]int {
	out := map[ProblemKind]int{}
	for _, kind := range problemKinds {
		out[kind] = len(p[kind])
	}
	return out
}

func (p problems) len() (n int) {
	for _, of := range p {
		n += len(of)
	}
	return n
}

// problem reports a problem, and logs it if it is new.
func (e *Engine) problem(kind ProblemKind, id string, what error) {
	if e.problems.report(kind, id, what.Error()) {
		e.audit.Problem(kind, id, what)
	}
}
