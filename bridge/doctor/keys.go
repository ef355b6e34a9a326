package doctor

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"phoenix/bridge/plural"
	"phoenix/bridge/salt"
)

// keyFacts are the keys of a master, sorted by what may be wrong with them.
type keyFacts struct {
	byState  map[salt.State][]Key
	byDigest map[string][]Key
	byID     map[string][]Key
	byFold   map[string][]string // ids that are the same but for case
	broken   []Key               // no RSA public key
	odd      []Key               // links, folders, empty files, names that are no ids
	outside  []string            // do not match id_pattern
}

func (m Master) keyFacts() keyFacts {
	f := keyFacts{byState: map[salt.State][]Key{}, byDigest: map[string][]Key{}, byID: map[string][]Key{},
		byFold: map[string][]string{}}
	for _, k := range m.Keys {
		if k.State == "" {
			f.odd = append(f.odd, k)
			continue
		}
		if !m.ValidID(k.ID) && len(f.byID[k.ID]) == 0 {
			f.outside = append(f.outside, k.ID)
		}
		f.byState[k.State], f.byID[k.ID] = append(f.byState[k.State], k), append(f.byID[k.ID], k)
		if fold := strings.ToLower(k.ID); !slices.Contains(f.byFold[fold], k.ID) {
			f.byFold[fold] = append(f.byFold[fold], k.ID)
		}
		switch {
		case k.State != salt.Accepted && k.State != salt.Pending:
		case k.Empty:
			f.odd = append(f.odd, k)
		case k.Fault != nil:
			f.broken = append(f.broken, k)
		case k.Digest != "" && !slices.ContainsFunc(f.byDigest[k.Digest], func(o Key) bool { return o.ID == k.ID }):
			f.byDigest[k.Digest] = append(f.byDigest[k.Digest], k)
		}
	}
	return f
}

// hidden are the pending and rejected keys of ids whose accepted key 3008 does not see.
func (f keyFacts) hidden() (keys []Key) {
	for _, of := range f.byID {
		if len(of) > 1 && slices.ContainsFunc(of, func(k Key) bool { return k.State == salt.Accepted }) {
			for _, k := range of {
				if k.State == salt.Pending || k.State == salt.Rejected {
					keys = append(keys, k)
				}
			}
		}
	}
	return keys
}

func examineKeys(r *report, m Master) {
	f := m.keyFacts()
	r.ok("key-store", "%d accepted, %d pending, %d rejected, %d denied, in %s", len(f.byState[salt.Accepted]),
		len(f.byState[salt.Pending]),
		len(f.byState[salt.Rejected]), len(f.byState[salt.Denied]), quote(m.Config.PKIDir))
	if m.KeysLeft > 0 {
		r.add(Note, "key-store", Fix{}, "%s more were not read", plural.Of(m.KeysLeft, "key"))
	}
	shared := 0
	for _, digest := range slices.Sorted(maps.Keys(f.byDigest)) {
		if keys := f.byDigest[digest]; len(keys) > 1 {
			shared++
			r.add(Error, "shared-key", m.deleteKeys(keys).then("after each of these machines has removed /etc/salt/pki/minion/minion.pem and minion.pub "+
				"and restarted salt-minion, and the image is made without them"), "%d ids have one key (%.12s…): %s",
				len(keys), digest, some(idsOf(keys)))
		}
	}
	if shared == 0 {
		r.ok("shared-key", "each id has a key of its own")
	}
	list := func(severity Severity, check string, fix func([]Key) Fix, keys []Key, what, none string) {
		if len(keys) == 0 {
			r.ok(check, "%s", none)
			return
		}
		slices.SortFunc(keys, func(a, b Key) int { return strings.Compare(a.ID, b.ID) })
		r.add(severity, check, fix(keys), "%s: %s", strings.Replace(what, "#", plural.Of(len(keys), "key"), 1),
			some(idsOf(keys)))
	}
	list(Warning, "key-not-rsa", func(k []Key) Fix {
		return m.deleteKeys(k).then("then, on that machine: " + restartMinion)
	}, f.broken, "# that Phoenix cannot take (no RSA public key, or not readable)", "all keys are RSA public keys")
	list(Warning, "odd-keys", m.removeOdd, f.odd, "# that are links, folders, empty, or named as no minion is",
		"all entries of the key store are keys of ids")
	if len(f.outside) > 0 {
		slices.Sort(f.outside)
		r.add(Note, "id-pattern", say("set id_pattern in /etc/phoenix/phoenix.yaml, if these are to be of the fleet"),
			"%s that do not match %s: %s",
			plural.Of(len(f.outside), "id"), m.IDPattern, some(f.outside))
	} else {
		r.ok("id-pattern", "all ids match %s", m.IDPattern)
	}
	alike := 0
	for _, fold := range slices.Sorted(maps.Keys(f.byFold)) {
		if ids := f.byFold[fold]; len(ids) > 1 {
			alike++
			slices.Sort(ids)
			r.add(Warning, "id-case", say("find out which one the machine has (salt-call grains.get id), and for the other: phoenix keys delete"),
				"ids that differ in case alone: %s", some(ids))
		}
	}
	if alike == 0 {
		r.ok("id-case", "no ids differ in case alone")
	}
	list(Warning, "hidden-key", func(k []Key) Fix { return m.deleteKeys(k).then("if the accepted key is the right one") }, f.hidden(),
		"# beside an accepted one of the same id", "no accepted key is hidden by another")
	list(Note, "rejected-keys", func(k []Key) Fix { return m.deleteKeys(k).then("if they are to be let in after all") },
		f.byState[salt.Rejected], "# rejected", "no key is rejected")
	examineDenied(r, m, f)
}

