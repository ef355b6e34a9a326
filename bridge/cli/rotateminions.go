package cli

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"phoenix/bridge/agent"
	"phoenix/bridge/fleet"
	"phoenix/bridge/identity"
	"phoenix/bridge/retry"
	"phoenix/bridge/salt"
)

// tell gives both keys to the minions that are connected to this master.
func (r *rotator) tell(ctx context.Context, fresh identity.Pair) error {
	r.say("tell: minions connected here get the new key beside the old one")
	return r.handAndRecord(ctx, fresh)
}

// handAndRecord writes both keys on the minions that answer, and records who did.
func (r *rotator) handAndRecord(ctx context.Context, fresh identity.Pair) error {
	reached, missed, err := r.hand(ctx, fresh)
	if err != nil {
		return err
	}
	r.say("%d of the %d minions that this master knows have both keys; the others may be connected to other masters",
		len(reached), len(reached)+len(missed))
	_, err = identity.MarkDistributed(ctx, r.bucket, r.id, reached, missed)
	return err
}

// hand writes both keys on the minions that answer, which it returns as reached. missed
// are the others of all that this master knows.
func (r *rotator) hand(ctx context.Context, fresh identity.Pair) (reached, missed []string, err error) {
	shared, _, err := r.bucket.Get(ctx)
	if err != nil {
		return nil, nil, err
	}
	if shared.Rotation == nil {
		return nil, nil, identity.ErrNoRotation
	}
	text := strings.TrimSpace(string(fresh.Public)) + "\n" + strings.TrimSpace(string(shared.Rotation.Old)) + "\n"
	ids, folders, err := r.connected(ctx, identity.Finger(fresh.Public))
	if err != nil {
		return nil, nil, err
	}
	wrote, err := r.each(ctx, folders, func(folder string) []salt.Call {
		name := below(folder, agent.KeysFile)
		return []salt.Call{minionWrites(name, text), call("file.read", name)}
	})
	if err != nil {
		return nil, nil, err
	}
	for _, id := range ids {
		if strings.TrimSpace(returned(wrote[id], "file.read")) != strings.TrimSpace(text) {
			missed = append(missed, id)
		} else {
			reached = append(reached, id)
		}
	}
	return reached, missed, nil
}

// connected asks the minions that this master knows where they keep their keys: who is
// connected here answers. A minion with a master_finger would refuse another key.
func (r *rotator) connected(ctx context.Context, finger string) (ids []string, folders map[string][]string, err error) {
	list, err := r.keys.List()
	if err != nil {
		return nil, nil, err
	}
	for _, id := range list.Accepted {
		if r.valid(id) {
			ids = append(ids, id)
		} else {
			r.note("minion %s gets no job, since its id is none of a host: write the new key to its minion_master.pub",
				id)
		}
	}
	if len(ids) == 0 {
		return nil, nil, nil
	}
	answers, err := r.jobs.run(ctx, ids, call("config.get", "pki_dir"), call("config.option", "master_finger"))
	if err != nil {
		return nil, nil, err
	}
	folders = map[string][]string{}
	for id, answer := range answers {
		folder, wants := returned(answer, "config.get"), returned(answer, "config.option")
		switch {
		case wants != "" && wants != finger && finger != "":
			r.note("minion %s has a master_finger, and would refuse the new key: change it there to %s", id, finger)
		case folder != "":
			folders[folder] = append(folders[folder], id)
		}
	}
	return ids, folders, nil
}

// each runs the functions for a folder on the minions that have that one.
func (r *rotator) each(ctx context.Context, folders map[string][]string,
	calls func(folder string) []salt.Call) (map[string]any, error) {
	all := map[string]any{}
	for _, folder := range slices.Sorted(maps.Keys(folders)) {
		answers, err := r.jobs.run(ctx, folders[folder], calls(folder)...)
		if err != nil {
			return nil, err
		}
		maps.Copy(all, answers)
	}
	return all, nil
}

// clearOut has the minions leave, once they have both keys. Those that stay (no agent
// is beside them, or this is the only master) get the new key as the one that they
// trust: they take it at their next authentication, without a restart (3006.30, 3008.5).
// Those that Salt moves to a master with the old key once this one is stopped keep the
// old one: wait is how long this master has to be stopped for that.
func (r *rotator) clearOut(ctx context.Context, fresh identity.Pair, old string,
	alone bool) (wait time.Duration, err error) {
	r.say("tell: minions that came since get both keys")
	if err := r.handAndRecord(ctx, fresh); err != nil {
		return 0, err
	}
	if !alone {
		r.say("drain: waits until minions have left this master, for up to %v", r.c.Duration("drain"))
		if err := r.store.DrainMaster(ctx, r.id, true); err != nil {
			return 0, err
		}
		for until := time.Now().Add(r.c.Duration("drain")); time.Now().Before(until); {
			if n, err := r.left(); err == nil && n == 0 {
				r.say("no minion is left here")
				return 0, nil
			}
			if !retry.Sleep(ctx, leftPoll) {
				return 0, ctx.Err()
			}
		}
	}
	_, folders, err := r.connected(ctx, "")
	if err != nil {
		return 0, err
	}
	masters, err := r.masters(ctx)
	if err != nil {
		return 0, err
	}
	movers, wait, err := r.movers(ctx, slices.Concat(slices.Collect(maps.Values(folders))...),
		withOldKey(masters, r.id, old))
	if err != nil {
		return 0, err
	}
	for folder, ids := range folders {
		if folders[folder] = slices.DeleteFunc(ids,
			func(id string) bool { return movers[id] }); len(folders[folder]) == 0 {
			delete(folders, folder)
		}
	}
	r.say("trust: minions that are left here trust the new key from now on, but %d: Salt moves them to a master with the old key", len(movers))
	text := strings.TrimSpace(string(fresh.Public))
	_, err = r.each(ctx, folders, func(folder string) []salt.Call {
		name, temp := below(folder, "minion_master.pub"), below(folder, ".phoenix_master.new")
		return []salt.Call{minionWrites(temp, text), call("file.rename", temp, name)}
	})
	return wait, err
}

// clear has the minions that are connected here forget the old key. Some are on their
// way from one master to another just now, so it asks for a while.
func (r *rotator) clear(ctx context.Context) error {
	r.say("forget: minions connected here forget the old key")
	forgotten := map[string]bool{}
	for until := time.Now().Add(forgetFor); ; {
		ids, folders, err := r.connected(ctx, "")
		if err != nil {
			return err
		}
		gone, err := r.each(ctx, folders, func(folder string) []salt.Call {
			name := below(folder, agent.KeysFile)
			return []salt.Call{call("file.remove", name), call("file.file_exists", name)}
		})
		if err != nil {
			return err
		}
		for id, answer := range gone {
			byName, _ := answer.(map[string]any)
			if there, said := byName["file.file_exists"].(bool); said && !there {
				forgotten[id] = true
			}
		}
		if len(forgotten) >= len(ids) || time.Now().After(until) || !retry.Sleep(ctx, rotatePoll) {
			r.say("%d of the %d minions that this master knows have forgotten it", len(forgotten), len(ids))
			break
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	masters, err := r.masters(ctx)
	if err != nil {
		return err
	}
	_, err = identity.MarkCleared(ctx, r.bucket, r.id, func(cleared []string) bool {
		return !slices.ContainsFunc(masters, func(m fleet.Master) bool {
			return m.Status == fleet.Launch && !slices.Contains(cleared, m.InstanceID)
		})
	})
	return err
}
