package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"
)

const (
	// keyEvery: how often the agent looks whether the minion has made its key, or
	// another. It is a read of a small file, and at the first boot masters wait
	// for the proof.
	keyEvery = 2 * time.Second
	// proofWithin bounds one write.
	proofWithin = 10 * time.Second
	// proofFirst and proofMost bound the pauses after a write that did not work.
	proofFirst = time.Second
	proofMost  = 2 * time.Minute
)

// ProofWriter remembers which key an instance says is its own.
type ProofWriter interface {
	PutProof(ctx context.Context, instanceARN, keySHA256 string) error
}

// Proof is the instance's own word on the minion's key. IAM lets an instance
// write under its own ARN only, so a master that finds the digest there knows
// that the key is this instance's.
type Proof struct {
	Writer ProofWriter
	// ARN gives the instance's; it is asked until it does.
	ARN func(ctx context.Context) (string, error)
}

// NewProof checks the parts.
func NewProof(w ProofWriter, arn func(ctx context.Context) (string, error)) (*Proof, error) {
	if w == nil || arn == nil {
		return nil, errors.New("proof needs a writer and an ARN")
	}
	return &Proof{w, arn}, nil
}

// Run writes the digest of each key that own gives, once, until ctx ends.
func (p *Proof) Run(ctx context.Context, own func() (string, error), log *slog.Logger) error {
	written, told := "", ""
	failures := 0
	for {
		wait := keyEvery
		digest, err := own()
		if err == nil && digest != "" && digest != written {
			if err = p.write(ctx, digest); err == nil {
				written, failures = digest, 0
				log.Info("proof of the minion's key written", "key", digest)
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			wait = min(proofFirst<<min(failures, 7), proofMost)
			wait = wait/2 + rand.N(wait/2+1) // agents that were refused together come apart
			failures++
			if err.Error() != told {
				told = err.Error()
				log.Warn("proof of the minion's key is not written", "err", err)
			}
		} else {
			told = ""
		}
		if !sleep(ctx, wait) {
			return nil
		}
	}
}

func (p *Proof) write(ctx context.Context, digest string) error {
	ctx, cancel := context.WithTimeout(ctx, proofWithin)
	defer cancel()
	arn, err := p.ARN(ctx)
	if err != nil {
		return fmt.Errorf("find instance's ARN: %w", err)
	}
	return p.Writer.PutProof(ctx, arn, digest)
}
