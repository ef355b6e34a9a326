package salt

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"phoenix/bridge/event"
)

// ErrNoReturn is returned when a master has no return of a minion for a job: it went to
// another master, or is older than keep_jobs_seconds (a day by default).
var ErrNoReturn = errors.New("the master has no return of it in its job cache")

// maxStderr bounds what is kept of a command's standard error.
const maxStderr = 400

// maxReturn bounds a return that is read: a highstate of a thousand states has some MB.
const maxReturn = 64 << 20

// StateResult is one state of a return.
type StateResult struct {
	ID      string `json:"id"`       // the state's own id
	SLS     string `json:"sls"`      // the file that it is in
	Module  string `json:"function"` // like pkg.installed
	OK      bool   `json:"ok"`
	Changed bool   `json:"changed"`
	Comment string `json:"comment"`
	Stderr  string `json:"stderr,omitempty"` // how the standard error of a command ends
}

// ReadReturn reads what a minion returned for a job of states from the master's own job
// cache (salt/returners/local_cache.py: jobs/<sha256 of the jid>/<id>/return.p). A
// return that is no states, like a list of errors, is in text.
func ReadReturn(c Config, jid, id string) (states []StateResult, text string, err error) {
	if err := checkID(id); err != nil {
		return nil, "", err
	}
	if !validJID(jid) {
		return nil, "", fmt.Errorf("%q is no jid", jid)
	}
	sum := sha256.Sum256([]byte(jid))
	hash := hex.EncodeToString(sum[:])
	raw, err := readBounded(filepath.Join(c.CacheDir, "jobs", hash[:2], hash[2:], id), "return.p", maxReturn)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", ErrNoReturn
	}
	if err != nil {
		return nil, "", fmt.Errorf("read return of %s: %w", id, err)
	}
	value, err := event.Any(raw)
	if err != nil {
		return nil, "", fmt.Errorf("read return of %s: %w", id, err)
	}
	load, _ := value.(map[string]any)
	body := load["return"]
	byTag, ok := body.(map[string]any)
	if !ok {
		return nil, strings.Join(linesOf(body), "; "), nil
	}
	for tag, v := range byTag {
		one, ok := v.(map[string]any)
		if !ok { // a function's own map
			return nil, fmt.Sprint(body), nil
		}
		// pkg_|-web server_|-nginx_|-installed
		parts := strings.Split(tag, "_|-")
		s := StateResult{ID: tag, OK: one["result"] != false, Comment: strings.Join(linesOf(one["comment"]), " ")}
		if len(parts) == 4 {
			s.ID, s.Module = parts[1], parts[0]+"."+parts[3]
		}
		if own, ok := one["__id__"].(string); ok {
			s.ID = own
		}
		s.SLS, _ = one["__sls__"].(string)
		changes, _ := one["changes"].(map[string]any)
		s.Changed = len(changes) > 0
		if text, ok := changes["stderr"].(string); ok && !s.OK { // of cmd.run: the comment has the command alone
			s.Stderr = strings.ToValidUTF8(text[max(len(text)-maxStderr, 0):], "")
		}
		states = append(states, s)
	}
	slices.SortFunc(states, func(a,
		b StateResult) int {
		return strings.Compare(a.SLS+a.ID+a.Module, b.SLS+b.ID+b.Module)
	})
	return states, "", nil
}

func linesOf(v any) (lines []string) {
	switch v := v.(type) {
	case nil:
	case []any:
		for _, x := range v {
			lines = append(lines, fmt.Sprint(x))
		}
	default:
		lines = append(lines, fmt.Sprint(v))
	}
	return lines
}
