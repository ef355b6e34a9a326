package identity

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"phoenix/bridge/fleet"
)

// maxListed bounds each list of minions in the object: 20,000 of EC2's ids are 440 KB. Of
// a larger fleet, some that one master reached may be named as not reached, and not all
// are that none did.
const maxListed = 20_000

// Rotation is a change of the shared key pair that is under way. It lies in the
// object beside the pair, so that each master finds out what is next, and a command
// that was killed goes on where it was.
//
// A minion trusts one master key, the one in minion_master.pub, and masters change
// theirs one after the other. So minions get both keys before the first master
// changes, in a file beside minion_master.pub that Salt does not read. An agent takes
// for its minion's masters those of either key, and puts the key of the masters that
// it chose into minion_master.pub before it restarts the minion. So each minion is
// served by a master that it trusts at each moment, whichever master dies.
type Rotation struct {
	// Next is the pair that is to be shared, nil once it is: from then on masters that
	// are launched have it.
	Next *Pair
	// Old is the public half of the pair that is replaced.
	Old []byte
	// Turn is the master that changes its key now; empty: none.
	Turn string
	// Told are the masters that gave both keys to the minions that are connected to
	// them, and Cleared those that had them forget the old one.
	Told, Cleared []string
	// Reached are the minions that have both keys from one of those masters, and Untold
	// those that such a master knows and none has reached. A minion that one master
	// missed and another does not know was reached by nobody, so both are kept.
	Reached, Untold []string
}

// NewKey is the pair that masters are to have. shared is the one in the object.
func (r Rotation) NewKey(shared Pair) Pair {
	if r.Next != nil {
		return *r.Next
	}
	return shared
}

// OldDigest names the key that is replaced.
func (r Rotation) OldDigest() string {
	digest, _ := fleet.KeyDigest(r.Old) // decode has checked it
	return digest
}

// Stage is what a master has to do next.
type Stage string

const (
	StageTell   Stage = "tell"   // give its minions both keys
	StageWait   Stage = "wait"   // for other masters
	StageChange Stage = "change" // its own key, as it is its turn
	StageClear  Stage = "clear"  // have its minions forget the old key
	StageDone   Stage = "done"   // nothing: the rotation is over, for this master or for all
)

// Next decides what a master has to do next, and which masters it waits for. own is the
// digest of the key that it has, masters are the rows of all.
func (r *Rotation) NextStage(id, own string, shared Pair, masters []fleet.Master) (Stage, []string) {
	if r == nil {
		return StageDone, nil
	}
	fresh := r.NewKey(shared).Digest
	var untold, unchanged, uncleared []string
	for _, m := range masters {
		if m.Status != fleet.Launch {
			continue
		}
		// A master that was launched meanwhile has the new key already.
		if m.MasterKeySHA256 != fresh && !slices.Contains(r.Told, m.InstanceID) {
			untold = append(untold, m.InstanceID)
		}
		if m.MasterKeySHA256 != fresh && m.InstanceID != id {
			unchanged = append(unchanged, m.InstanceID)
		}
		if !slices.Contains(r.Cleared, m.InstanceID) {
			uncleared = append(uncleared, m.InstanceID)
		}
	}
	busy := r.Turn != "" && r.Turn != id && slices.ContainsFunc(masters, func(m fleet.Master) bool {
		return m.InstanceID == r.Turn && m.Status == fleet.Launch
	})
	switch {
	case own != fresh && !slices.Contains(r.Told, id):
		return StageTell, nil
	case r.Turn == id:
		return StageChange, nil
	case own != fresh && len(untold) > 0:
		return StageWait, untold
	case own != fresh && busy:
		return StageWait, []string{r.Turn}
	case own != fresh:
		return StageChange, nil
	case len(unchanged) > 0:
		return StageWait, unchanged
	case !slices.Contains(r.Cleared, id):
		return StageClear, nil
	}
	return StageDone, uncleared
}

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

// Told notes that a master gave both keys to the minions reached, and that it knows those
// it missed. To be reached by one master is enough.
func Told(ctx context.Context, b bucket, master string, reached, missed []string) (Identity, error) {
	return during(ctx, b, func(_ *Identity, r *Rotation) error {
		got := map[string]bool{}
		for _, id := range slices.Concat(r.Reached, reached) {
			got[id] = true
		}
		untold := map[string]bool{}
		for _, id := range slices.Concat(r.Untold, missed) {
			if !got[id] {
				untold[id] = true
			}
		}
		r.Reached, r.Untold = firstIDs(got), firstIDs(untold)
		r.Told = added(r.Told, master)
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

// Cleared notes that a master had its minions forget the old key. Once all that live
// did, over says so, and the rotation goes from the object.
func Cleared(ctx context.Context, b bucket, master string, over func(cleared []string) bool) (Identity, error) {
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

// Exchange gives this master the new pair in place of the old one. Its Salt must not
// run. Whenever it is cut short, what is there is the old key, or the new one, and no
// half of each: the public half goes first, since Salt and Phoenix derive it.
func (p *Place) Exchange(pair Pair, old string) error {
	own, err := p.Pair()
	switch {
	case err != nil:
		return err
	case own.Digest != pair.Digest && own.Digest != old:
		return otherKey(p, own, pair)
	case own.Digest != pair.Digest:
		if err := p.replacePrivate(pair); err != nil {
			return fmt.Errorf("write key pair into %s: %w%s", p.dir, err, permissionHint(err))
		}
	}
	var w Written
	if err := p.writePair(pair, &w); err != nil {
		return fmt.Errorf("write key pair into %s: %w%s", p.dir, err, permissionHint(err))
	}
	return nil
}

// replacePrivate puts the private half in the place of the one that this master's Salt
// goes by. 3008 leaves links of the old names, which stay.
func (p *Place) replacePrivate(pair Pair) error {
	d, err := p.openFolder(p.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	var regular []string
	for _, name := range p.names() {
		if err := d.root.Remove(name + ".pub"); err == nil {
			p.step("removed " + name + ".pub")
		}
		if info, err := d.root.Lstat(name + ".pem"); err == nil && info.Mode().IsRegular() {
			regular = append(regular, name)
		}
	}
	if len(regular) == 0 {
		return fmt.Errorf("%s is a link that leads elsewhere", p.held())
	}
	for _, name := range regular[1:] { // a copy under another name
		if err := d.root.Remove(name + ".pem"); err != nil {
			return err
		}
		p.step("removed " + name + ".pem")
	}
	other := func(_, _ []byte) bool { return false }
	if _, err := d.put(regular[0]+".pem", pair.Private, privateMode, other, true); err != nil {
		return err
	}
	return d.sync(regular[0] + ".pem")
}
