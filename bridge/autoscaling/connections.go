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

// The kernel's table of TCP connections, and the states in it that matter
// (include/net/tcp_states.h).
const (
	tcpTables   = "/proc/net"
	established = "01"
	listening   = "0A"
)

// Connected counts the minions that are connected to a master: each holds one connection
// to its publish port, for as long as it follows it. It is an error if nothing listens
// there: then the master runs elsewhere, or not. Of several masters on one machine the
// interface, as in Salt's configuration, identifies the right one.
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
	served := false
	for _, name := range []string{"tcp", "tcp6"} {
		n, listens, err := count(filepath.Join(dir, name), at.Unmap(), port, own)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a kernel without IPv6 has no tcp6
		}
		if err != nil {
			return 0, fmt.Errorf("count connections: %w", err)
		}
		minions, served = minions+n, served || listens
	}
	if !served {
		return 0, fmt.Errorf("count connections: nothing listens on port %d here", port)
	}
	return minions, nil
}

// count reads one table: a line of titles, and one for each socket. The zero address
// stands for all; own is whether minions of the same host count.
func count(name string, at netip.Addr, port int, own bool) (minions int, listens bool, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, false, err
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
			return 0, false, err
		}
		if int(local.Port()) != port || at.IsValid() && local.Addr() != at {
			continue
		}
		switch fields[3] {
		case listening:
			listens = true
		case established:
			remote, err := socket(fields[2])
			if err != nil {
				return 0, false, err
			}
			if own || remote.Addr() != local.Addr() {
				minions++
			}
		}
	}
	return minions, listens, lines.Err()
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
