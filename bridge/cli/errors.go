package cli

import (
	"errors"
	"io/fs"

	"phoenix/bridge/admin"
	"phoenix/bridge/api"
	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
	"phoenix/bridge/identity"
	"phoenix/bridge/salt"
)

// Exit codes. A script can decide by them what to do next.
const (
	exitOK       = 0
	exitFailed   = 1
	exitUsage    = 2
	exitStore    = 3
	exitDenied   = 4
	exitNoMaster = 5
	exitRootKey  = 6
	exitNotFound = 7
	exitRunning  = 8
	exitAwaited  = 9
)

// exitCodes say what each means, for people.
var exitCodes = []struct {
	code    int
	meaning string
}{
	{exitOK, "success"},
	{exitFailed, "failure; or doctor, status --check, masters check or highstate show found a problem"},
	{exitUsage, "the command line or the configuration is wrong"},
	{exitStore, "the store is damaged, is missing, or does not answer"},
	{exitDenied, "not allowed: run as root or as the master's user"},
	{exitNoMaster, "the Salt master does not answer"},
	{exitRootKey, "the Salt master refuses the root key"},
	{exitNotFound, "no such minion, no such key, or no such return"},
	{exitRunning, "a bridge is running already"},
	{exitAwaited, "the change was made, but what --wait waits for did not happen in time: the minion has not answered, or its highstate has not ended"},
}

type markedError struct{ mark, err error }

func (e markedError) Error() string   { return e.err.Error() }
func (e markedError) Unwrap() []error { return []error{e.mark, e.err} }

// usageError marks err as one of the command line or the configuration.
func usageError(err error) error { return config.Invalid(err) }

func exitCode(err error) int {
	for _, c := range []struct {
		is   error
		code int
	}{
		{config.ErrInvalid, exitUsage},
		{api.ErrInUse, exitRunning},
		{salt.ErrAuth, exitRootKey},
		{salt.ErrUnreachable, exitNoMaster},
		{salt.ErrDenied, exitDenied},
		{fleet.ErrDenied, exitDenied},
		{fleet.ErrCorrupt, exitStore},
		{fleet.ErrUnavailable, exitStore},
		{fleet.ErrNotFound, exitNotFound},
		{identity.ErrNone, exitNotFound},
		{admin.ErrAwaited, exitAwaited},
		{salt.ErrNoKey, exitNotFound},
		{salt.ErrNoReturn, exitNotFound},
		{admin.ErrNoRun, exitNotFound},
		{fs.ErrPermission, exitDenied},
	} {
		if errors.Is(err, c.is) {
			return c.code
		}
	}
	return exitFailed
}

// describeError renders an error on one line.
func describeError(err error) string { return admin.OneLine(err) }

// cause leaves out what an *fs.PathError repeats of the path.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
