package agent

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"phoenix/bridge/fleet"
)

// Master is one entry of a list: where a minion reaches a master.
type Master struct {
	InstanceID string // empty for an address that no row names
	Address    string
	Ports      Ports
	Zone       string // empty: not known
}

// Ports are those of a master; 0: as the minion's own configuration says.
type Ports struct{ Publish, Ret int }

// or fills in what is not known.
func (p Ports) or(own Ports) Ports {
	return Ports{cmp.Or(p.Publish, own.Publish), cmp.Or(p.Ret, own.Ret)}
}

// portOf takes what is no port for one that is not known.
func portOf(n int) int {
	if n < 1 || n > 65535 {
		return 0
	}
	return n
}

// hostName is what Salt takes for one (salt.utils.network.sanitize_host), and no
// colon, which it would take for a port.
var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9])?$`)

// NewMaster makes an entry from a master's row, if its address is one that a minion can
// use. (The Phoenix of 2015 wrote "no-ip-yet" into new rows, which has the form of a host
// name.)
func NewMaster(row fleet.Master) (Master, error) {
	m := Master{InstanceID: row.InstanceID, Address: row.IPAddr, Zone: row.Zone,
		Ports: Ports{Publish: portOf(row.PublishPort), Ret: portOf(row.RetPort)}}
	if addr, err := netip.ParseAddr(row.IPAddr); err == nil {
		if addr.IsUnspecified() || addr.Zone() != "" {
			return Master{}, fmt.Errorf("master %s: %s is no address for others", row.InstanceID, row.IPAddr)
		}
		return m, nil
	}
	if !hostName.MatchString(row.IPAddr) || row.IPAddr == "no-ip-yet" {
		return Master{}, fmt.Errorf("master %s: %.64q is no address", row.InstanceID, row.IPAddr)
	}
	return m, nil
}

// List is the masters that a minion may use, the preferred one first. NewList makes lists
// of at least one master; the zero List cannot be written.
type List struct {
	masters []Master
	hot     bool // the minion is connected to all of them at once
}

// Hot is the list of a minion that follows all of its masters at once.
func (l List) Hot() List {
	l.hot = true
	return l
}

// errNoMaster is returned for the zero List.
var errNoMaster = errors.New("a list of no masters")

// NewList keeps the first entry of each address.
func NewList(first Master, rest ...Master) List {
	l := List{masters: []Master{first}}
	for _, m := range rest {
		if !slices.ContainsFunc(l.masters, func(o Master) bool { return o.Address == m.Address }) {
			l.masters = append(l.masters, m)
		}
	}
	return l
}

// Addresses are those of the masters, in order.
func (l List) Addresses() []string { return addressesOf(l.masters) }

func addressesOf(masters []Master) []string {
	addresses := make([]string, len(masters))
	for i, m := range masters {
		addresses[i] = m.Address
	}
	return addresses
}

func (l List) String() string { return strings.Join(l.Addresses(), ", ") }

// Order says which master a minion prefers.
type Order string

const (
	// Spread gives each minion an order of its own, by rendezvous hashing: masters
	// share the minions, one that leaves sets only its own minions moving, and one
	// that joins takes only its share.
	Spread Order = "spread"
	// Sorted gives all minions the order of the addresses, so that all are on one
	// master while it lives.
	Sorted Order = "sorted"
)

// Orders are those that there are.
func Orders() []Order { return []Order{Spread, Sorted} }

// sort puts masters into the order for that minion.
func (o Order) sort(minion string, masters []Master) {
	slices.SortFunc(masters, func(a, b Master) int {
		if o == Sorted {
			return compareAddresses(a.Address, b.Address)
		}
		return cmp.Or(cmp.Compare(weight(minion, b), weight(minion, a)), cmp.Compare(a.Address, b.Address))
	})
}

// weight is the same on each host, of whatever build.
func weight(minion string, m Master) string {
	sum := sha256.Sum256([]byte(minion + "\x00" + cmp.Or(m.InstanceID, m.Address)))
	return string(sum[:])
}

// compareAddresses orders 10.0.0.9 before 10.0.0.10, and names after addresses.
func compareAddresses(a, b string) int {
	x, errX := netip.ParseAddr(a)
	y, errY := netip.ParseAddr(b)
	switch {
	case errX == nil && errY == nil:
		return x.Compare(y)
	case errX == nil:
		return -1
	case errY == nil:
		return 1
	}
	return cmp.Compare(a, b)
}
