package autoscaling

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// The kernel's table of TCP connections, the states in it that matter
// (include/net/tcp_states.h), and the open files of this process.
const (
	tcpTables   = "/proc/net"
	ownFiles    = "/proc/self/fd"
	established = "01"
	listening   = "0A"
)

// Connected counts the minions that are connected to a master: each holds one connection
// to its publish port, for as long as it follows it. It is an error if nothing listens
// there: then the master runs elsewhere, or not. Of several masters on one machine the
// interface, as in Salt's configuration, identifies the right one. Connections of this
// process itself are those of no minion.
func Connected(address string, port int) func() (minions int, err error) {
	return func() (int, error) { return connections(tcpTables, address, port, true) }
}

// Left is Connected without the minion of the master's own host, which comes from the
// address that it goes to: it ends with the master, and has nowhere to go.
func Left(address string, port int) func() (minions int, err error) {
	return func() (int, error) { return connections(tcpTables, address, port, false) }
}

func connections(dir, address string, port int, own bool) (minions int, err error) {
	at, err := netip.ParseAddr(address)
	if err != nil || at.IsUnspecified() {
		at = netip.Addr{} // a name, or all addresses
	}
	t := table{at: at.Unmap(), port: port, ours: ownSockets(), from: map[netip.AddrPort]bool{}}
	for _, name := range []string{"tcp", "tcp6"} {
		err := t.read(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // a kernel without IPv6 has no tcp6
		}
		if err != nil {
			return 0, fmt.Errorf("count connections: %w", err)
		}
	}
	if !t.listens {
		return 0, fmt.Errorf("count connections: nothing listens on port %d here", port)
	}
	for _, c := range t.to {
		if !t.from[c.remote] && (own || c.remote.Addr() != c.local.Addr()) {
			minions++
		}
	}
	return minions, nil
}

// ownSockets returns the sockets of this process, by their inodes as the tables have
// them: with relay.listen the bridge itself reads what its master publishes.
func ownSockets() map[string]bool {
	entries, _ := os.ReadDir(ownFiles) // else one connection more is counted
	inodes := map[string]bool{}
	for _, e := range entries {
		name, err := os.Readlink(filepath.Join(ownFiles, e.Name()))
		inode, is := strings.CutPrefix(name, "socket:[")
		if err == nil && is {
			inodes[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return inodes
}

// table is what the kernel's tables say about one port. The zero address stands for all.
type table struct {
	at   netip.Addr
	port int
	ours map[string]bool

	listens bool
	to      []connection            // to the port
	from    map[netip.AddrPort]bool // the other ends of this process's own ones
}

type connection struct{ local, remote netip.AddrPort }

// read reads one table: a line of titles, and one for each socket.
func (t *table) read(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || fields[0] == "sl" {
			continue
		}
		local, err := socket(fields[1])
		if err != nil {
			return err
		}
		if len(fields) > 9 && t.ours[fields[9]] {
			t.from[local] = true
		}
		if int(local.Port()) != t.port || t.at.IsValid() && local.Addr() != t.at {
			continue
		}
		switch fields[3] {
		case listening:
			t.listens = true
		case established:
			remote, err := socket(fields[2])
			if err != nil {
				return err
			}
			t.to = append(t.to, connection{local, remote})
		}
	}
	return lines.Err()
}

// socket reads ADDRESS:PORT, in hexadecimal digits; an address is one or four words of
// 32 bits in the machine's own order.
func socket(text string) (netip.AddrPort, error) {
	address, port, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(address)
	n, errPort := strconv.ParseUint(port, 16, 16)
	if err != nil || errPort != nil || len(raw) != 4 && len(raw) != 16 {
		return netip.AddrPort{}, fmt.Errorf("%.60q is no socket's address", text)
	}
	for i := 0; i < len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	ip, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(ip.Unmap(), uint16(n)), nil
}
