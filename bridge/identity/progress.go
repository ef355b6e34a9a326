package identity

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// maxListed bounds each list of minions in the object: 20,000 of EC2's ids are 440 KB. Of
// a larger fleet, some that one master reached may be named as not reached, and not all
// are that none did.
const maxListed = 20_000

// Start makes a new pair, and puts it beside the shared one, which stays. If a
// rotation is under way already, that one goes on.
func Start(ctx context.Context, b bucket, p *Place) (Identity, error) {
	own, err := p.Pair()
	if err != nil {
		return Identity{}, err
	}
	next, err := makePair()
	if err != nil {
		return Identity{}, err
	}
	return Update(ctx, b, func(id *Identity) error {
		switch {
		case id.Rotation != nil:
			return errUnchanged
		case own.Digest != id.Digest:
			return otherKey(p, own, id.Pair)
		}
		id.Rotation = &Rotation{Next: &next, Old: id.Public}
		return nil
	})
}

// errUnchanged is returned by a change that found nothing to do.
var errUnchanged = errors.New("unchanged")

// Update reads the object, changes it and writes it back, again if another master
// wrote it meanwhile. It gives what is there afterwards.
func Update(ctx context.Context, b bucket, change func(*Identity) error) (Identity, error) {
	for range maxRounds {
		id, tag, err := b.Get(ctx)
		if err != nil {
			return id, err
		}
		if err := change(&id); errors.Is(err, errUnchanged) {
			return id, nil
		} else if err != nil {
			return id, err
		}
		if err := b.Put(ctx, id, tag); !errors.Is(err, ErrChanged) {
			return id, err
		}
	}
	return Identity{}, fmt.Errorf("rotate identity: %w, %d times in a row", ErrChanged, maxRounds)
}

// ErrNoRotation is returned where one was expected to be under way.
var ErrNoRotation = errors.New("no rotation is under way (--start begins one)")

// during changes the state of a rotation.
func during(ctx context.Context, b bucket, change func(id *Identity, r *Rotation) error) (Identity, error) {
	return Update(ctx, b, func(id *Identity) error {
		if id.Rotation == nil {
			return ErrNoRotation
		}
		return change(id, id.Rotation)
	})
}

// MarkDistributed records that a master gave both keys to the minions reached, and that it knows those
// it missed. To be reached by one master is enough.
func MarkDistributed(ctx context.Context, b bucket, master string, reached, missed []string) (Identity, error) {
	return during(ctx, b, func(_ *Identity, r *Rotation) error {
		got := map[string]bool{}
		for _, id := range slices.Concat(r.Reached, reached) {
			got[id] = true
		}
		unreached := map[string]bool{}
		for _, id := range slices.Concat(r.Unreached, missed) {
			if !got[id] {
				unreached[id] = true
			}
		}
		r.Reached, r.Unreached = firstIDs(got), firstIDs(unreached)
		r.Distributed = added(r.Distributed, master)
		return nil
	})
}

// firstIDs returns as many ids as the object takes, sorted.
func firstIDs(set map[string]bool) []string {
	ids := slices.Sorted(maps.Keys(set))
	return ids[:min(len(ids), maxListed)]
}

// TakeTurn gives a master the turn to change its key. With the first turn the new pair
// becomes the shared one. may decides on what is there at the moment of the write.
func TakeTurn(ctx context.Context, b bucket, master string, may func(id Identity) error) (Identity, error) {
	return during(ctx, b, func(id *Identity, r *Rotation) error {
		if err := may(*id); err != nil {
			return err
		}
		if r.Turn == master && r.Next == nil {
			return errUnchanged
		}
		r.Turn = master
		if r.Next != nil {
			id.Pair, r.Next = *r.Next, nil
		}
		return nil
	})
}

// EndTurn gives the turn back, if the master has it.
func EndTurn(ctx context.Context, b bucket, master string) (Identity, error) {
	return during(ctx, b, func(_ *Identity, r *Rotation) error {
		if r.Turn != master {
			return errUnchanged
		}
		r.Turn = ""
		return nil
	})
}

// MarkCleared records that a master had its minions forget the old key. Once all that live
// did, over says so, and the rotation goes from the object.
func MarkCleared(ctx context.Context, b bucket, master string, over func(cleared []string) bool) (Identity, error) {
	id, err := during(ctx, b, func(id *Identity, r *Rotation) error {
		r.Cleared = added(r.Cleared, master)
		if over(r.Cleared) {
			id.Rotation = nil
		}
		return nil
	})
	if errors.Is(err, ErrNoRotation) { // another master was the last
		return id, nil
	}
	return id, err
}

func added(list []string, item string) []string {
	if slices.Contains(list, item) {
		return list
	}
	return append(slices.Clone(list), item)
}
