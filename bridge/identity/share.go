package identity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"phoenix/bridge/fleet"
)

// ErrOtherKey is returned when the master and the fleet have different keys. Both
// stay as they are.
var ErrOtherKey = errors.New("this master has another key")

// ErrChanged is returned by a Put that came second.
var ErrChanged = errors.New("the shared identity was written by another master meanwhile")

// ErrDeleted is returned where the shared identity was there once, and is not any
// more: another one would part the masters, and the minions from them.
var ErrDeleted = errors.New("the shared identity was deleted")

// ErrRotating is returned for what has to wait until the rotation that is under way is
// over, see Rotation.
var ErrRotating = errors.New("the shared key is being rotated")

// maxRounds bounds how often a write that came second looks again. The second
// look finds what the first writer wrote, unless somebody deletes it at once.
const maxRounds = 4

// bucket holds the one object. Get gives ErrNone if it is not there; Put fails
// with ErrChanged unless the object is still the one with that tag, or, for "",
// still not there.
type bucket interface {
	Get(ctx context.Context) (id Identity, tag string, err error)
	Put(ctx context.Context, id Identity, tag string) error
	// Deleted reports whether an object that is not there was there before, as far as
	// its versions tell.
	Deleted(ctx context.Context) (bool, error)
}

// Action is what became of this master's key.
type Action string

const (
	Made      Action = "made"      // here, and shared: this master is the first
	Offered   Action = "offered"   // this master's own is now the shared one
	Installed Action = "installed" // this master has the shared one now
	Unchanged Action = "unchanged" // it had it before
	Kept      Action = "kept"      // it has one, and what the fleet shares could not be read
	Updated   Action = "updated"   // it had it; the files beside it are shared anew
)

// Report says what was done, or in a dry run would be. Files and folders are
// those of this machine.
type Report struct {
	Action Action
	Pair   Pair
	Fault  error // why the shared identity was not read (Kept)
	Written
}

// Options of Install and Import.
type Options struct {
	DryRun  bool
	Replace bool // renew files beside the key, here (Install) or in the bucket (Import)
}

// Install gives this machine's master the fleet's identity, before its Salt
// starts: the shared one, or else its own, or else a new one, which it shares.
func Install(ctx context.Context, b bucket, p *Place, o Options) (Report, error) {
	for range maxRounds {
		r, err := install(ctx, b, p, o)
		if !errors.Is(err, ErrChanged) {
			return r, err
		}
	}
	return Report{}, fmt.Errorf("install identity: %w, %d times in a row", ErrChanged, maxRounds)
}

func install(ctx context.Context, b bucket, p *Place, o Options) (Report, error) {
	shared, _, err := b.Get(ctx)
	if errors.Is(err, ErrNone) {
		deleted, asked := b.Deleted(ctx)
		switch {
		case asked != nil:
			return keepOwn(p, asked)
		case deleted:
			// Another master may have made it between our two looks.
			if _, _, err := b.Get(ctx); !errors.Is(err, ErrNone) {
				return Report{}, fmt.Errorf("read %v: %w", b, ErrChanged)
			}
			return keepOwn(p, fmt.Errorf("%w: restore it (delete the delete marker of %v, or copy an earlier version), or share the key of a master that minions trust: phoenix identity import", ErrDeleted, b))
		}
		return offer(ctx, b, p, o, true)
	}
	if errors.Is(err, fleet.ErrUnavailable) || errors.Is(err, fleet.ErrDenied) {
		return keepOwn(p, err)
	}
	if err != nil {
		return Report{}, err
	}
	r := Report{Action: Installed, Pair: shared.Pair}
	switch own, err := p.Pair(); {
	case errors.Is(err, ErrNone):
	case err != nil:
		return r, err
	case shared.Rotation != nil && own.Digest == shared.Rotation.OldDigest() && own.Digest != shared.Digest:
		return keepOwn(p, fmt.Errorf("%w, and this master has the old key still: phoenix identity rotate", ErrRotating))
	case own.Digest != shared.Digest:
		return r, otherKey(p, own, shared.Pair)
	default:
		r.Action = Unchanged
	}
	if err := p.complete(shared); err != nil {
		return r, err
	}
	if !o.DryRun {
		r.Written, err = p.write(shared, o.Replace)
	}
	return r, err
}

// keepOwn lets a master start with the pair that it has, if it is whole, and so are the
// files beside it: without S3 or KMS, or an object that somebody deleted, it is
// still the master that its minions trust.
func keepOwn(p *Place, fault error) (Report, error) {
	pair, err := p.Pair()
	if errors.Is(err, ErrNone) {
		return Report{}, fault
	}
	if err == nil {
		_, err = p.files()
	}
	if err != nil {
		return Report{}, errors.Join(fault, err)
	}
	return Report{Action: Kept, Pair: pair, Fault: fault}, nil
}

