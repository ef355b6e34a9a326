package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"phoenix/bridge/fleet"
)

const (
	// objectVersion is raised when an older Phoenix would misread the object.
	objectVersion = 1
	// maxObject bounds the object, and all files in it: a GPG home with dozens of
	// keys has some 100 KiB, and each of a rotation's two lists of minions as much as 600.
	maxObject = 3 << 20
	// maxFileBytes bounds those files alone, which JSON makes a third longer.
	maxFileBytes = 1 << 20
	// maxFiles bounds the files in it: GPG keeps one for each private key.
	maxFiles = 256
)

// Identity is what the masters of a fleet share.
type Identity struct {
	Pair
	Files    []File
	Rotation *Rotation // nil: none is under way
}

// File is one file beside the key pair. Path is relative to pki_dir, which may
// differ from master to master, or absolute.
type File struct {
	Path string      `json:"path"`
	Mode fs.FileMode `json:"mode"`
	Data []byte      `json:"data"`
}

// object is how an identity lies in S3: JSON, so that it can be read without
// Phoenix where it matters most.
type object struct {
	Version  int             `json:"version"`
	Private  string          `json:"private"`
	Public   string          `json:"public"`
	Files    []File          `json:"files,omitempty"`
	Rotation *rotationObject `json:"rotation,omitempty"`
}

// rotationObject is a Rotation in it.
type rotationObject struct {
	NextPrivate string   `json:"next_private,omitempty"`
	NextPublic  string   `json:"next_public,omitempty"`
	OldPublic   string   `json:"old_public"`
	Turn        string   `json:"turn,omitempty"`
	Told        []string `json:"told,omitempty"`
	Cleared     []string `json:"cleared,omitempty"`
	Reached     []string `json:"reached,omitempty"`
	Untold      []string `json:"untold,omitempty"`
}

func (r *Rotation) object() *rotationObject {
	if r == nil {
		return nil
	}
	o := &rotationObject{OldPublic: string(r.Old), Turn: r.Turn, Told: r.Distributed, Cleared: r.Cleared,
		Reached: r.Reached, Untold: r.Unreached}
	if r.Next != nil {
		o.NextPrivate, o.NextPublic = string(r.Next.Private), string(r.Next.Public)
	}
	return o
}

func (o *rotationObject) rotation() (*Rotation, error) {
	if o == nil {
		return nil, nil
	}
	r := &Rotation{Old: []byte(o.OldPublic), Turn: o.Turn, Distributed: o.Told, Cleared: o.Cleared, Reached: o.Reached,
		Unreached: o.Untold}
	if _, err := fleet.KeyDigest(r.Old); err != nil {
		return nil, fmt.Errorf("rotation: %w", err)
	}
	if o.NextPrivate != "" || o.NextPublic != "" {
		next, err := checkPair([]byte(o.NextPrivate), []byte(o.NextPublic))
		if err != nil {
			return nil, fmt.Errorf("rotation: %w", err)
		}
		r.Next = &next
	}
	return r, nil
}

func encode(id Identity) ([]byte, error) {
	text, err := json.MarshalIndent(object{objectVersion, string(id.Private), string(id.Public), id.Files,
		id.Rotation.object()}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write identity: %w", err)
	}
	if _, err := decode(text); err != nil { // what is written can be read
		return nil, fmt.Errorf("write identity: %v", err)
	}
	return text, nil
}

// decode trusts nothing: whoever may write to the bucket need not be a master.
func decode(text []byte) (Identity, error) {
	var o object
	switch err := parse(text, &o); {
	case err != nil:
		return Identity{}, fmt.Errorf("%w: %w", fleet.ErrCorrupt, err)
	case o.Version != objectVersion:
		return Identity{}, fmt.Errorf("%w: version %d, this Phoenix knows %d only", fleet.ErrCorrupt, o.Version,
			objectVersion)
	case o.Public == "":
		return Identity{}, fmt.Errorf("%w: no public key", fleet.ErrCorrupt)
	}
	pair, err := checkPair([]byte(o.Private), []byte(o.Public))
	if err != nil {
		return Identity{}, fmt.Errorf("%w: %w", fleet.ErrCorrupt, err)
	}
	rotation, err := o.Rotation.rotation()
	if err != nil {
		return Identity{}, fmt.Errorf("%w: %w", fleet.ErrCorrupt, err)
	}
	return Identity{pair, o.Files, rotation}, nil
}

func parse(text []byte, o *object) error {
	if len(text) > maxObject {
		return fmt.Errorf("over %d bytes", maxObject)
	}
	if err := json.Unmarshal(text, o); err != nil {
		return err
	}
	if len(o.Files) > maxFiles {
		return fmt.Errorf("%d files", len(o.Files))
	}
	seen := map[string]bool{}
	for _, f := range o.Files {
		if err := checkPath(f.Path); err != nil {
			return err
		}
		if seen[f.Path] {
			return fmt.Errorf("%s twice", f.Path)
		}
		if f.Mode&^fs.ModePerm != 0 {
			return fmt.Errorf("%s: mode %v", f.Path, f.Mode)
		}
		seen[f.Path] = true
	}
	return nil
}

// ErrNone is returned when there is no identity where one was looked for.
var ErrNone = errors.New("no identity")
