package salt

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"phoenix/bridge/event"
	"phoenix/bridge/files"
)

var (
	// ErrGrainsCache is returned for a master that keeps no grains in files.
	ErrGrainsCache = errors.New("the master keeps no grains in files (minion_data_cache: True, cache: localfs)")
	// ErrNoGrains is returned when a master has no grains of a minion.
	ErrNoGrains = errors.New("the master has no grains of it")
)

// maxGrains bounds one file of the cache: grains take some 20 KB, and 3006 and 3007
// keep the pillar beside them.
const maxGrains = 16 << 20

// GrainsCache is what a master remembers of its minions' grains. They are what each
// minion says of itself.
type GrainsCache struct{ dir string }

// OpenGrains returns the cache of the master so configured.
func OpenGrains(c Config) (*GrainsCache, error) {
	if !c.MinionDataCache || c.CacheDriver != "localfs" {
		return nil, fmt.Errorf("open cache of grains: %w", ErrGrainsCache)
	}
	return &GrainsCache{dir: c.CacheDir}, nil
}

// Read returns the grains of one minion. 3008 keeps them in grains/ID.p; 3006 and 3007
// in minions/ID/data.p, with the pillar, which is not decoded. A master that was
// brought up to 3008 has both, and the old file is out of date.
func (g *GrainsCache) Read(id string) (Grains, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	raw, err := readBounded(filepath.Join(g.dir, "grains"), id+".p", maxGrains)
	if errors.Is(err, fs.ErrNotExist) {
		raw, err = readBounded(filepath.Join(g.dir, "minions", id), "data.p", maxGrains)
		if err == nil {
			raw, err = event.Field(raw, "grains")
		}
	}
	var value any
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && raw == nil:
		err = ErrNoGrains
	case err == nil:
		value, err = event.Any(raw)
	}
	if err != nil {
		return nil, fmt.Errorf("read grains of %s: %w", id, hint(err))
	}
	grains, ok := value.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("read grains of %s: they are no map", id)
	}
	return grains, nil
}

func readBounded(dir, name string, most int64) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := openKey(root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return files.ReadAll(f, most)
}

// Grains are what a minion says of itself.
type Grains map[string]any

// Match reports whether grains match an expression of Salt's -G: role:web, os:*BSD,
// ec2:tags:Name:web*. A list matches if one of its values does. What Salt also takes
// and this does not is * in the place of a key.
func (g Grains) Match(expression string) bool {
	parts := strings.Split(expression, ":")
	for i := 1; i < len(parts); i++ {
		if v, ok := traverse(map[string]any(g), parts[:i]); ok && matches(v, strings.Join(parts[i:], ":")) {
			return true
		}
	}
	return false
}

// traverse follows keys, and the numbers of lists.
func traverse(v any, keys []string) (any, bool) {
	for i, key := range keys {
		switch at := v.(type) {
		case map[string]any:
			var ok bool
			if v, ok = at[key]; !ok {
				return nil, false
			}
		case []any:
			if n, err := strconv.Atoi(key); err == nil && n >= 0 && n < len(at) {
				v = at[n]
				continue
			}
			for _, element := range at { // maps in a list
				if _, isMap := element.(map[string]any); isMap {
					if found, ok := traverse(element, keys[i:]); ok {
						return found, true
					}
				}
			}
			return nil, false
		default:
			return nil, false
		}
	}
	return v, true
}

func matches(v any, pattern string) bool {
	switch v := v.(type) {
	case map[string]any:
		_, ok := v[pattern]
		return ok || pattern == "*"
	case []any:
		return slices.ContainsFunc(v, func(element any) bool { return matches(element, pattern) })
	case nil:
		return matches("None", pattern)
	}
	return event.Glob(strings.ToLower(pattern))([]byte(strings.ToLower(fmt.Sprint(v))))
}

// virtual are interfaces that nobody reaches a machine by.
var virtual = regexp.MustCompile(`^(lo|docker|br-|veth|virbr|cni|cali|flannel|cilium|tun|tap)`)

// Address is where others reach a minion: what its own full name resolves to, else
// the first address of an interface that is one.
func (g Grains) Address() (string, bool) {
	candidates := texts(g["fqdn_ip4"])
	if interfaces, ok := g["ip4_interfaces"].(map[string]any); ok {
		for _, name := range slices.Sorted(maps.Keys(interfaces)) {
			if !virtual.MatchString(name) {
				candidates = append(candidates, texts(interfaces[name])...)
			}
		}
	}
	candidates = append(append(candidates, texts(g["ipv4"])...), texts(g["ipv6"])...)
	for _, text := range candidates {
		if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" && addr.IsGlobalUnicast() {
			return addr.String(), true
		}
	}
	return "", false
}

// hostName is what is safe to hand on, whatever a minion says its name is.
var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)

// Host is the value of one grain, if it is an address or the name of a host.
func (g Grains) Host(grain string) (string, bool) {
	v, _ := traverse(map[string]any(g), strings.Split(grain, ":"))
	for _, text := range texts(v) {
		if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
			return addr.String(), true
		}
		if hostName.MatchString(text) {
			return text, true
		}
	}
	return "", false
}
