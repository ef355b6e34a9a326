package service

import (
	"cmp"
	"maps"
	"slices"
)

// ProblemKind is what is wrong with one id, in one word.
type ProblemKind string

const (
	BadRow     ProblemKind = "row"     // its row cannot be decoded
	BadKey     ProblemKind = "key"     // a key of it cannot be read or written
	StuckKey   ProblemKind = "stuck"   // its instance ended, and its key cannot be deleted
	BadStamp   ProblemKind = "stamp"   // its row is stamped ahead of this host's clock
	KeyRemoved ProblemKind = "removed" // its key was deleted here by hand
)

// Problem is one id that is passed over, or odd, while all others are served.
type Problem struct {
	Minion string      `json:"minion"`
	Kind   ProblemKind `json:"kind"`
	What   string      `json:"what"`
}

// problems holds the latest of each kind and id.
type problems map[problemKey]string

type problemKey struct {
	kind ProblemKind
	id   string
}

// maxProblems bounds them; maxToldProblems how many one status names.
const (
	maxProblems     = 10_000
	maxToldProblems = 100
)

// report takes in a problem, and reports whether it is new.
func (p problems) report(kind ProblemKind, id, what string) (fresh bool) {
	old, there := p[problemKey{kind, id}]
	if !there && len(p) >= maxProblems {
		return false
	}
	p[problemKey{kind, id}] = what
	return !there || old != what && kind != BadStamp
}

func (p problems) over(kind ProblemKind, id string) { delete(p, problemKey{kind, id}) }

// forget drops all of a kind.
func (p problems) forget(kind ProblemKind) {
	maps.DeleteFunc(p, func(k problemKey, _ string) bool { return k.kind == kind })
}

// list gives the first of them, in order.
func (p problems) list() []Problem {
	out := make([]Problem, 0, min(len(p), maxToldProblems))
	for _, k := range slices.SortedFunc(maps.Keys(p), func(a, b problemKey) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.id, b.id))
	}) {
		if len(out) == maxToldProblems {
			break
		}
		out = append(out, Problem{Minion: k.id, Kind: k.kind, What: p[k]})
	}
	return out
}

// counts gives how many there are of each kind.
func (p problems) counts() map[ProblemKind]int {
	out := map[ProblemKind]int{BadRow: 0, BadKey: 0, StuckKey: 0, BadStamp: 0, KeyRemoved: 0}
	for k := range p {
		out[k.kind]++
	}
	return out
}

// problem reports a problem, and logs it if it is new.
func (e *Engine) problem(kind ProblemKind, id string, what error) {
	if e.problems.report(kind, id, what.Error()) {
		e.audit.Problem(kind, id, what)
	}
}