// offer shares what this master has. The object is written first: were the
// master's own file first and all ended there, it would have a key that another
// master's object does not agree with.
func offer(ctx context.Context, b bucket, p *Place, o Options, mayMake bool) (Report, error) {
	r := Report{Action: Offered}
	pair, err := p.Pair()
	if errors.Is(err, ErrNone) && mayMake {
		r.Action = Made
		pair, err = makePair()
	}
	if err != nil {
		return r, err
	}
	r.Pair = pair
	files, err := p.files()
	if err != nil {
		return r, err
	}
	if o.DryRun {
		return r, nil
	}
	id := Identity{Pair: pair, Files: files}
	if err := b.Put(ctx, id, ""); err != nil {
		return r, err
	}
	r.Written, err = p.write(id, false)
	return r, err
}

// Import shares this master's identity: the first time, or, with Replace, what
// its files beside the key have become. The shared key itself never changes.
func Import(ctx context.Context, b bucket, p *Place, o Options) (Report, error) {
	for range maxRounds {
		r, err := imports(ctx, b, p, o)
		if !errors.Is(err, ErrChanged) {
			return r, err
		}
	}
	return Report{}, fmt.Errorf("import identity: %w, %d times in a row", ErrChanged, maxRounds)
}

func imports(ctx context.Context, b bucket, p *Place, o Options) (Report, error) {
	shared, tag, err := b.Get(ctx)
	if errors.Is(err, ErrNone) {
		return offer(ctx, b, p, o, false)
	}
	if err != nil {
		return Report{}, err
	}
	r := Report{Action: Unchanged, Pair: shared.Pair}
	own, err := p.Pair()
	if err != nil {
		return r, err
	}
	if shared.Rotation != nil {
		return r, fmt.Errorf("import identity: %w: phoenix identity rotate goes on with it", ErrRotating)
	}
	if own.Digest != shared.Digest {
		return r, otherKey(p, own, shared.Pair)
	}
	files, err := p.files()
	if err != nil {
		return r, err
	}
	changed := differing(shared.Files, files)
	switch {
	case len(changed) == 0:
		return r, nil
	case !o.Replace:
		return r, fmt.Errorf("import identity: this master's %s differ from the shared ones (--replace-files shares them anew)",
			strings.Join(changed, ", "))
	}
	r.Action, r.Files = Updated, changed
	if o.DryRun {
		return r, nil
	}
	return r, b.Put(ctx, Identity{Pair: shared.Pair, Files: files}, tag)
}

// otherKey names both keys, as both sides know them.
func otherKey(p *Place, own, shared Pair) error {
	return fmt.Errorf("%w: %s holds %s (master_finger %s), the fleet shares %s (master_finger %s); nothing was changed "+
		"(to take the shared one, stop salt-master and move that key away, with its .pub and links; minions that trust it will have to forget it)",
		ErrOtherKey, p.held(), own.Digest, Finger(own.Public), shared.Digest, Finger(shared.Public))
}

// files are those of identity.files on this machine, all of them: the object is
// made once, and what it lacks no other master gets.
func (p *Place) files() ([]File, error) {
	files, missing, err := p.list.read()
	if err == nil && len(missing) > 0 {
		err = fmt.Errorf("read shared files: %s is not on this machine (make it first, or take it out of identity.files)",
			strings.Join(missing, ", "))
	}
	return files, err
}

// complete makes sure that this master gets all that identity.files lists, or has
// it already.
func (p *Place) complete(shared Identity) error {
	_, missing, err := p.list.read()
	if err != nil {
		return err
	}
	missing = slices.DeleteFunc(missing, func(name string) bool {
		return slices.ContainsFunc(shared.Files, func(f File) bool {
			return f.Path == name || strings.HasPrefix(f.Path, name+"/")
		})
	})
	if len(missing) > 0 {
		return fmt.Errorf("read shared files: %s of identity.files is neither in the shared identity nor on this machine "+
			"(share it from a master that has it: phoenix identity import --replace-files)",
			strings.Join(missing, ", "))
	}
	return nil
}

// differing names the files that are not in both lists alike.
func differing(a, b []File) (paths []string) {
	in := func(f File, list []File) bool {
		return slices.ContainsFunc(list,
			func(g File) bool { return f.Path == g.Path && f.Mode == g.Mode && bytes.Equal(f.Data, g.Data) })
	}
	for _, f := range a {
		if !in(f, b) {
			paths = append(paths, f.Path)
		}
	}
	for _, f := range b {
		if !in(f, a) {
			paths = append(paths, f.Path)
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}
