package swarm

import (
	"errors"
	"fmt"
	"hash/maphash"
	"path"
	"strconv"
	"strings"
	"sync"

	"github.com/vmihailenco/msgpack/v5"
)

// job is one publish.
type job struct {
	serial  int64
	jid     string
	fun     string   // of several: joined with commas
	funs    []string // nil unless there are several
	arg     []any
	tgt     any
	tgtType string
	user    string
	list    map[string]bool // tgt, if it is a list
}

func readJob(aes *crypticle, payload []byte) (*job, error) {
	var outer struct {
		Enc  string `msgpack:"enc"`
		Load []byte `msgpack:"load"`
	}
	if err := msgpack.Unmarshal(payload, &outer); err != nil {
		return nil, err
	}
	if outer.Enc != "aes" {
		return nil, fmt.Errorf("published with enc %q", outer.Enc)
	}
	plain, err := aes.decrypt(outer.Load)
	if err != nil {
		return nil, err
	}
	var load map[string]any
	if err := msgpack.Unmarshal(plain, &load); err != nil {
		return nil, err
	}
	j := &job{serial: whole(load["serial"]), jid: text(load["jid"]), tgt: load["tgt"], tgtType: text(load["tgt_type"]),
		user: text(load["user"])}
	j.arg, _ = load["arg"].([]any)
	if funs, several := load["fun"].([]any); several {
		for _, fun := range funs {
			j.funs = append(j.funs, text(fun))
		}
		j.fun = strings.Join(j.funs, ",")
	} else {
		j.fun = text(load["fun"])
	}
	if j.tgtType == "list" {
		j.list = map[string]bool{}
		switch tgt := j.tgt.(type) {
		case string:
			for id := range strings.SplitSeq(tgt, ",") {
				j.list[id] = true
			}
		case []any:
			for _, id := range tgt {
				j.list[text(id)] = true
			}
		}
	}
	if j.jid == "" || j.fun == "" {
		return nil, errors.New("published without jid or function")
	}
	return j, nil
}

// isFor reports whether the job is for a minion. Grains, and what else only a real
// one could tell, are taken to match.
func (j *job) isFor(id string) bool {
	switch j.tgtType {
	case "list":
		return j.list[id]
	case "glob", "":
		// An id of the swarm has no slash, so that path.Match has all that fnmatch
		// has but for [!…], which nobody sends here.
		match, err := path.Match(text(j.tgt), id)
		return match && err == nil
	}
	return true
}

// jobs decrypts each publish once for all minions of the process.
type jobs struct {
	mu    sync.Mutex
	known map[jobKey]*jobEntry
	order []jobKey
}

// jobsKept is far more than are on their way to minions at a time.
const jobsKept = 512

type jobKey struct {
	aes  *crypticle
	hash uint64
	size int
}

type jobEntry struct {
	once sync.Once
	job  *job
	err  error
}

var seed = maphash.MakeSeed()

func (js *jobs) read(aes *crypticle, payload []byte) (*job, error) {
	k := jobKey{aes, maphash.Bytes(seed, payload), len(payload)}
	js.mu.Lock()
	e := js.known[k]
	if e == nil {
		if js.known == nil {
			js.known = map[jobKey]*jobEntry{}
		}
		e = &jobEntry{}
		js.known[k] = e
		if js.order = append(js.order, k); len(js.order) > jobsKept {
			delete(js.known, js.order[0])
			js.order = js.order[1:]
		}
	}
	js.mu.Unlock()
	e.once.Do(func() { e.job, e.err = readJob(aes, payload) })
	return e.job, e.err
}

// text reads a text, which Salt sends as msgpack's str or bin.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	return ""
}

// whole reads a number that msgpack made as small as it could, or that came as a text.
func whole(v any) int64 {
	n, err := strconv.ParseFloat(fmt.Sprint(v), 64)
	if err != nil {
		return 0
	}
	return int64(n)
}
