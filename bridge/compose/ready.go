package compose

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"phoenix/bridge/config"
	"phoenix/bridge/service"
)

const (
	// readyWithin bounds a program of the gate: a fileserver that clones a large
	// repository for the first time takes minutes.
	readyWithin = 10 * time.Minute
	// maxReadyOutput is as much of its output as an error line can hold.
	maxReadyOutput = 400
	// maxReadyAnswer bounds the output of salt-run: a list of 300,000 files.
	maxReadyAnswer = 32 << 20
)

// checks returns what must be so before minions are sent here. salt-run
// fileserver.update exits 0 though no remote can be reached (3006.28, 3007.15,
// 3008.3): what the file server has is checked, too.
func checks(cfg config.Config) []service.Check {
	var all []service.Check
	var said []byte // what ready.command said last, without failing
	if command := cfg.Ready.Command; len(command) > 0 {
		all = append(all, func(ctx context.Context) error {
			_, errs, err := runProgram(ctx, command)
			if err != nil {
				return fmt.Errorf("run ready.command: %w", err)
			}
			said = bytes.Clone(tail(errs))
			return nil
		})
	}
	saltRun := func(ctx context.Context, answer any, args ...string) error {
		args = append([]string{"salt-run", "--config-dir=" + filepath.Dir(cfg.SaltConfig), "--log-level=quiet",
			"--out=json"}, args...)
		out, _, err := runProgram(ctx, args)
		if err != nil {
			return err
		}
		if json.Unmarshal(out, answer) != nil { // a text, where the runner raised
			return fmt.Errorf("salt-run: %s", tail(out))
		}
		return nil
	}
	if len(cfg.Ready.Top) > 0 {
		all = append(all, func(ctx context.Context) error {
			err := hasTop(ctx, cfg.Ready.Top, saltRun)
			if err != nil && len(said) > 0 {
				err = fmt.Errorf("%w; ready.command said: %s", err, withoutSecrets(said))
			}
			return err
		})
	}
	if len(cfg.Ready.Pillar) > 0 {
		all = append(all, func(ctx context.Context) error { return hasPillar(ctx, cfg.Ready.Pillar, saltRun) })
	}
	return all
}

// runner runs a runner of the master's, and reads what it returned.
type runner func(ctx context.Context, answer any, args ...string) error

// hasTop looks for files, SALTENV/PATH each, in what the file server has.
func hasTop(ctx context.Context, wanted []string, run runner) error {
	byEnv := map[string][]string{}
	for _, item := range wanted {
		env, path, _ := strings.Cut(item, "/")
		if _, known := byEnv[env]; !known {
			var files []string
			if err := run(ctx, &files, "fileserver.file_list", "saltenv="+env); err != nil {
				return fmt.Errorf("look for %s (ready.top): %w", item, err)
			}
			byEnv[env] = files
		}
		if !slices.Contains(byEnv[env], path) {
			return fmt.Errorf("look for %s (ready.top): the file server has %d files in %s, and not this one (are its remotes reached, with the right token?)",
				item, len(byEnv[env]), env)
		}
	}
	return nil
}

// hasPillar renders the pillar of a minion that need not exist: its id, and grains
// as NAME=VALUE.
func hasPillar(ctx context.Context, probe []string, run runner) error {
	var pillar map[string]any
	if err := run(ctx, &pillar, append([]string{"pillar.show_pillar"}, probe...)...); err != nil {
		return fmt.Errorf("render pillar of %s (ready.pillar): %w", probe[0], err)
	}
	if faults, failed := pillar["_errors"]; failed {
		text := strings.Join(strings.Fields(fmt.Sprint(faults)), " ")
		return fmt.Errorf("render pillar of %s (ready.pillar): %.*s", probe[0], maxReadyOutput, text)
	}
	if len(pillar) == 0 { // as where the remote of a pillar in git was never fetched
		return fmt.Errorf("render pillar of %s (ready.pillar): it is empty", probe[0])
	}
	return nil
}

// secret is the part of a URL that names a user and a token.
var secret = regexp.MustCompile(`://[^/@\s]*@`)

// withoutSecrets takes tokens out of what git says of its remotes, and line ends.
func withoutSecrets(text []byte) []byte {
	return secret.ReplaceAll(bytes.Join(bytes.Fields(text), []byte(" ")), []byte("://"))
}

// runProgram runs a program, and gives what it wrote to standard output and to
// standard error. An error has the end of what it said.
func runProgram(ctx context.Context, command []string) (stdout, stderr []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	out, errs := &bounded{most: maxReadyAnswer}, &bounded{most: maxReadyAnswer}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.WaitDelay = 5 * time.Second // a child that keeps the output open does not keep us
	cmd.Env = os.Environ()
	cmd.Stdout, cmd.Stderr = out, errs
	err = cmd.Run()
	if err == nil && out.full {
		err = errors.New("it says too much")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%v: %w: %s", command, err, tail(append(errs.Bytes(), out.Bytes()...)))
	}
	return out.Bytes(), errs.Bytes(), nil
}

// tail is as much of an output as an error line can hold.
func tail(out []byte) []byte {
	out = bytes.TrimSpace(out)
	if len(out) > maxReadyOutput {
		out = out[len(out)-maxReadyOutput:]
	}
	return out
}

// bounded is a buffer that takes most bytes.
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
