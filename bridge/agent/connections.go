package agent

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
	"slices"
	"strconv"
	"strings"
)

// established is how the kernel numbers that state of a TCP connection
// (include/net/tcp_states.h).
const established = "01"

// connection is one line of /proc/net/tcp.
type connection struct {
	remote netip.AddrPort
	inode  string
}

// connections reads a table as /proc/net/tcp and tcp6 have it: connections that
// are established.
func connections(r io.Reader) ([]connection, error) {
	var found []connection
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		// sl local_address rem_address st tx:rx tr:tm->when retrnsmt uid timeout inode
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[3] != established {
			continue
		}
		remote, err := kernelAddr(fields[2])
		if err != nil {
			return nil, fmt.Errorf("line %q: %w", lines.Text(), err)
		}
		found = append(found, connection{remote, fields[9]})
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

// publishers returns the addresses that the minion of that process is connected to on one
// of these ports. If the process is not known, or may not be read, the connections of the
// whole machine count: there is seldom another minion.
func publishers(proc string, pid int, ports []int) ([]netip.Addr, error) {
	own, known := sockets(proc, pid)
	dir := filepath.Join(proc, "net")
	if pid > 0 {
		if ofMinion := filepath.Join(proc, strconv.Itoa(pid), "net"); exists(ofMinion) {
			dir = ofMinion // its network namespace may be another than ours
		}
	}
	var found []netip.Addr
	for _, name := range []string{"tcp", "tcp6"} {
		f, err := os.Open(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) && name == "tcp6" {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, fmt.Errorf("read connections: %w", err)
		}
		table, err := connections(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("read connections: %s: %w", name, err)
		}
		for _, c := range table {
			if slices.Contains(ports, int(c.remote.Port())) && (!known || own[c.inode]) &&
				!slices.Contains(found, c.remote.Addr()) {
				found = append(found, c.remote.Addr())
			}
		}
	}
	return found, nil
}

// sockets returns the inodes of a process's sockets.
func sockets(proc string, pid int) (inodes map[string]bool, known bool) {
	if pid <= 0 {
		return nil, false
	}
	dir := filepath.Join(proc, strconv.Itoa(pid), "fd")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, false
	}
	inodes = map[string]bool{}
	for _, entry := range entries {
		target, err := os.Readlink(filepath.Join(dir, entry.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			inodes[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return inodes, true
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