// examineDenied names the denied keys with both digests.
func examineDenied(r *report, m Master, f keyFacts) {
	denied := f.byState[salt.Denied]
	if len(denied) == 0 {
		r.ok("denied-keys", "no key is denied")
		return
	}
	slices.SortFunc(denied, func(a, b Key) int { return strings.Compare(a.ID, b.ID) })
	var lines []string
	for _, k := range denied[:min(len(denied), shown)] {
		known := "none"
		for _, other := range f.byID[k.ID] {
			if other.State == salt.Accepted && other.Digest != "" {
				known = fmt.Sprintf("%.12s…", other.Digest)
			}
		}
		lines = append(lines, fmt.Sprintf("%s (denied %.12s…, accepted %s)", quote(k.ID), k.Digest, known))
	}
	if more := len(denied) - shown; more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	r.add(Warning, "denied-keys", m.decideOn(denied), "%s denied: %s", plural.Of(len(denied), "key"),
		strings.Join(lines, ", "))
}

// decideOn names the commands for denied keys, in words: whoever deletes the key of a
// machine that was rebuilt deletes what is to be accepted, so a person must look first.
func (m Master) decideOn(denied []Key) Fix {
	id, remove := "ID", m.deleteKeys(denied)
	if one, ok := word(denied[0].ID); ok && len(denied) == 1 {
		id = one
	}
	if len(remove.commands) == 0 { // ids that cannot be typed
		return remove
	}
	return say("look first: " + m.phoenix() + " minions explain " + id + "; if the machine was rebuilt: " +
		m.phoenix() + " keys accept --rebind " + id +
		"; if no machine is to have that key: " + strings.Join(remove.commands, "; "))
}

func idsOf(keys []Key) []string {
	ids := make([]string, len(keys))
	for i, k := range keys {
		ids[i] = k.ID
	}
	return ids
}

// removeOdd removes entries of the key store that are no keys, each by its path. A
// folder goes only if it is empty. Nothing of them was ever served to a minion.
func (m Master) removeOdd(keys []Key) Fix {
	var paths []string
	for _, k := range keys {
		if k.State != "" {
			paths = append(paths, filepath.Join(m.Config.PKIDir, string(k.State), k.ID))
		}
		for _, path := range k.Paths {
			paths = append(paths, strings.TrimSuffix(path, "/"))
		}
	}
	if len(paths) == 0 {
		return say("ls -lb " + quote(m.Config.PKIDir))
	}
	return remove("rm -d", paths)
}
