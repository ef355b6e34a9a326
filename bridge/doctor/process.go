package doctor

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"iter"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"phoenix/bridge/files"
)

// host is where processes and sockets are looked up: /proc.
type host struct{ proc string }

const (
	// listening is how the kernel numbers that state of a TCP socket
	// (include/net/tcp_states.h).
	listening = "0A"
	// acceptsConnections is the flag of a Unix socket that listens
	// (__SO_ACCEPTCON in /proc/net/unix).
	acceptsConnections = "00010000"
	// maxPIDFile, maxCommand bound what is read of a process.
	maxPIDFile = 64
	maxCommand = 16 << 10
)

// pid returns the process that a pidfile names, if it runs a program of that name;
// 0 if not. Salt leaves the file behind when it is killed.
func (h host) pid(file, program string) int {
	text, err := files.Head(file, maxPIDFile)
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || n <= 0 {
		return 0
	}
	for _, word := range h.command(n) {
		if strings.Contains(filepath.Base(word), program) {
			return n
		}
	}
	return 0
}

// command is a process's command line.
func (h host) command(pid int) []string {
	text, err := files.Head(filepath.Join(h.proc, strconv.Itoa(pid), "cmdline"), maxCommand)
	if err != nil {
		return nil
	}
	// setproctitle, which Salt uses, writes one text over it.
	return strings.FieldsFunc(string(text), func(r rune) bool { return r == 0 || r == ' ' })
}

// maxProcesses bounds how many processes are examined.
const maxProcesses = 100_000

// processes are the command lines of all processes.
func (h host) processes() iter.Seq2[int, []string] {
	return func(yield func(int, []string) bool) {
		folder, err := os.Open(h.proc)
		if err != nil {
			return
		}
		defer folder.Close()
		entries, _ := folder.Readdirnames(maxProcesses)
		for _, name := range entries {
			if pid, err := strconv.Atoi(name); err == nil && !yield(pid, h.command(pid)) {
				return
			}
		}
	}
}

// homes are where packages put Salt.
var homes = []string{"/opt/saltstack/salt", "/usr", "/usr/local"}

// version returns Salt's version without starting Python: from the name under which
// the package is installed beside the interpreter that runs it.
func (h host) version(pid int) string {
	prefixes := []string{}
	for _, word := range h.command(pid) {
		if !filepath.IsAbs(word) {
			continue
		}
		prefixes = append(prefixes, filepath.Dir(filepath.Dir(word)))
		if real, err := filepath.EvalSymlinks(word); err == nil {
			prefixes = append(prefixes, filepath.Dir(filepath.Dir(real)), filepath.Dir(real))
		}
	}
	for _, prefix := range append(prefixes, homes...) {
		for _, pattern := range []string{"lib/python3*/site-packages", "lib/python3/dist-packages"} {
			found, _ := filepath.Glob(filepath.Join(prefix, pattern, "salt-[0-9]*-info"))
			if len(found) == 0 {
				continue
			}
			name := strings.TrimPrefix(filepath.Base(found[len(found)-1]), "salt-")
			name, _, _ = strings.Cut(strings.TrimSuffix(strings.TrimSuffix(name, ".dist-info"), ".egg-info"), "-py")
			return name
		}
	}
	return ""
}

// net is the folder of the network tables of a process, which may be in another
// namespace than ours; of our own if there is no such process.
func (h host) net(pid int) string {
	if pid > 0 {
		if dir := filepath.Join(h.proc, strconv.Itoa(pid), "net"); exists(dir) {
			return dir
		}
	}
	return filepath.Join(h.proc, "net")
}

// listensTCP reports whether somebody listens on a port, at an address or at all of the
// machine. Several masters on one machine have an address each, and the same ports. An
// address that is none, as the name of an interface, stands for any.
func (h host) listensTCP(pid int, address string, port int) (bool, error) {
	at, _ := netip.ParseAddr(strings.Trim(address, "[]")) // brackets, as ZeroMQ wants them
	want := fmt.Sprintf(":%04X", port)
	for _, name := range []string{"tcp", "tcp6"} {
		found := false
		err := lines(filepath.Join(h.net(pid), name), func(line string) {
			// sl local_address rem_address st …
			fields := strings.Fields(line)
			if len(fields) > 3 && fields[3] == listening {
				if local, ok := strings.CutSuffix(fields[1], want); ok && takes(local, at) {
					found = true
				}
			}
		})
		if found || err != nil && (name == "tcp" || !os.IsNotExist(err)) {
			return found, err
		}
	}
	return false, nil
}

// takes reports whether a socket with a local address, as the kernel's tables have it, takes
// connections to an address: words of 32 bits in hexadecimal, each with the last byte first
// (of a little-endian machine).
func takes(local string, at netip.Addr) bool {
	bytes, err := hex.DecodeString(local)
	if err != nil || !at.IsValid() || at.IsUnspecified() {
		return true
	}
	for word := range slices.Chunk(bytes, 4) {
		slices.Reverse(word)
	}
	own, ok := netip.AddrFromSlice(bytes)
	return !ok || own.Unmap().IsUnspecified() || own.Unmap() == at.Unmap()
}

// listensUnix reports whether somebody listens on a Unix socket, without connecting.
func (h host) listensUnix(pid int, path string) (bool, error) {
	found := false
	err := lines(filepath.Join(h.net(pid), "unix"), func(line string) {
		// Num RefCount Protocol Flags Type St Inode Path
		fields := strings.Fields(line)
		if len(fields) > 7 && fields[3] == acceptsConnections && fields[7] == path {
			found = true
		}
	})
	return found, err
}

func lines(path string, each func(string)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	scanner := bufio.NewScanner(f)
	for scanner.Scan() {
		each(scanner.Text())
	}
	return scanner.Err()
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
