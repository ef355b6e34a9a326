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
)

// proofs stands for the table at its API: it refuses, then takes.
type proofs struct {
	refuse  int
	tries   []time.Time
	written []string
}

func (p *proofs) PutProof(_ context.Context, arn, digest string) error {
	p.tries = append(p.tries, time.Now())
	if p.refuse > 0 {
		p.refuse--
		return errors.New("AccessDeniedException")
	}
	p.written = append(p.written, arn+" "+digest)
	return nil
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
		var mu sync.Mutex
		key, keyErr := "", error(nil)
		own := func() (string, error) { mu.Lock(); defer mu.Unlock(); return key, keyErr }
		set := func(k string, err error) { mu.Lock(); defer mu.Unlock(); key, keyErr = k, err }
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = p.Run(ctx, own, slog.New(slog.NewTextHandler(io.Discard, nil))) })
		wait(time.Minute)
		if asked > 0 {
			t.Error("asked before the minion had a key")
		}
		set("one", nil)
		wait(10 * time.Minute)
		set("", errors.New("permission denied")) // is not the end of a key
		wait(10 * time.Minute)
		set("one", nil)
		wait(10 * time.Minute)
		set("two", nil)
		wait(10 * time.Minute)
		if want := []string{"arn one", "arn two"}; !slices.Equal(table.written, want) {
			t.Errorf("wrote %q, want %q", table.written, want)
		}
		for i := range table.tries[1:6] {
			if apart := table.tries[i+1].Sub(table.tries[i]); apart < proofFirst || apart > proofMost {
				t.Errorf("tries %v apart", apart)
			}
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
