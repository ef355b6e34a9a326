package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// stopTimeout: Salt's daemons end within some 7 s of SIGTERM, or never.
	stopTimeout = 10 * time.Second
	// endTimeout: bridge and agent end at once, on a busy machine within seconds. One
	// that must be killed is a fault.
	endTimeout = time.Minute
	// tailLines of each log are shown when a test fails.
	tailLines = 25
)

// Process is one daemon of the lab, with a folder and a log of its own. The
// whole of it, children that left its process group included, carries a mark.
type Process struct {
	Name string // for people: "minion web-1"
	Dir  string

	lab      *Lab
	command  []string
	env      []string
	stubborn bool // may need to be killed, for reasons that are not ours

	mu   sync.Mutex // an agent restarts its minion while the test goes on
	cmd  *exec.Cmd
	done chan struct{} // closed once cmd has been waited for; nil before Start
}

// process makes a process that is yet to be launched. Its folder's name is
// short, and never an id that a test chose: those may hold anything.
func (l *Lab) process(kind string) *Process {
	l.tb.Helper()
	l.made[kind]++
	name := fmt.Sprintf("%s%d", kind, l.made[kind])
	dir := filepath.Join(l.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		l.tb.Fatalf("make folder: %v", err)
	}
	return &Process{Name: name, Dir: dir, lab: l}
}

// prepare says what Start runs, and ties the process to the current test.
func (p *Process) prepare(env []string, command ...string) {
	p.env, p.command = env, command
	tb := p.lab.tb
	tb.Cleanup(func() {
		p.Kill()
		if tb.Failed() {
			tb.Logf("--- last lines of %s\n%s", p.Name, p.Tail())
		}
	})
}

// Start runs the process, in the same folder with the same configuration each
// time.
func (p *Process) Start() {
	p.lab.tb.Helper()
	if err := p.begin(); err != nil {
		p.lab.tb.Fatalf("start %s: %v", p.Name, err)
	}
}

func (p *Process) begin() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	log, err := os.OpenFile(p.logPath(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.command[0], p.command[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.Dir, log, log
	cmd.Env = append(append(os.Environ(), p.env...), mark+"="+p.Dir+"/")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	p.cmd, p.done = cmd, done
	go func() {
		_ = cmd.Wait() // how it ended stands in cmd.ProcessState
		close(done)
	}()
	return nil
}

// running returns the process that was started last; nil before Start.
func (p *Process) running() (*exec.Cmd, chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd, p.done
}

// Kill ends the process and all that it started with SIGKILL, as the loss of
// its machine would.
func (p *Process) Kill() {
	cmd, done := p.running()
	if isOpen(done) { // else the id may be somebody else's by now
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-done
	}
	killMarked(p.Dir + "/")
	if cmd != nil {
		buryGroup(cmd.Process.Pid)
	}
}

// Stop asks the daemon to end with SIGTERM, waits for it, and kills what is left
// of it, running jobs included. Salt's daemons do not always end (3007.15: the
// minion says "Exited", and stays); systemd would kill such a one too. The bridge
// must end by itself.
func (p *Process) Stop() {
	p.lab.tb.Helper()
	cmd, done := p.running()
	if !isOpen(done) {
		return
	}
	timeout := endTimeout
	if p.stubborn {
		timeout = stopTimeout
	}
	_ = cmd.Process.Signal(syscall.SIGTERM) // gone already: fine
	select {
	case <-done:
	case <-time.After(timeout):
		if !p.stubborn {
			p.lab.tb.Fatalf("stop %s: still running after %v\n%s", p.Name, timeout, p.Tail())
		}
		p.lab.tb.Logf("%s did not end within %v of SIGTERM, and was killed", p.Name, timeout)
	}
	p.Kill()
}

// Restart stops the process and starts it again.
func (p *Process) Restart() {
	p.lab.tb.Helper()
	p.Stop()
	p.Start()
}

// Signal sends a signal to the whole process group: SIGSTOP and SIGCONT make a
// pause, in which nothing answers and no connection closes.
func (p *Process) Signal(sig syscall.Signal) {
	p.lab.tb.Helper()
	cmd, _ := p.running()
	if err := syscall.Kill(-cmd.Process.Pid, sig); err != nil {
		p.lab.tb.Fatalf("signal %s: %v", p.Name, err)
	}
}

// Alive reports whether the main process runs.
func (p *Process) Alive() bool {
	_, done := p.running()
	return isOpen(done)
}

func isOpen(done chan struct{}) bool {
	if done == nil {
		return false
	}
	select {
	case <-done:
		return false
	default:
		return true
	}
}

// ExitCode waits for the process to end by itself. It is -1 after a signal.
func (p *Process) ExitCode(timeout time.Duration) int {
	p.lab.tb.Helper()
	cmd, done := p.running()
	select {
	case <-done:
	case <-time.After(timeout):
		p.lab.tb.Fatalf("wait for %s: still running after %v\n%s", p.Name, timeout, p.Tail())
	}
	return cmd.ProcessState.ExitCode()
}

func (p *Process) logPath() string { return filepath.Join(p.Dir, "log") }

// Log is all that the process wrote since it was first started.
func (p *Process) Log() string {
	text, err := os.ReadFile(p.logPath())
	if err != nil {
		return fmt.Sprintf("(no log: %v)", err)
	}
	return string(text)
}

// Tail is the last lines of the log.
func (p *Process) Tail() string {
	lines := strings.Split(strings.TrimRight(p.Log(), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
}

// LoggedAt is the time that a line of a bridge's or an agent's log bears.
func LoggedAt(tb TB, line string) time.Time {
	tb.Helper()
	text, _, _ := strings.Cut(strings.TrimPrefix(line, "time="), " ")
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		tb.Fatalf("read time of line %q: %v", line, err)
	}
	return at
}

// Grep is the lines of the log that hold text.
func (p *Process) Grep(text string) []string {
	var found []string
	for line := range strings.Lines(p.Log()) {
		if strings.Contains(line, text) {
			found = append(found, strings.TrimRight(line, "\n"))
		}
	}
	return found
}
