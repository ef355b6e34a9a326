// Package admission accepts keys on a Salt master. The bridge and "phoenix keys accept"
// call the same code, since the promise that only an admitted key is accepted rests on
// it.
//
// The caller decides first (package decide), and binds the digest of the pending key to
// the minion's row. Accept then calls the master. Salt accepts by id: it takes the key
// that is pending when it carries the call out, and a minion can replace its pending key
// until then. So Accept reads afterwards which key is accepted, compares its digest with
// the one that was decided on, and deletes another key at once. It reads also if the call
// failed, because a call without an answer may have been carried out.
package admission

import (
	"context"
	"errors"
	"fmt"

	"phoenix/bridge/fleet"
	"phoenix/bridge/plural"
	"phoenix/bridge/salt"
)

// Master accepts and deletes keys; see salt.Master.
type Master interface {
	Accept(ctx context.Context, ids []string) error
	Delete(ctx context.Context, keys map[salt.State][]string) error
}

// Keys reads keys; see salt.Keys.
type Keys interface {
	Read(id string, state salt.State) ([]byte, error)
}

// Pending is a pending key that was decided on.
type Pending struct{ ID, Digest string }

var (
	// ErrNotAccepted: the key store has no accepted key for the id after the call.
	ErrNotAccepted = errors.New("no key was accepted")
	// ErrWrongKey: another key was accepted in place of the one that was decided on.
	ErrWrongKey = errors.New("another key was in its place")
)

// Outcome is what became of one key.
type Outcome struct {
	Digest string // of the key that is accepted now; empty: none, or not known
	// Err is nil if the right key is accepted. Otherwise it is ErrNotAccepted,
	// ErrWrongKey, or why the key could not be read.
	Err error
	// Delete is why a wrong key could not be deleted at once; nil: it was.
	Delete error
}

// Accept accepts pending keys in one call of the master and reads what was accepted,
// however the call ended: a call that failed may have been carried out, and between
// the decision and the call another key may have taken the place of the pending one.
// A wrong key is deleted at once. Outcome i belongs to key i; the error is that of the
// call.
func Accept(ctx context.Context, master Master, keys Keys, pending []Pending) ([]Outcome, error) {
	ids := make([]string, len(pending))
	for i, p := range pending {
		ids[i] = p.ID
	}
	err := master.Accept(ctx, ids)
	if err != nil {
		err = fmt.Errorf("accept %s: %w", plural.Of(len(ids), "key"), err)
	}
	outcomes := make([]Outcome, len(pending))
	var wrong []string
	for i, p := range pending {
		if outcomes[i] = verify(keys, p); errors.Is(outcomes[i].Err, ErrWrongKey) {
			wrong = append(wrong, p.ID)
		}
	}
	if len(wrong) == 0 {
		return outcomes, err
	}
	failed := master.Delete(ctx, map[salt.State][]string{salt.Accepted: wrong})
	for i := range outcomes {
		if errors.Is(outcomes[i].Err, ErrWrongKey) {
			outcomes[i].Delete = failed
		}
	}
	return outcomes, err
}

// verify reads which key is accepted.
func verify(keys Keys, p Pending) Outcome {
	text, err := keys.Read(p.ID, salt.Accepted)
	switch {
	case errors.Is(err, salt.ErrNoKey):
		return Outcome{Err: ErrNotAccepted}
	case err != nil:
		return Outcome{Err: fmt.Errorf("read accepted key: %w", err)}
	}
	digest, _ := fleet.KeyDigest(text) // a text that is no key has none
	if digest != p.Digest || digest == "" {
		return Outcome{Digest: digest, Err: ErrWrongKey}
	}
	return Outcome{Digest: digest}
}
