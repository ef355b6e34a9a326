package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"phoenix/bridge/admin"
	"phoenix/bridge/fleet"
	"phoenix/bridge/identity"
	"phoenix/bridge/member"
	"phoenix/bridge/retry"
	"phoenix/bridge/salt"
)

// change gives this master the new key.
func (r *rotator) change(ctx context.Context, fresh identity.Pair) error {
	alone, err := r.takeTurn(ctx)
	if err != nil {
		return err
	}
	own, err := r.place.Pair()
	if err != nil {
		return err
	}
	old, wait := "", time.Duration(0)
	if own.Digest != fresh.Digest {
		if old = own.Digest; r.answers(ctx) {
			if wait, err = r.clearOut(ctx, fresh, old, alone); err != nil {
				return err
			}
		} else {
			r.say("salt-master does not answer, %d times in a row: it was stopped already", provesMost)
			if !alone { // minions may have been counted on to move before the command was killed
				wait = aliveMost + moveWithin
			}
		}
	}
	r.say("stop: %s", r.c.String("stop-command"))
	if err := r.service(ctx, r.c.String("stop-command")); err != nil {
		return err
	}
	err = closes(ctx, r.address, downWithin)
	if err == nil && wait > 0 {
		r.say("move: stays stopped for %v, until Salt has moved minions to another master", wait)
		retry.Sleep(ctx, wait)
		err = closes(ctx, r.address, downWithin) // something else may have started it meanwhile
	}
	if err == nil {
		r.say("exchange: the key of this master")
		err = r.place.Exchange(fresh, old)
	}
	// What was stopped is started again, whatever the outcome and even after Ctrl-C.
	r.say("start: %s", r.c.String("start-command"))
	if err := errors.Join(err, r.service(context.WithoutCancel(ctx), r.c.String("start-command"))); err != nil {
		return err
	}
	r.say("serve: waits until this master is ready with the new key")
	if err := r.serves(ctx, fresh.Digest); err != nil {
		return err
	}
	if err := r.store.DrainMaster(ctx, r.id, false); err != nil {
		return err
	}
	_, err = identity.EndTurn(ctx, r.bucket, r.id)
	return err
}

// errLater: another master took its turn first.
var errLater = errors.New("another master changes its key now")

// takeTurn takes the turn, if another master serves meanwhile, or there is no other.
func (r *rotator) takeTurn(ctx context.Context) (alone bool, err error) {
	masters, err := r.masters(ctx)
	if err != nil {
		return false, err
	}
	alone = !slices.ContainsFunc(masters,
		func(m fleet.Master) bool { return m.InstanceID != r.id && m.Status == fleet.Launch })
	if !alone && r.answers(ctx) { // else nothing is lost by going on
		if err := admin.AnotherServes(ctx, r.store, r.id, masters); err != nil {
			return false, err
		}
	}
	r.say("turn: this master changes its key now")
	_, err = identity.TakeTurn(ctx, r.bucket, r.id, func(id identity.Identity) error {
		own, err := r.place.Pair()
		if err != nil {
			return err
		}
		if stage, waits := id.Rotation.NextStage(r.id, own.Digest, id.Pair, masters); stage != identity.StageChange {
			return fmt.Errorf("%w: %s %v", errLater, stage, waits)
		}
		return nil
	})
	return alone, err
}

// service runs a command of the operator's.
func (r *rotator) service(ctx context.Context, command string) error {
	ctx, cancel := context.WithTimeout(ctx, serviceWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.WaitDelay = 5 * time.Second
	if out, err := cmd.CombinedOutput(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		out = bytes.TrimSpace(out)
		return fmt.Errorf("run %q: %w: %s", command, err, out[max(0, len(out)-maxSaid):])
	}
	return nil
}

// answers reports whether salt-master answers a ping. One that is busy may leave some
// unanswered, and minions that it still serves must not be passed over.
func (r *rotator) answers(ctx context.Context) bool {
	for range provesMost {
		asking, cancel := context.WithTimeout(ctx, answerWithin)
		err := r.client.Prove(asking)
		cancel()
		if err == nil {
			return true
		}
		if !retry.Sleep(ctx, leftPoll) {
			return false
		}
	}
	return false
}

// closes waits until salt-master is stopped, before its key is replaced: until its port
// refuses connections, several times in a row. That it does not answer would not say so:
// a busy or hung one does not either, and continues with its old key.
func closes(ctx context.Context, address string, within time.Duration) error {
	refused := 0
	for until := time.Now().Add(within); refused < closedChecks; {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
		switch {
		case err == nil:
			_ = conn.Close()
			refused = 0
		case errors.Is(err, syscall.ECONNREFUSED):
			refused++
		default:
			refused = 0
		}
		if refused < closedChecks && !time.Now().Before(until) {
			return fmt.Errorf("salt-master still takes connections on %s: is --stop-command right?", address)
		}
		if !retry.Sleep(ctx, closedPoll) {
			return ctx.Err()
		}
	}
	return nil
}

// serves waits until this master is ready with that key, as its row says, and until the
// process that answers proves that it has it: the bridge reads the key from the file, and
// would not notice a --start-command that left the old process running.
func (r *rotator) serves(ctx context.Context, digest string) error {
	proof, err := member.New(member.Config{RetEndpoint: r.config.RetEndpoint(), Publish: r.config.PublishAddress(),
		KeyFolder: filepath.Join(r.config.PKIDir, string(salt.Accepted)),
		Sessions:  filepath.Join(r.config.CacheDir, "sessions"),
		MasterKey: func() (string, error) { return digest, nil }})
	if err != nil {
		return err
	}
	defer func() { _ = proof.Leave() }() // the bridge removes what is left at its next start
	var last error
	for until := time.Now().Add(serveWithin); ; {
		masters, err := r.masters(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(masters, func(m fleet.Master) bool { return m.InstanceID == r.id })
		if i >= 0 && masters[i].Ready && masters[i].MasterKeySHA256 == digest {
			if last = proof.ProveMaster(ctx); last == nil {
				return nil
			}
		}
		if time.Now().After(until) {
			return errors.Join(fmt.Errorf("this master is not ready with the new key after %v: phoenix status says why",
				serveWithin), last)
		}
		if !retry.Sleep(ctx, leftPoll) {
			return ctx.Err()
		}
	}
}
