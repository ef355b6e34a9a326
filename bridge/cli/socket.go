package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"phoenix/bridge/admin"
	"phoenix/bridge/api"
	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
)

// maxAnswer bounds the answer of an operation: 50,000 minions, with their keys.
const maxAnswer = 64 << 20

// operate performs the operations of the socket with the bridge's configuration and
// store. Each ends with the exit code of the command of the same name.
func operate(cfg config.Config, store fleet.Store) func(context.Context, api.Request) (api.Answer, error) {
	operations := map[string]admin.Operation{"doctor": bridgeDoctor(cfg, store)}
	maps.Copy(operations, admin.Admin{Config: cfg, Store: store, By: "socket"}.Operations())
	return func(ctx context.Context, r api.Request) (api.Answer, error) {
		perform, offered := operations[r.Operation]
		if !offered {
			return api.Answer{}, fmt.Errorf("run operation %q: phoenix %s does not offer it on the socket",
				r.Operation, version)
		}
		result, err := perform(ctx, r.Arguments)
		var answer api.Answer
		if err != nil {
			answer.Code, answer.Error = exitCode(err), admin.OneLine(err)
		}
		text, err := json.Marshal(result)
		switch {
		case err != nil:
			return answer, fmt.Errorf("run operation %q: %w", r.Operation, err)
		case len(text) > maxAnswer:
			return api.Answer{Code: exitFailed, Error: fmt.Sprintf("the answer has more than %d MiB", maxAnswer>>20)},
				nil
		case string(text) != "null":
			answer.Answer = text
		}
		return answer, nil
	}
}

// commandLines are the command lines that runners of phoenix 0.1 send, with their
// flags and what each takes. A runner may be older than the bridge; see api.
var commandLines = map[string]map[string]flagKind{
	"status":          {},
	"masters list":    {},
	"minions list":    {"status": takesText},
	"minions add":     {"again": takesNothing, "group": takesText},
	"minions retire":  {"held": takesNothing, "unknown": takesNothing},
	"minions explain": {"lines": takesNumber},
	"adopt":           {"dry-run": takesNothing},
	"keys list":       {},
	"keys accept":     {"rebind": takesNothing},
	"keys restore":    {},
	"highstate list":  {"all": takesNothing},
	"highstate run":   {"force": takesNothing},
	"prune":           {"dry-run": takesNothing, "older": takesText},
	"roster":          {"grain": takesText, "host": takesText, "target": takesText, "user": takesText},
	"doctor":          {"quiet": takesNothing, "salt-only": takesNothing},
}

type flagKind int

const (
	takesNothing flagKind = iota
	takesText
	takesNumber
)

// translate returns the operation that a command line asks for.
func translate(args []string) (api.Request, error) {
	name, flags, rest := "", map[string]flagKind(nil), []string(nil)
	for words := min(2, len(args)); words > 0 && flags == nil; words-- {
		name = strings.Join(args[:words], " ")
		flags, rest = commandLines[name], args[words:]
	}
	if flags == nil {
		return api.Request{}, fmt.Errorf("run command %q: the socket does not offer it",
			strings.Join(args[:min(2, len(args))], " "))
	}
	arguments, operands := map[string]any{}, []string{}
	for _, arg := range rest {
		if !strings.HasPrefix(arg, "-") {
			operands = append(operands, arg)
			continue
		}
		flag, value, joined := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		kind, offered := flags[flag]
		if !offered || joined != (kind != takesNothing) {
			return api.Request{}, fmt.Errorf("run command %q: the socket does not offer its %q", name, arg)
		}
		field := strings.ReplaceAll(flag, "-", "_")
		switch kind {
		case takesNothing:
			arguments[field] = true
		case takesText:
			arguments[field] = value
		case takesNumber:
			n, err := strconv.Atoi(value)
			if err != nil {
				return api.Request{}, fmt.Errorf("run command %q: %q is no number", name, arg)
			}
			arguments[field] = n
		}
	}
	switch {
	case name == "minions explain" && len(operands) == 1:
		arguments["id"] = operands[0]
	case len(operands) > 0:
		arguments["ids"] = operands
	}
	text, err := json.Marshal(arguments)
	return api.Request{Operation: strings.ReplaceAll(name, " ", "."), Arguments: text}, err
}
