package autoscaling

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"phoenix/bridge/fleet"
	"phoenix/bridge/retry"
)

// refuteAfter: EC2 answers from a state that may be some seconds old. So often a
// message comes, once a minute, before EC2's answer that its instance runs is final.
const refuteAfter = 3

// known are the rows that deliveries speak of.
type known struct {
	rows      map[string]fleet.Minion
	masters   map[string]fleet.Master
	bad       map[string]error // rows that cannot be read, of either table
	noMasters error            // masters could not be listed
}

// read reads the rows of terminations, of warnings, and of launches that are old. An
// error is the store's.
func (r *Reader) read(ctx context.Context, deliveries []*delivery) (known, error) {
	k := known{bad: map[string]error{}}
	var ids []string
	masters := false
	for _, l := range deliveries {
		if l.disposition != "" || l.msg.Kind == Parked {
			continue
		}
		if age := time.Since(l.msg.At); l.msg.Kind != Launched || age > fresh || age < -fresh {
			ids = append(ids, l.msg.InstanceID)
		}
	}
	if len(ids) == 0 {
		return k, nil
	}
	var err error
	k.rows, err = r.store.Minions(ctx, ids)
	bad, err := fleet.WithoutBadRows(err)
	if err != nil {
		return k, err
	}
	for id, err := range bad {
		k.bad[id] = err
	}
	for _, l := range deliveries {
		if l.disposition != "" {
			continue
		}
		// What the row says of the group goes before what the message says: anybody may
		// call a master a minion.
		row := k.rows[l.msg.InstanceID]
		if role, _ := r.cfg.role(Item{}, row.Group); row.Group != "" && role == Masters {
			l.role = Masters
		}
		masters = masters || l.msg.Kind == Warned || l.msg.Kind == Ended && (l.role == Masters || row.Group == "")
	}
	if !masters {
		return k, nil
	}
	var badMasters map[string]error
	k.masters, badMasters, k.noMasters = mastersOf(ctx, r.store)
	r.liveness.observe(k.masters, time.Now())
	for id, err := range badMasters {
		k.bad[id] = err
	}
	for _, l := range deliveries {
		if _, is := k.masters[l.msg.InstanceID]; is && l.msg.Kind == Ended {
			l.role = Masters
		}
	}
	return k, nil
}

// readable reports whether the rows of a delivery's instance could be read. If not, it gets
// its disposition, unless the store is away for all.
func (k known) readable(r *Reader, l *delivery) bool {
	err := k.bad[l.msg.InstanceID]
	if err == nil && (l.msg.Kind == Warned || l.msg.Kind == Ended && l.role == Masters) {
		err = k.noMasters
	}
	if err == nil {
		return true
	}
	l.disposition = Transient
	if kept, ok := r.unread.allow(complainEvery); ok {
		r.log.Error("message not applied; it will be received again", "instance", l.msg.InstanceID, "event",
			l.msg.About, "err", err, "others_since", kept)
	}
	return false
}

// applyConfirmed applies doubtful deliveries as far as AWS itself says the same. Rows are
// read again; an error is the store's.
func (r *Reader) applyConfirmed(ctx context.Context, deliveries []*delivery) error {
	if slices.ContainsFunc(deliveries, func(l *delivery) bool { return l.disposition == "" && l.msg.Kind == Warned }) {
		retry.Sleep(ctx, beatWithin) // then it is seen which masters' hearts move
	}
	k, err := r.read(ctx, deliveries)
	if err != nil {
		return err
	}
	r.proceed(ctx, deliveries)
	var since time.Time
	if slices.ContainsFunc(deliveries,
		func(l *delivery) bool { return l.disposition == "" && l.msg.Kind == Launched }) {
		if since, err = r.store.Since(ctx); err != nil {
			return err
		}
	}
	w, away := r.ask(ctx, deliveries)
	if err := ctx.Err(); err != nil {
		return err
	}
	var write []*delivery
	var errs []error
	adds := map[*delivery]fleet.Change{}
	for _, l := range deliveries {
		if l.disposition != "" || !k.readable(r, l) {
			continue
		}
		switch {
		case l.msg.Kind == Warned:
			errs = append(errs, r.warned(ctx, l, k))
		case away != nil:
			l.disposition = Transient
			if l.msg.Kind == Ended {
				r.hold(l, "EC2 does not answer")
			}
		case l.msg.Kind == Launched:
			if i, known := w.instances[l.msg.InstanceID]; !known || i.Gone() {
				l.disposition = Ignored
				r.log.Info("old launch ignored", "instance", l.msg.InstanceID, "group", l.msg.Group, "ec2", i.State,
					"launch", l.msg.At)
			} else {
				adds[l] = fleet.Add{InstanceID: l.msg.InstanceID, Group: l.msg.Group, HookName: l.msg.Hook,
					Adopted: i.Launched.Before(since)}
				write = append(write, l)
			}
		default:
			ok, err := r.ended(ctx, l, k, w)
			errs = append(errs, err)
			if ok {
				write = append(write, l)
			}
		}
	}
	return errors.Join(append(errs, r.write(ctx, write, adds))...)
}

