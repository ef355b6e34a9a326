package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/identity"
	"phoenix/bridge/retry"
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
	old := ""
	if own.Digest != fresh.Digest {
		if old = own.Digest; r.answers(ctx) {
			if err := r.clearOut(ctx, fresh, alone); err != nil {
				return err
			}
		} else {
			r.say("salt-master does not answer: it was stopped already")
		}
	}
	r.say("stop: %s", r.c.String("stop-command"))
	if err := r.service(ctx, r.c.String("stop-command")); err != nil {
		return err
	}
	err = r.isDown(ctx)
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
	alone = !slices.ContainsFunc(masters, func(m fleet.Master) bool { return m.InstanceID != r.id && m.Status == fleet.Launch })
	if !alone && r.answers(ctx) { // else nothing is lost by going on
		if err := anotherServes(ctx, r.store, r.id, masters); err != nil {
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

// answers reports whether salt-master answers a ping.
func (r *rotator) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	return r.client.Prove(ctx) == nil
}

// isDown makes sure that salt-master is stopped before its key is replaced.
func (r *rotator) isDown(ctx context.Context) error {
	for until := time.Now().Add(downWithin); time.Now().Before(until); {
		asking, cancel := context.WithTimeout(ctx, time.Second)
		err := r.client.Prove(asking)
		cancel()
		if err != nil {
			return ctx.Err()
		}
		if !retry.Sleep(ctx, leftPoll) {
			return ctx.Err()
		}
	}
	return errors.New("salt-master answers still: is --stop-command right?")
}

// serves waits until this master's row says that it is ready with that key.
func (r *rotator) serves(ctx context.Context, digest string) error {
	for until := time.Now().Add(serveWithin); ; {
		masters, err := r.masters(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(masters, func(m fleet.Master) bool { return m.InstanceID == r.id })
		if i >= 0 && masters[i].Ready && masters[i].MasterKeySHA256 == digest && r.answers(ctx) {
			return nil
		}
		if time.Now().After(until) {
			return fmt.Errorf("this master is not ready with the new key after %v: phoenix status says why", serveWithin)
		}
		if !retry.Sleep(ctx, leftPoll) {
			return ctx.Err()
		}
	}
}
