package member

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"

	"phoenix/bridge/event"
)

var (
	// ErrUnsigned: the master does not sign what it publishes, as it does by default.
	ErrUnsigned = errors.New("the master does not sign what it publishes: the relay needs sign_pub_messages: True")
	// ErrSignature: what was published is not the master's.
	ErrSignature = errors.New("verify the signature of a job")
)

// verify looks whether the master has signed a publish: with its own key, over the
// encrypted load (PubServerChannel.wrap_payload, alike in 3006.30, 3007.17 and 3008.5).
// The encryption alone says little: each minion holds that key.
func verify(master *rsa.PublicKey, outer map[string][]byte) error {
	load, sig := event.Bytes(outer["load"]), event.Bytes(outer["sig"])
	if len(sig) == 0 {
		return ErrUnsigned
	}
	var hash crypto.Hash
	var sum []byte
	// These are all that publish_signing_algorithm can be.
	switch algo := string(event.Bytes(outer["sig_algo"])); algo {
	case "PKCS1v15-SHA1":
		s := sha1.Sum(load)
		hash, sum = crypto.SHA1, s[:]
	case "PKCS1v15-SHA224":
		s := sha256.Sum224(load)
		hash, sum = crypto.SHA224, s[:]
	default:
		return fmt.Errorf("%w: algorithm %.40q", ErrSignature, algo)
	}
	if err := rsa.VerifyPKCS1v15(master, hash, sum, sig); err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return nil
}
