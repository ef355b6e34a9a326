package agent

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"phoenix/bridge/fleet"
)

// proofs stands for the table at its API: it refuses, then takes.
type proofs struct {
	refuse  int
	tries   []time.Time
	written []string
}

func (p *proofs) PutProof(_ context.Context, arn string, key fleet.Proof) error {
	p.tries = append(p.tries, time.Now())
	if p.refuse > 0 {
		p.refuse--
		return errors.New("AccessDeniedException")
	}
	p.written = append(p.written, arn+" "+key.KeySHA256+" "+key.PublicKey)
	return nil
}

// keyPair is a minion's, whose key the test sets.
type keyPair struct {
	mu   sync.Mutex
	key  fleet.Proof
	err  error
	made int
}

func (k *keyPair) MakeKey() (bool, error) { k.made++; return false, nil }

func (k *keyPair) OwnKey() (fleet.Proof, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.key, k.err
}

func (k *keyPair) set(digest string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.key, k.err = fleet.Proof{}, err
	if digest != "" {
		k.key = fleet.Proof{KeySHA256: digest, PublicKey: "PEM of " + digest}
	}
}

func TestProofIsWrittenOncePerKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, asked := &proofs{refuse: 5}, 0
		p, err := NewProof(table, func(context.Context) (string, error) {
			if asked++; asked < 3 {
				return "", errors.New("no metadata yet")
			}
			return "arn", nil
		})
		if err != nil {
			t.Fatal(err)
		}
		keys := &keyPair{}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = p.Run(ctx, keys, slog.New(slog.NewTextHandler(io.Discard, nil))) })
		wait(time.Minute)
		if asked > 0 {
			t.Error("asked before the minion had a key")
		}
		keys.set("one", nil)
		wait(10 * time.Minute)
		keys.set("", errors.New("permission denied")) // is not the end of a key
		wait(10 * time.Minute)
		keys.set("one", nil)
		wait(10 * time.Minute)
		keys.set("two", nil)
		wait(10 * time.Minute)
		if !p.Readable(time.Now()) || p.Readable(time.Now().Add(-10*time.Minute)) {
			t.Error("masters have had the time to read the proof now, and had not before")
		}
		if want := []string{"arn one PEM of one", "arn two PEM of two"}; !slices.Equal(table.written, want) {
			t.Errorf("wrote %q, want %q", table.written, want)
		}
		for i := range table.tries[1:6] {
			if apart := table.tries[i+1].Sub(table.tries[i]); apart < proofFirst || apart > proofMost {
				t.Errorf("tries %v apart", apart)
			}
		}
		if keys.made != 1 {
			t.Errorf("a key was made %d times", keys.made)
		}
		cancel()
		running.Wait()
	})
}

func TestProofNeedsItsParts(t *testing.T) {
	if _, err := NewProof(nil, nil); err == nil {
		t.Error("no writer and no ARN will do")
	}
}