// ended decides about a termination by AWS's own answer, and reports whether the minion's
// row is to be written. An error is the store's.
func (r *Reader) ended(ctx context.Context, l *delivery, k known, w words) (write bool, err error) {
	id := l.msg.InstanceID
	switch w.believe(l.msg, l.role, listed(k.rows[id], k.masters[id])) {
	case ends:
		if l.role == Masters {
			if err := r.store.RetireMaster(ctx, id); err != nil {
				return false, r.refused(l, err)
			}
		}
		l.ends = k.rows[id].Status != fleet.Terminate
		return true, nil
	case drains:
		if err := r.store.DrainMaster(ctx, id, true); err != nil && !errors.Is(err, fleet.ErrNotFound) &&
			!errors.Is(err, fleet.ErrTerminated) {
			return false, r.refused(l, err)
		}
		l.disposition = Applied
		r.ledger.clear(id)
		r.cfg.decided(r.log, "master drained: its group terminates it", id, "group", l.msg.Group, "hook", l.msg.Hook)
		r.hooks.Tend(l.msg, Masters)
	case lives:
		if n := l.received(); n > 0 && n < refuteAfter {
			l.disposition = Transient
			break
		}
		l.disposition = Refuted
		n := r.ledger.refute(id)
		// Who sends many such messages shall not write the trail full.
		if kept, ok := r.refutes.allow(complainEvery); ok || n <= shown {
			r.cfg.decided(r.log, "termination not believed: EC2 says that the instance lives", nameOf(k.rows[id], id),
				"instance", id, "group", l.msg.Group, "event", l.msg.About, "ec2", w.instances[id].State,
				"others_since", kept)
		}
	case unheard:
		l.disposition = Transient
		r.hold(l, "EC2 does not know the instance")
	case nobody:
		l.disposition = Ignored
		r.ledger.clear(id)
	}
	return false, nil
}

// hold keeps a termination in the list that an operator may release.
func (r *Reader) hold(l *delivery, why string) {
	if !r.ledger.hold(l.msg.InstanceID, l.role) {
		return
	}
	if kept, ok := r.holds.allow(complainEvery); ok {
		r.log.Error("termination held: over the termination limit, or a master; to allow it, run phoenix minions retire --held",
			"instance", l.msg.InstanceID, "group", l.msg.Group, "event", l.msg.About, "reason", why,
			"others_since", kept)
	}
}

// proceed ends the hooks of instances on their way into the warm pool.
func (r *Reader) proceed(ctx context.Context, deliveries []*delivery) {
	var calls errgroup.Group
	calls.SetLimit(callsAtOnce)
	for _, l := range deliveries {
		if l.disposition != "" || l.msg.Kind != Parked {
			continue
		}
		calls.Go(func() error {
			l.disposition = Applied
			if err := r.hooks.Proceed(ctx, l.msg); err != nil {
				l.disposition = Transient
				r.log.Warn("lifecycle hook not completed", "instance", l.msg.InstanceID, "hook", l.msg.Hook, "err",
					withHint(err))
			}
			return nil
		})
	}
	_ = calls.Wait() // each logs its own fault
}

// warned does what follows from EC2's warning that it may take an instance back. Minions
// leave a master, if there is another one. For a minion it is only recorded.
func (r *Reader) warned(ctx context.Context, l *delivery, k known) error {
	id := l.msg.InstanceID
	master, row := k.masters[id], k.rows[id]
	switch {
	case master.Status == fleet.Launch && !r.liveness.another(k.masters, id, time.Now()):
		l.disposition = Applied
		r.cfg.decided(r.log, "master not drained: no other is ready", id, "event", l.msg.About)
	case master.Status == fleet.Launch:
		if err := r.store.DrainMaster(ctx, id, true); err != nil && !errors.Is(err, fleet.ErrNotFound) &&
			!errors.Is(err, fleet.ErrTerminated) {
			return r.refused(l, err)
		}
		l.disposition = Applied
		r.cfg.decided(r.log, "master drained: EC2 may take it back", id, "event", l.msg.About)
	case row.Status == fleet.Launch:
		l.disposition = Applied
		r.cfg.decided(r.log, "EC2 may take the instance back", row.SaltID(), "instance", id, "event", l.msg.About)
	default:
		l.disposition = Ignored
	}
	return nil
}

// nameOf is the minion's name where a row has one.
func nameOf(row fleet.Minion, id string) string {
	if row.InstanceID == "" {
		return id
	}
	return row.SaltID()
}
