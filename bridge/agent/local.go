package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"phoenix/bridge/files"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
)

const (
	// answerWithin bounds one probe of a port: within a region a connection takes
	// milliseconds, and the first lost packet is sent again after one second.
	answerWithin = 2 * time.Second
	// lookUpWithin bounds the DNS query for a master that is listed by name.
	lookUpWithin = 2 * time.Second
	// restartWithin bounds the command: systemd gives a service 90 s to stop, then
	// kills it (3007.15 often takes no notice of SIGTERM).
	restartWithin = 3 * time.Minute
	// maxOutput bounds the command's output in an error.
	maxOutput = 400
)

// Local is the machine with the minion on it.
type Local struct {
	minion  salt.MinionConfig
	command []string
	proc    string // /proc
	zeromq  bool   // Salt's transport; others send no greeting
	tcp     bool   // Salt's transport, without TLS
}

// NewLocal returns this machine, with a minion of that configuration, which that command
// restarts.
func NewLocal(minion salt.MinionConfig, command []string) (*Local, error) {
	if len(command) == 0 || command[0] == "" {
		return nil, errors.New("restart command is empty")
	}
	transport, said := minion.Options["transport"]
	return &Local{minion: withPublishPort(minion), command: command, proc: "/proc", zeromq: !said ||
		transport == salt.ZeroMQ,
		tcp: transport == salt.TCP && (minion.Options["ssl"] == nil || minion.Options["ssl"] == false)}, nil
}

// Connected returns the addresses of the masters whose publish port the minion is
// connected to; those of known masters as they are first written there.
func (l *Local) Connected(ctx context.Context, known []Master) ([]string, error) {
	ports := []int{l.minion.PublishPort}
	for _, m := range known {
		if m.Ports.Publish != 0 && !slices.Contains(ports, m.Ports.Publish) {
			ports = append(ports, m.Ports.Publish)
		}
	}
	pid := l.pid()
	if pid == 0 && l.neverConnected() {
		return nil, nil
	}
	found, err := publishers(l.proc, pid, ports)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	name := map[netip.Addr]string{}
	for _, m := range known {
		if !slices.ContainsFunc(found, func(addr netip.Addr) bool { return name[addr] == "" }) {
			break
		}
		for _, addr := range lookUp(ctx, m.Address) {
			if _, named := name[addr]; !named {
				name[addr] = m.Address
			}
		}
	}
	var addresses []string
	for _, addr := range found {
		if address, ok := name[addr]; ok {
			addresses = append(addresses, address)
		} else {
			addresses = append(addresses, addr.String())
		}
	}
	return addresses, nil
}

// neverConnected reports whether the minion has authenticated with no master yet. It
// keeps the key of the first one that it meets before it connects to a publish port
// (salt.crypt.AsyncAuth.verify_master, 3006 to 3008).
func (l *Local) neverConnected() bool {
	return !exists(filepath.Join(l.minion.PKIDir, "minion_master.pub"))
}

func lookUp(ctx context.Context, address string) []netip.Addr {
	if addr, err := netip.ParseAddr(address); err == nil {
		return []netip.Addr{addr.Unmap()}
	}
	ctx, cancel := context.WithTimeout(ctx, lookUpWithin)
	defer cancel()
	addrs, _ := net.DefaultResolver.LookupNetIP(ctx, "ip", address)
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs
}

// pid is the minion's main process; 0: not known.
func (l *Local) pid() int {
	text, err := files.Head(l.minion.PIDFile, 64) // a number
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || !isSalt(l.proc, pid) {
		return 0 // a file that is left over
	}
	return pid
}

// Process identifies the minion's main process: its PID and its start time in kernel
// ticks. Empty: not known.
func (l *Local) Process() string {
	pid := l.pid()
	if pid == 0 {
		return ""
	}
	text, err := files.Head(filepath.Join(l.proc, strconv.Itoa(pid), "stat"), 4<<10)
	if err != nil {
		return ""
	}
	// The name of the program, in brackets, may hold anything.
	_, rest, _ := strings.Cut(string(text[bytes.LastIndexByte(text, ')')+1:]), " ")
	const starttime = 19 // field 22 of proc(5), of which the third is the first here
	if fields := strings.Fields(rest); len(fields) > starttime {
		return strconv.Itoa(pid) + "-" + fields[starttime]
	}
	return ""
}

