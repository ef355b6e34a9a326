package fleet

// Proof is an instance's own statement about its minion's key, written under the
// instance's ARN (table proofs). The zero Proof says that there is none.
type Proof struct {
	KeySHA256 string // see KeyDigest
	PublicKey string // PEM, byte for byte as the minion sends it; empty: an older agent wrote the proof
}

// Key returns the public key of the proof. It reports false if the proof has none,
// or one that is not the key of its digest.
func (p Proof) Key() (text []byte, ok bool) {
	if p.PublicKey == "" || p.KeySHA256 == "" {
		return nil, false
	}
	digest, err := KeyDigest([]byte(p.PublicKey))
	return []byte(p.PublicKey), err == nil && digest == p.KeySHA256
}
