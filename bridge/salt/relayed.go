package salt

import (
	"context"
	"errors"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"

	"phoenix/bridge/event"
)

// Note registers note, which is called with each of Phoenix's own jobs before it is
// published. It is called before anything else is.
func (m *Master) Note(note func(jid string)) { m.noted = note }

// Load is a job as a master published it, its values undecoded.
type Load map[string]msgpack.RawMessage

// What of a published load goes where in the request that publishes it once more
// (ClearFuncs.publish and _prep_pub, alike in 3006.28, 3007.15 and 3008.3). What is
// not named here is the master's own: serial, master_id.
var (
	loadFields = []string{"fun", "arg", "tgt", "tgt_type", "ret", "to", "user"}
	loadKwargs = []string{"delimiter", "metadata", "module_executors", "executor_opts", "ret_config",
		"ret_kwargs", "id"}
)

// CutLoad keeps of a published load what another master needs to publish it, and
// says which job it is.
func CutLoad(published map[string][]byte) (load Load, jid string, err error) {
	jid = string(event.Bytes(published["jid"]))
	if !validJID(jid) {
		return nil, "", fmt.Errorf("%.40q is no jid", jid)
	}
	load = Load{}
	for _, names := range [][]string{loadFields, loadKwargs} {
		for _, name := range names {
			if value, ok := published[name]; ok {
				load[name] = msgpack.RawMessage(value)
			}
		}
	}
	for _, name := range []string{"fun", "arg", "tgt"} {
		if load[name] == nil {
			return nil, "", fmt.Errorf("job %s has no %s", jid, name)
		}
	}
	return load, jid, nil
}

// Text returns a field that is a text; empty if it is none.
func (l Load) Text(name string) string { return string(event.Bytes(l[name])) }

// Republish publishes another master's job here, under the same jid and user, with
// this master's root key: whether that user may was for the other master to say. It
// returns those that the master has accepted keys of.
func (m *Master) Republish(ctx context.Context, jid string, load Load) ([]string, error) {
	if !validJID(jid) {
		return nil, fmt.Errorf("publish a job of another master: %.40q is no jid", jid)
	}
	user := load.Text("user")
	minions, err := m.handOut(ctx, jid, m.relayed(jid, user, load))
	// A master that runs as neither root nor salt takes its root key of the user
	// that it runs as, of root and of whoever used sudo (LoadAuth.authenticate_key).
	if errors.Is(err, ErrAuth) && user != m.user && user != "root" {
		minions, err = m.handOut(ctx, jid, m.relayed(jid, "sudo_"+user, load))
	}
	if err != nil {
		return nil, fmt.Errorf("publish job %s of another master: %w", jid, err)
	}
	return minions, nil
}

func (m *Master) relayed(jid, user string, load Load) map[string]any {
	if user == "" {
		user = m.user
	}
	kwargs := map[string]any{}
	for _, name := range loadKwargs {
		if value, ok := load[name]; ok {
			kwargs[name] = value
		}
	}
	request := map[string]any{"tgt_type": "glob", "ret": "", "kwargs": kwargs}
	for _, name := range loadFields {
		if value, ok := load[name]; ok {
			request[name] = value
		}
	}
	request["cmd"], request["jid"], request["user"] = "publish", jid, user
	return request
}
