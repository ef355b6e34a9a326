package main

import (
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"

	"phoenix/bridge/api"
	"phoenix/bridge/fleet"
	"phoenix/bridge/identity"
	"phoenix/bridge/salt"
)

// Exit codes. A script can tell what to do next by them.
const (
	exitOK       = 0
	exitFailed   = 1 // the thing asked for did not happen
	exitUsage    = 2 // command line or configuration
	exitStore    = 3 // the store is damaged or does not answer
	exitDenied   = 4 // not allowed: run as root or as the master's user
	exitNoMaster = 5 // the Salt master does not answer
	exitRootKey  = 6 // the Salt master does not know our root key
	exitNotFound = 7 // no such minion, or no such key
	exitRunning  = 8 // a bridge is running already
)

// errUsage marks errors of the command line or the configuration.
var errUsage = errors.New("usage")

type markedError struct{ mark, err error }

func (e markedError) Error() string   { return e.err.Error() }
func (e markedError) Unwrap() []error { return []error{e.mark, e.err} }

func usageError(err error) error { return markedError{errUsage, err} }

func exitCode(err error) int {
	for _, c := range []struct {
		is   error
		code int
	}{
		{errUsage, exitUsage},
		{api.ErrInUse, exitRunning},
		{salt.ErrAuth, exitRootKey},
		{salt.ErrUnreachable, exitNoMaster},
		{salt.ErrDenied, exitDenied},
		{fleet.ErrDenied, exitDenied},
		{fleet.ErrCorrupt, exitStore},
		{fleet.ErrUnavailable, exitStore},
		{fleet.ErrNotFound, exitNotFound},
		{identity.ErrNone, exitNotFound},
		{salt.ErrNoKey, exitNotFound},
		{fs.ErrPermission, exitDenied},
	} {
		if errors.Is(err, c.is) {
			return c.code
		}
	}
	return exitFailed
}

// describeError renders an error on one line.
func describeError(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' }), "; ")
}

// cause leaves out what an *fs.PathError repeats of the path.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// nearest suggests the key that was perhaps meant.
func nearest(key string, known map[string]setting) string {
	base := key[strings.LastIndexByte(key, '.')+1:]
	var best []string
	for k := range known {
		if match, _ := filepath.Match("*"+base+"*", k); match {
			best = append(best, k)
		}
	}
	if len(best) == 0 {
		return ""
	}
	slices.Sort(best)
	return " (" + strings.Join(best, ", ") + "?)"
}

func logLevel(text string) (slog.Level, error) {
	var level slog.Level
	err := level.UnmarshalText([]byte(text))
	if err != nil {
		return level, errors.New("is none of debug, info, warn, error")
	}
	return level, nil
}
