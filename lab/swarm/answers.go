package swarm

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"phoenix/bridge/retry"

	"github.com/vmihailenco/msgpack/v5"
)

const (
	// pid of all that minions run.
	pid = 4711
	// cachedJobs: Salt keeps them by age; this many suffice for any test.
	cachedJobs = 50
)

// isState reports whether a function is one of those of which a minion runs one at a
// time.
func isState(fun string) bool {
	return slices.Contains([]string{"state.highstate", "state.apply", "state.sls"}, fun)
}

// readAnswer checks what a master said to an encrypted request.
func readAnswer(session *crypticle, body []byte, nonce string) error {
	var raw []byte // sent as a text or as binary
	if err := msgpack.Unmarshal(body, &raw); err != nil {
		return fmt.Errorf("%w: %v", errAnswer, err)
	}
	plain, err := session.decrypt(raw)
	if err != nil {
		return fmt.Errorf("%w: %v: %.40q", errAnswer, err, raw) // "bad load"
	}
	if len(plain) < nonceSize || string(plain[:nonceSize]) != nonce {
		return fmt.Errorf("%w: another nonce", errAnswer)
	}
	return nil
}

// do runs one job and returns what it gave.
func (m *minion) do(ctx context.Context, j *job) {
	m.s.count(func(c *Counts) { c.Jobs++ })
	if !isState(j.fun) {
		m.finish(ctx, j, m.answer(j), 0)
		return
	}
	m.mu.Lock()
	if m.state != "" {
		// A list of one text, as state.check_prior_running_states and its callers give.
		ret := []any{fmt.Sprintf(`The function "state.highstate" is running as PID %d and was started at %s with jid %s`,
			pid, time.Now().UTC().Format("2006, Jan 02 15:04:05.000000"), m.state)}
		m.mu.Unlock()
		m.s.count(func(c *Counts) { c.Busy++ })
		m.finish(ctx, j, ret, 1)
		return
	}
	m.state = j.jid
	m.running[j.jid] = j
	m.runs++
	m.mu.Unlock()
	m.s.count(func(c *Counts) { c.States++ })
	m.reach(Begun)
	if retry.Sleep(ctx, m.s.cfg.Highstate) {
		m.finish(ctx, j, stateReturn, 0)
	}
}

// stateReturn is what a highstate of one state returns.
var stateReturn = map[string]any{"cmd_|-count_|-count_|-run": map[string]any{
	"name": "count", "changes": map[string]any{"pid": pid, "retcode": 0, "stdout": "", "stderr": ""}, "result": true,
	"comment": `Command "count" run`, "__sls__": "first", "__run_num__": 0, "start_time": "10:41:15.123456",
	"duration": 12.345, "__id__": "count"}}

// finish caches what a job gave, and returns it to the minion's master of now.
func (m *minion) finish(ctx context.Context, j *job, ret any, retcode int) {
	load := map[string]any{"success": retcode == 0, "return": ret, "retcode": retcode, "jid": j.jid, "fun": j.fun,
		"fun_args": j.arg, "user": j.user}
	if j.arg == nil {
		load["fun_args"] = []any{}
	}
	if j.funs != nil {
		codes, good := map[string]any{}, map[string]any{}
		for _, fun := range j.funs {
			codes[fun], good[fun] = retcode, retcode == 0
		}
		load["fun"], load["retcode"], load["success"] = j.funs, codes, good
	}
	if isState(j.fun) {
		load["out"] = "highstate"
	}
	m.mu.Lock()
	delete(m.running, j.jid)
	if m.state == j.jid {
		m.state = ""
	}
	m.cached[j.jid] = maps.Clone(load)
	if m.order = append(m.order, j.jid); len(m.order) > cachedJobs {
		delete(m.cached, m.order[0])
		m.order = m.order[1:]
	}
	m.mu.Unlock()
	load["cmd"] = "_return"
	if err := m.send(ctx, m.master(), load); err != nil {
		if ctx.Err() == nil {
			m.s.fault(fmt.Errorf("return job: %w", err))
		}
		return
	}
	m.s.count(func(c *Counts) { c.Returns++ })
	if isState(j.fun) && retcode == 0 {
		m.reach(Returned)
	}
}

// answer returns what a function that takes no time returns.
func (m *minion) answer(j *job) any {
	if j.funs != nil {
		all := map[string]any{}
		for i, fun := range j.funs {
			one := &job{fun: fun, jid: j.jid}
			if i < len(j.arg) {
				one.arg, _ = j.arg[i].([]any)
			}
			all[fun] = m.answer(one)
		}
		return all
	}
	arg := ""
	if len(j.arg) > 0 {
		arg = text(j.arg[0])
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch j.fun {
	case "saltutil.find_job":
		if r := m.running[arg]; r != nil {
			return describe(r)
		}
		return map[string]any{}
	case "saltutil.running":
		list := []any{}
		for _, r := range m.running {
			list = append(list, describe(r))
		}
		return list
	case "saltutil.find_cached_job":
		if r := m.cached[arg]; r != nil {
			return r
		}
		return "Local jobs cache directory /var/cache/salt/minion/minion_jobs/" + arg + " not found"
	case "config.get":
		return m.config(arg)
	case "test.echo":
		return arg
	}
	if strings.HasPrefix(j.fun, "saltutil.sync_") {
		return []any{}
	}
	return true
}

func (m *minion) config(name string) any {
	switch name {
	case "id":
		return m.id
	case "cache_jobs":
		return true
	case "master_type":
		if m.s.failover() {
			return "failover"
		}
		return "str"
	}
	return ""
}

// describe is a running job as a minion's proc folder has it.
func describe(j *job) map[string]any {
	return map[string]any{"pid": pid, "jid": j.jid, "fun": j.fun, "arg": j.arg, "ret": "", "tgt": j.tgt,
		"tgt_type": j.tgtType, "user": j.user}
}
