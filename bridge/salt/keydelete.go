package salt

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"phoenix/bridge/fleet"
)

// ErrBeside is returned when an accepted key is to be deleted while another key of
// the same id is pending or rejected.
var ErrBeside = errors.New("the id has another key besides")

const (
	// stableWithin bounds the wait for a text that is no whole key and may be being
	// written: after stableAfter it is taken as it is.
	stableWithin = 2 * stableAfter
	settlePause  = 200 * time.Millisecond
)

// States are the states of keys by the names that people give them.
var States = map[string]State{"accepted": Accepted, "pending": Pending, "rejected": Rejected, "denied": Denied}

// DeleteKey deletes the key of one id in one state, and nothing else. It returns the
// digest of the key, or an empty one for a text that is no key. If the caller decided
// about a key, seen is its digest, and another key that is there by now is left alone
// with ErrChanged; an empty one is for a caller that decided about the id.
//
// Only an accepted key goes through the master, which must change its AES key after
// it. 3008 deletes the pending, the rejected and the accepted key of an id by one
// call, whichever state is named (salt/cache/localfs_key.py, flush): the other
// states are therefore unlinked here, and an accepted key with another beside it is
// refused with ErrBeside. A key that was never accepted knows no AES key, so nothing
// has to change after it.
func DeleteKey(ctx context.Context, keys *Keys, master *Master, id string, state State,
	seen string) (digest string, err error) {
	text, err := keys.readWhole(ctx, id, state)
	if err != nil {
		return "", err
	}
	digest, _ = fleet.KeyDigest(text)
	if seen != "" && digest != seen {
		return digest, fmt.Errorf("delete key %s in %s: %w: %.12s is there", id, state, ErrChanged, digest)
	}
	if state != Accepted {
		err := keys.unlink(id, state, text)
		if errors.Is(err, fs.ErrNotExist) {
			err = ErrNoKey
		}
		if err != nil {
			return digest, fmt.Errorf("delete key %s in %s: %w", id, state, hint(err))
		}
		return digest, nil
	}
	list, err := keys.List()
	if err != nil {
		return digest, err
	}
	for other, ids := range map[string][]string{"pending": list.Pending, "rejected": list.Rejected} {
		if slices.Contains(ids, id) {
			return digest, fmt.Errorf("delete key %s in %s: %w: phoenix keys delete %s --state %s first, since Salt 3008 would delete both", id, state, ErrBeside, id, other)
		}
	}
	if again, err := keys.Read(id, Accepted); err != nil || !bytes.Equal(again, text) { // to list may take a while
		return digest, fmt.Errorf("delete key %s in %s: %w", id, state, cmp.Or(err, ErrChanged))
	}
	if err := master.Delete(ctx, map[State][]string{Accepted: {id}}); err != nil {
		return digest, err
	}
	if _, err := keys.Read(id, Accepted); !errors.Is(err, ErrNoKey) {
		return digest, fmt.Errorf("delete key %s in %s: it is still there: %w", id, state, errors.Join(ErrRefused, err))
	}
	return digest, nil
}

// readWhole is Read, which waits while a text may be being written.
func (k *Keys) readWhole(ctx context.Context, id string, state State) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, stableWithin)
	defer cancel()
	again := time.NewTicker(settlePause)
	defer again.Stop()
	for {
		text, err := k.Read(id, state)
		if !errors.Is(err, ErrUnsettled) {
			return text, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-again.C:
		}
	}
}

// Since returns when the key of an id was written in that state, by the file server's
// clock.
func (k *Keys) Since(id string, state State) (time.Time, error) {
	root, err := k.folder(id, state)
	if err != nil {
		return time.Time{}, err
	}
	defer root.Close()
	info, err := root.Lstat(id)
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}
