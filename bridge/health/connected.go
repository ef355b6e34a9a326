package health

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// established is how the kernel numbers that state of a TCP connection
// (include/net/tcp_states.h).
const established = "01"

// Connected counts from how many addresses minions are connected to this master's
// publish port. Several minions behind one address count as one: it tells whether
// anybody is left. A connection of this process's own does not count, and one whose
// peer vanished without a word does, until keep-alive ends it.
func Connected(port int) (int, error) { return connected("/proc", port) }

func connected(proc string, port int) (int, error) {
	var table []connection
	for _, name := range []string{"tcp", "tcp6"} {
		f, err := os.Open(filepath.Join(proc, "net", name))
		if errors.Is(err, fs.ErrNotExist) && name == "tcp6" {
			continue // a kernel without IPv6
		}
		if err != nil {
			return 0, fmt.Errorf("read connections: %w", err)
		}
		found, err := readConnections(f)
		f.Close()
		if err != nil {
			return 0, fmt.Errorf("read connections: %s: %w", name, err)
		}
		table = append(table, found...)
	}
	ours := ownSockets(proc)
	own := map[netip.AddrPort]bool{} // this process's ends of connections to the port
	for _, c := range table {
		if int(c.remote.Port()) == port && ours[c.inode] {
			own[c.local] = true
		}
	}
	peers := map[netip.Addr]bool{}
	for _, c := range table {
		if int(c.local.Port()) == port && !own[c.remote] {
			peers[c.remote.Addr()] = true
		}
	}
	return len(peers), nil
}

// connection is one line of /proc/net/tcp.
type connection struct {
	local, remote netip.AddrPort
	inode         string
}

// readConnections reads a table as /proc/net/tcp and tcp6 have it: connections
// that are established.
func readConnections(r io.Reader) (found []connection, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		// sl local_address rem_address st tx:rx tr:tm->when retrnsmt uid timeout inode
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[3] != established {
			continue
		}
		local, err := kernelAddr(fields[1])
		if err != nil {
			return nil, fmt.Errorf("line %q: %w", lines.Text(), err)
		}
		remote, err := kernelAddr(fields[2])
		if err != nil {
			return nil, fmt.Errorf("line %q: %w", lines.Text(), err)
		}
		found = append(found, connection{local, remote, fields[9]})
	}
	return found, lines.Err()
}

// kernelAddr reads 0100007F:1199: words of four bytes in the host's order, then
// the port.
func kernelAddr(text string) (netip.AddrPort, error) {
	host, port, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for i := 0; i+4 <= len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	addr, ok := netip.AddrFromSlice(raw)
	if !ok {
		return netip.AddrPort{}, errors.New("no address")
	}
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(n)), nil
}

// ownSockets are the inodes of this process's sockets; what cannot be read is
// left out.
func ownSockets(proc string) map[string]bool {
	inodes := map[string]bool{}
	dir := filepath.Join(proc, "self", "fd")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return inodes
	}
	for _, entry := range entries {
		target, err := os.Readlink(filepath.Join(dir, entry.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			inodes[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return inodes
}
