package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/vmihailenco/msgpack/v5"

	"phoenix/bridge/api"
	"phoenix/bridge/config"
	"phoenix/bridge/event"
	"phoenix/bridge/fleet"
	"phoenix/bridge/service"
)

// offered lists the commands that the socket runs, with the flags that each takes
// there: those that end soon, print JSON and read nothing from standard input.
var offered = map[string][]string{
	"status":          nil,
	"masters list":    nil,
	"minions list":    {"status"},
	"minions add":     {"again", "group"},
	"minions retire":  {"held", "unknown"},
	"minions explain": {"lines"},
	"adopt":           {"dry-run"},
	"keys list":       nil,
	"keys accept":     {"rebind"},
	"keys restore":    nil,
	"highstate list":  {"all"},
	"highstate run":   {"force"},
	"prune":           {"dry-run", "older"},
	"roster":          {"grain", "host", "target", "user"},
	"doctor":          {"quiet", "salt-only"},
}

// maxOutput bounds what a command may tell: 50,000 minions, with their keys.
const maxOutput = 64 << 20

// command runs phoenix's own commands, with the bridge's configuration and store:
// no process is started and nothing is opened. One at a time: the library that
// reads command lines keeps the flags that all commands share in globals.
func command(cfg config.Config, store fleet.Store) func(context.Context, []string) (api.Answer, error) {
	return func(ctx context.Context, args []string) (api.Answer, error) {
		line, err := offeredLine(args)
		if err != nil {
			return api.Answer{}, err
		}
		if find(args[0], newApp(io.Discard, io.Discard).Commands) == nil {
			return api.Answer{Code: exitUsage, Error: fmt.Sprintf("no command %q in phoenix %s", args[0], version)}, nil
		}
		out, errs := &bounded{most: maxOutput}, &bounded{most: maxOutput}
		code := run(context.WithValue(ctx, heldContext{}, held{cfg, store}), line, out, errs)
		answer := api.Answer{Code: code, Answer: asJSON(out.Bytes())}
		answer.Error = strings.TrimPrefix(strings.ReplaceAll(strings.TrimSpace(errs.String()), "\n", "; "), "phoenix: ")
		if out.full {
			answer.Code, answer.Answer, answer.Error = exitFailed, nil, fmt.Sprintf("the answer has more than %d MiB", maxOutput>>20)
		}
		return answer, nil
	}
}

// offeredLine makes the command line of what the socket was asked for. A flag's
// value is part of its word (--group=web), so that nothing else can become one.
func offeredLine(args []string) ([]string, error) {
	words := 2
	for ; words > 0; words-- {
		if _, ok := offered[strings.Join(args[:min(words, len(args))], " ")]; ok && words <= len(args) {
			break
		}
	}
	if words == 0 {
		return nil, fmt.Errorf("run command %q: the socket does not offer it", strings.Join(args[:min(2, len(args))], " "))
	}
	name := strings.Join(args[:words], " ")
	line, operands := append([]string{"phoenix"}, args[:words]...), []string{}
	for _, arg := range args[words:] {
		flag, isFlag := strings.CutPrefix(arg, "-")
		flag, _, _ = strings.Cut(strings.TrimPrefix(flag, "-"), "=")
		switch {
		case !isFlag:
			operands = append(operands, arg)
		case strings.HasPrefix(arg, "--") && slices.Contains(offered[name], flag):
			line = append(line, arg)
		default:
			return nil, fmt.Errorf("run command %q: the socket does not offer its %q", name, arg)
		}
	}
	return append(append(line, "--json", "--"), operands...), nil
}

// asJSON gives what was printed as one JSON value: several become a list, and what
// is none a text.
func asJSON(printed []byte) json.RawMessage {
	var values []json.RawMessage
	dec := json.NewDecoder(bytes.NewReader(printed))
	for {
		var value json.RawMessage
		err := dec.Decode(&value)
		switch {
		case err == nil:
			values = append(values, value)
			continue
		case !errors.Is(err, io.EOF):
			text, _ := json.Marshal(string(printed))
			return text
		case len(values) == 0:
			return nil
		case len(values) == 1:
			return values[0]
		}
		list, _ := json.Marshal(values)
		return list
	}
}

// bounded is a buffer that takes no more than so much.
type bounded struct {
	bytes.Buffer
	most int
	full bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > b.most {
		b.full = true
		return 0, io.ErrShortBuffer
	}
	return b.Buffer.Write(p)
}

// hinted takes in an event that somebody else has read off the master's bus, by the
// same rules as one that the bridge reads itself: it becomes what the bus would
// have sent.
func hinted(inbox *service.Inbox) func(tag string, data map[string]any) error {
	return func(tag string, data map[string]any) error {
		payload, err := msgpack.Marshal(withNumbers(data))
		var e event.Event
		if err == nil {
			e, err = event.SplitBody(append([]byte(tag+"\n\n"), payload...))
		}
		if err == nil {
			err = understood(e)
		}
		if err != nil {
			return fmt.Errorf("take event %q: %w", tag, err)
		}
		inbox.Event(e)
		return nil
	}
}

// understood says what is wrong with an event. The bus is told nothing of the
// sort; who types one by hand is.
func understood(e event.Event) (err error) {
	switch e.Kind {
	case event.KindAuth:
		_, err = e.Auth()
	case event.KindKey:
		_, err = e.Key()
	case event.KindStart:
		_, err = e.Start()
	case event.KindReturn:
		_, err = e.Return()
	default:
		err = errors.New("its tag is none of salt/auth, salt/key, salt/minion/ID/start and salt/job/JID/ret/ID")
	}
	return err
}

// withNumbers makes numbers of JSON's digits: whole ones stay whole.
func withNumbers(value any) any {
	switch v := value.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, _ := v.Float64()
		return f
	case map[string]any:
		for key := range v {
			v[key] = withNumbers(v[key])
		}
	case []any:
		for i := range v {
			v[i] = withNumbers(v[i])
		}
	}
	return value
}

// socketUser is who else may use the socket: the master's user, whose group it is
// given to.
func socketUser(name string, log *slog.Logger) (uid, gid int) {
	u, err := user.Lookup(name)
	if err == nil {
		uid, err = strconv.Atoi(u.Uid)
	}
	if err == nil {
		gid, err = strconv.Atoi(u.Gid)
	}
	if err != nil {
		log.Warn("only root may use the socket", "err", fmt.Errorf("look up the master's user %s: %w", name, err))
		return 0, -1
	}
	if os.Geteuid() != 0 {
		gid = -1 // it has the bridge's own, which is the master's
	}
	return uid, gid
}
