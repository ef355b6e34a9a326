package agent

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"phoenix/bridge/salt"
)

// common holds for each minion that follows masters of a list.
const common = `tcp_keepalive: True
tcp_keepalive_idle: 30
tcp_keepalive_cnt: 3
tcp_keepalive_intvl: 10
# The list is in the order that this minion is to take it in.
random_master: False
master_shuffle: False
master_failback: False
# A minion that is denied exits otherwise.
rejected_retry: True
# Where a return reached no master, the minion's own copy is the only record.
cache_jobs: True
# A job id that comes twice is run once, for as long as it is among so many
# (100 by default). They cost some 70 bytes each.
minion_jid_queue_hwm: 10000
`

// failover makes a minion fail over: Salt's own defaults never notice a master
// whose packets vanish. With them it took 47 and 72 s to go elsewhere by itself,
// agent or no agent (3007.15, tried; 3008.3 was not done after 150 s).
const failover = `# A name that is not found sends the minion to the next master, at once.
retry_dns: 0
`

// aliveEvery is off by default (0).
const aliveEvery = `# It looks at the local TCP table only, so what ends a dead connection is the
# keep-alive below: after 30 + 3 * 10 s.
master_alive_interval: 15
`

// aliveNever: salt.modules.status.master looks for connections to publish_port
// alone, and would find none to a master with another.
const aliveNever = `# Masters have different publish ports, and the check knows but one.
master_alive_interval: 0
`

// reported is the value of publish_port that Salt takes for "none was set: take
// the one that the master reports" (3006 to 3008, AsyncPubChannel.connect).
const reported = 4506

// withPublishPort takes that value for Salt's default, where a drop-in of ours was
// read with the rest.
func withPublishPort(minion salt.MinionConfig) salt.MinionConfig {
	if minion.PublishPort == reported {
		minion.PublishPort = 4505
	}
	return minion
}

func masterType(hot bool) string {
	if hot {
		return "str"
	}
	return "failover"
}

// render returns the drop-in's text. Whatever the addresses hold, YAML reads the
// same: Go's ASCII quoting is a subset of YAML's double-quoted style. own are the
// ports that the minion's configuration says without the drop-in.
func render(l List, own Ports) ([]byte, error) {
	if len(l.masters) == 0 {
		return nil, errNoMaster
	}
	var b bytes.Buffer
	b.WriteString("# Kept by \"phoenix agent\", which writes over what is changed here.\nmaster:\n")
	for _, entry := range masterEntries(l, own) {
		if !utf8.ValidString(entry) {
			return nil, fmt.Errorf("address %q is not UTF-8", entry)
		}
		b.WriteString("  - " + strconv.QuoteToASCII(entry) + "\n")
	}
	fmt.Fprintf(&b, "master_type: %s\n", masterType(l.hot))
	ret, _ := samePort(l, own, func(p Ports) int { return p.Ret })
	publish, same := samePort(l, own, func(p Ports) int { return p.Publish })
	if ret != 0 {
		fmt.Fprintf(&b, "master_port: %d\n", ret)
	}
	switch {
	case !same:
		fmt.Fprintf(&b, "# Salt's word for: take the one that each master reports.\npublish_port: %d\n", reported)
	case publish != 0:
		fmt.Fprintf(&b, "publish_port: %d\n", publish)
	}
	if !l.hot {
		b.WriteString(failover)
		if same {
			b.WriteString(aliveEvery)
		} else {
			b.WriteString(aliveNever)
		}
	} else {
		b.WriteString(hot)
	}
	b.WriteString(common)
	return b.Bytes(), nil
}

// samePort returns the port that all masters of the list have; 0 if no row names one,
// which leaves it to the minion's own configuration.
func samePort(l List, own Ports, of func(Ports) int) (port int, same bool) {
	ports := map[int]bool{}
	said := false
	for _, m := range l.masters {
		said = said || of(m.Ports) != 0
		ports[of(m.Ports.or(own))] = true
	}
	switch {
	case !said:
		return 0, true
	case len(ports) == 1:
		return of(l.masters[0].Ports.or(own)), true
	}
	return 0, false
}

// masterEntries are the values of master: addresses, with a port where the masters'
// differ. (Salt keeps the port of one entry for the next that has none, so each
// has one then: salt.minion.prep_ip_port, 3006 to 3008.)
func masterEntries(l List, own Ports) []string {
	addresses := l.Addresses()
	if _, same := samePort(l, own, func(p Ports) int { return p.Ret }); same {
		return addresses
	}
	for i, m := range l.masters {
		addresses[i] = net.JoinHostPort(m.Address, strconv.Itoa(m.Ports.or(own).Ret))
	}
	return addresses
}

// Listed is what a drop-in says.
type Listed struct {
	Masters []Master // their addresses and ports
	Hot     bool
	// Reported: the masters have different publish ports, which the file leaves to
	// what each of them reports.
	Reported bool
}

// parse reads a drop-in. One that has another form than the agent's counts as no list.
func parse(text []byte) Listed {
	var doc struct {
		Master      []string `yaml:"master"`
		MasterType  string   `yaml:"master_type"`
		MasterPort  int      `yaml:"master_port"`
		PublishPort int      `yaml:"publish_port"`
	}
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return Listed{}
	}
	listed := Listed{Hot: doc.MasterType == "str"}
	if doc.PublishPort == reported {
		doc.PublishPort, listed.Reported = 0, true
	}
	for _, entry := range doc.Master {
		host, port := splitPort(entry)
		if host == "" {
			continue
		}
		if port == 0 {
			port = portOf(doc.MasterPort)
		}
		listed.Masters = append(listed.Masters, Master{Address: host, Ports: Ports{portOf(doc.PublishPort), port}})
	}
	if len(listed.Masters) == 0 {
		return Listed{}
	}
	return listed
}

// splitPort splits an entry of master:, as salt.utils.network.parse_host_port does.
func splitPort(entry string) (host string, port int) {
	if _, err := netip.ParseAddr(entry); err == nil || strings.Count(entry, ":") == 0 {
		return entry, 0
	}
	host, text, err := net.SplitHostPort(entry)
	if err != nil {
		return entry, 0
	}
	n, err := strconv.Atoi(text)
	if err != nil || portOf(n) == 0 {
		return entry, 0
	}
	return host, n
}

// sameMasters reports whether two lists have the same addresses, in any order.
func sameMasters(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// hot makes a minion quick to pass over a master that cannot be reached; what it
// does with one is in docs/salt.md.
const hot = `# Salt's 7 tries of 5 s are what a salt-call loses by a master that is dead. A
# minion that runs goes on trying, whatever the number.
auth_tries: 2
auth_timeout: 5
# A name that is not found must not keep the other masters waiting: they share
# the minion's loop.
retry_dns: 0
master_alive_interval: 0
`