// Answers reports whether a master answers on both of its ports. With ZeroMQ an answer is
// the first byte of the greeting, which each side sends first: the kernel accepts
// connections even for a process that is stopped or hangs. With transport tcp neither side
// sends anything first. There ret_port answers what is no request by closing the
// connection (3006 to 3008, salt/transport/tcp.py, SaltMessageServer.handle_stream, which
// logs it at level trace), and publish_port is not asked.
func (l *Local) Answers(ctx context.Context, m Master) bool {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	ports := m.Ports.or(Ports{Publish: l.minion.PublishPort, Ret: l.minion.MasterPort})
	answers := make(chan bool, 2)
	for _, port := range []int{ports.Publish, ports.Ret} {
		asked := l.tcp && port == ports.Ret
		go func() { answers <- l.answers(ctx, net.JoinHostPort(m.Address, strconv.Itoa(port)), asked) }()
	}
	one, other := <-answers, <-answers
	return one && other
}

// zmtpSignature begins each greeting of ZeroMQ (RFC 23/ZMTP).
const zmtpSignature = 0xff

// notRequest is msgpack's nil, which is no request.
var notRequest = []byte{0xc0}

func (l *Local) answers(ctx context.Context, endpoint string, asked bool) bool {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", endpoint)
	if err != nil {
		return false
	}
	defer conn.Close()
	if !l.zeromq && !asked {
		return true
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	var first [1]byte
	if asked {
		if _, err := conn.Write(notRequest); err != nil {
			return false
		}
		_, err := conn.Read(first[:])
		return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)
	}
	n, err := conn.Read(first[:])
	return err == nil && n == 1 && first[0] == zmtpSignature
}

// Jobs returns the jobs that run on the minion.
func (l *Local) Jobs() ([]Job, error) { return jobs(l.proc, l.minion.CacheDir) }

// TrustedKey returns the digest of the master key that the minion trusts; empty if it has
// met no master yet. 3006 to 3008 keep one for all masters.
func (l *Local) TrustedKey() (string, error) {
	return keyIn(filepath.Join(l.minion.PKIDir, "minion_master.pub"))
}

// OwnKey is the minion's own public key, as the minion sends it; the zero Proof if it
// has made none yet, or if the private key is missing: the minion then makes another
// pair at its start.
func (l *Local) OwnKey() (fleet.Proof, error) {
	if _, err := os.Lstat(filepath.Join(l.minion.PKIDir, privateName)); errors.Is(err, fs.ErrNotExist) {
		return fleet.Proof{}, nil
	} else if err != nil {
		return fleet.Proof{}, fmt.Errorf("read own key: %w", err)
	}
	digest, text, err := readKey(filepath.Join(l.minion.PKIDir, publicName))
	if digest == "" {
		return fleet.Proof{}, err
	}
	return fleet.Proof{KeySHA256: digest, PublicKey: cleanKey(text)}, nil
}

// cleanKey is salt.crypt.clean_key (3006 to 3008), by which a minion sends its key.
func cleanKey(text []byte) string {
	return strings.ReplaceAll(strings.ReplaceAll(strings.TrimSpace(string(text)), "\r\n", "\n"), "\r", "\n")
}

func keyIn(path string) (string, error) {
	digest, _, err := readKey(path)
	return digest, err
}

func readKey(path string) (digest string, text []byte, err error) {
	text, err = readSmall(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(text) == 0 {
		return "", nil, nil // Salt opens the file before it writes it
	}
	if err != nil {
		return "", nil, fmt.Errorf("read key: %w", err)
	}
	if digest, err = fleet.KeyDigest(text); err != nil {
		return "", nil, fmt.Errorf("read key %s: %w", path, err)
	}
	return digest, text, nil
}

// Restart runs the command. It does not end with ctx: a minion that was stopped must be
// started again, even if the agent is stopped in between.
func (l *Local) Restart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), restartWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, l.command[0], l.command[1:]...)
	cmd.WaitDelay = 5 * time.Second // a child may keep the output open
	out, err := cmd.CombinedOutput()
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	out = bytes.TrimSpace(out)
	if len(out) > maxOutput {
		out = out[len(out)-maxOutput:]
	}
	return fmt.Errorf("restart minion by %q: %w: %s (agent.restart is the command)", l.command, err, out)
}
