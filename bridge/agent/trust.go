package agent

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"

	"phoenix/bridge/fleet"
)

// KeysFile is a file beside minion_master.pub with the public keys that masters may
// have while their shared key is replaced, one PEM after the other. A job of the
// masters writes it and removes it ("phoenix identity rotate"); Salt does not read it.
const KeysFile = "phoenix_masters.pub"

// maxOtherKeys bounds the keys in it: the old one and the new one.
const maxOtherKeys = 8

// OtherKeys are the digests of the keys in KeysFile; none: no rotation is under way.
// The file is written in place: what is no whole key yet is left out.
func (l *Local) OtherKeys() ([]string, error) {
	keys, err := l.otherKeys()
	var digests []string
	for _, key := range keys {
		digests = append(digests, key.digest)
	}
	return digests, err
}

type otherKey struct {
	digest string
	text   []byte
}

func (l *Local) otherKeys() (keys []otherKey, err error) {
	text, err := readSmall(filepath.Join(l.minion.PKIDir, KeysFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read keys of masters: %w", err)
	}
	for len(keys) < maxOtherKeys {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		one := bytes.TrimSpace(text[:len(text)-len(rest)])
		text = rest
		if digest, err := fleet.KeyDigest(one); err == nil {
			keys = append(keys, otherKey{digest, one})
		}
	}
	return keys, nil
}

// Trust puts a key of KeysFile into minion_master.pub, which the minion reads at each
// authentication (3006.30, 3007.17, 3008.5).
func (l *Local) Trust(digest string) error {
	keys, err := l.otherKeys()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(keys, func(k otherKey) bool { return k.digest == digest })
	if i < 0 {
		return fmt.Errorf("trust master key %s: it is not in %s any more", digest, KeysFile)
	}
	path := filepath.Join(l.minion.PKIDir, "minion_master.pub")
	if err := (replacement{step: func(string) error { return nil }, what: "master key"}).do(path,
		keys[i].text); err != nil {
		return fmt.Errorf("trust master key %s: %w", digest, err)
	}
	return nil
}

// choose returns the key that all masters on the list must have. A minion trusts one at a
// time, so during a rotation its list has masters of one key: those of the masters on
// the list that serve it; else those of the master that comes first in its order, of
// all that could be on the list.
func (w *Watch) choose(o Observation) string {
	candidates := append([]string{o.Trusted}, o.Others...)
	for _, key := range candidates {
		of := o
		of.Trusted = key
		for _, row := range o.Masters {
			if row.MasterKeySHA256 == key && slices.Contains(o.Listed, row.IPAddr) && w.removal(row, of) == "" &&
				w.inferior(row, of) == "" {
				return key
			}
		}
	}
	var fit []Master
	keys := map[string]string{} // by address
	for _, row := range o.Masters {
		if m, err := NewMaster(row); err == nil && w.eligible(row, o) && !row.Draining &&
			slices.Contains(candidates, row.MasterKeySHA256) {
			fit = append(fit, m)
			keys[m.Address] = row.MasterKeySHA256
		}
	}
	if len(fit) > 0 {
		w.rank(fit, o)
		return keys[fit[0].Address]
	}
	for _, key := range candidates { // as long as one is there that may serve again
		if slices.ContainsFunc(o.Masters, func(row fleet.Master) bool {
			return row.MasterKeySHA256 == key && row.Status == fleet.Launch && slices.Contains(o.Listed, row.IPAddr)
		}) {
			return key
		}
	}
	return o.Trusted
}

// trust makes the minion trust the key of the masters on its list, where that is
// another. Where a restart is pending, the minion gets it just before: until then its
// master is one of the old key. An agent that was started in between and has not read the
// masters yet knows the key from the record of that restart.
func (a *Agent) trust() {
	key := a.last.Trust
	if a.last.Fit == nil {
		key = a.pending.Trust
	}
	if key == "" {
		return
	}
	trusted, err := a.o.Minion.TrustedKey()
	if err == nil && trusted != key {
		err = a.o.Minion.Trust(key)
	}
	a.logChange("trust", slog.LevelError, "minion does not trust the key of its masters yet", err)
	if err != nil {
		return
	}
	a.last.Trust, a.pending.Trust = "", ""
	if trusted != key {
		a.log.Log(context.Background(), slog.LevelInfo, "minion trusts another master key, of a rotation", "key", key)
	}
}
