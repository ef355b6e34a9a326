package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/retry"
)

const (
	// keyEvery: how often the agent reads the minion's key, in case that the minion has
	// made one, or another. It is a read of a small file, and at the first boot masters
	// wait for the proof.
	keyEvery = 2 * time.Second
	// proofWithin bounds one write.
	proofWithin = 10 * time.Second
	// proofFirst and proofMost bound the pauses after a write that did not work.
	proofFirst = time.Second
	proofMost  = 2 * time.Minute
	// proofBefore is how long the first start of a minion waits for its proof. Without
	// the proof the minion asks for the first time in vain, and again after
	// acceptance_wait_time (10 s by default): a longer wait gains nothing.
	proofBefore = 10 * time.Second
	// proofLead is how long before that start the proof is written: masters read the proofs
	// of new instances every 2 s.
	proofLead = 2 * time.Second
)

// ProofWriter remembers which key an instance says is its own.
type ProofWriter interface {
	PutProof(ctx context.Context, instanceARN string, p fleet.Proof) error
}

// KeyPair is the minion's own.
type KeyPair interface {
	// MakeKey makes the pair of a minion that has never run, and reports whether it did.
	MakeKey() (made bool, err error)
	// OwnKey returns the public key; the zero Proof while there is none.
	OwnKey() (fleet.Proof, error)
}

// Proof is the instance's own word on the minion's key. IAM lets an instance write
// under its own ARN only, so a master that finds the key there knows that it is this
// instance's.
type Proof struct {
	Writer ProofWriter
	// ARN returns the instance's; it is asked until it does.
	ARN func(ctx context.Context) (string, error)

	written atomic.Int64 // when the proof of the current key was, in Unix nanoseconds; 0: it was not
}

// NewProof checks the parts.
func NewProof(w ProofWriter, arn func(ctx context.Context) (string, error)) (*Proof, error) {
	if w == nil || arn == nil {
		return nil, errors.New("proof needs a writer and an ARN")
	}
	return &Proof{Writer: w, ARN: arn}, nil
}

// Readable reports whether masters have had the time to read the proof of the current
// key.
func (p *Proof) Readable(now time.Time) bool {
	at := p.written.Load()
	return at != 0 && now.Sub(time.Unix(0, at)) >= proofLead
}

// Run makes the key of a minion that has never run, and writes the proof of each key
// that the minion has, once, until ctx ends.
func (p *Proof) Run(ctx context.Context, keys KeyPair, log *slog.Logger) error {
	made, err := keys.MakeKey()
	if err != nil { // the minion makes one at its start
		log.Warn("key of the minion is not made before its first start", "err", err)
	} else if made {
		log.Info("key of the minion made before its first start")
	}
	var written fleet.Proof
	logged := ""
	failures := 0
	for {
		wait := keyEvery
		key, err := keys.OwnKey()
		if err == nil && key.KeySHA256 != "" && key != written {
			p.written.Store(0)
			if err = p.write(ctx, key); err == nil {
				written, failures = key, 0
				p.written.Store(time.Now().UnixNano())
				log.Info("proof of the minion's key written", "key", key.KeySHA256)
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			failures++
			wait = retry.Jitter(retry.Backoff{First: proofFirst, Most: proofMost}.After(failures))
			if err.Error() != logged {
				logged = err.Error()
				log.Warn("proof of the minion's key is not written", "err", err)
			}
		} else {
			logged = ""
		}
		if !retry.Sleep(ctx, wait) {
			return nil
		}
	}
}

func (p *Proof) write(ctx context.Context, key fleet.Proof) error {
	ctx, cancel := context.WithTimeout(ctx, proofWithin)
	defer cancel()
	arn, err := p.ARN(ctx)
	if err != nil {
		return fmt.Errorf("find instance's ARN: %w", err)
	}
	return p.Writer.PutProof(ctx, arn, key)
}
