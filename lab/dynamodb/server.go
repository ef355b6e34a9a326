// Package dynamodb runs AWS's own DynamoDB Local for tests: on 127.0.0.1, in
// memory, on a port that the kernel chose. It needs a JDK, and Maven to fetch it
// the first time.
package dynamodb

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// startLimit: a JVM starts within 2 s, on a busy machine within some 20.
	startLimit = time.Minute
	// heap suffices for 100,000 rows.
	heap = "-Xmx512m"
)

// Server is one DynamoDB Local. Any credentials and any region see the same tables.
type Server struct {
	URL string // of the endpoint

	cmd   *exec.Cmd
	stdin io.Closer
}

// Start installs DynamoDB Local if need be and runs it until Close. Should this
// process die first, it ends as well: it lives as long as its standard input.
func Start() (*Server, error) {
	dir, err := Install()
	if err != nil {
		return nil, err
	}
	// Few threads and little compiling: tests share the machine.
	cmd := exec.Command("java", heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
		"-Djava.library.path="+dir, "-cp", dir+":"+filepath.Join(dir, "*"), "Local")
	// Ctrl-C is for the test: it ends the server once it has cleaned up.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var said bytes.Buffer
	cmd.Stderr = &said
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start DynamoDB Local: %w", err)
	}
	s := &Server{cmd: cmd, stdin: stdin}
	late := time.AfterFunc(startLimit, func() { _ = cmd.Process.Kill() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	late.Stop()
	port, portErr := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || portErr != nil {
		s.Close()
		return nil, fmt.Errorf("start DynamoDB Local: it said %q\n%s", line, said.String())
	}
	s.URL = fmt.Sprintf("http://127.0.0.1:%d", port)
	if err := warm(s.URL); err != nil {
		s.Close()
		return nil, fmt.Errorf("start DynamoDB Local: first requests: %w", err)
	}
	return s, nil
}

// Close ends the server and forgets its tables.
func (s *Server) Close() {
	_ = s.stdin.Close()
	_ = s.cmd.Wait() // how it ended does not matter: nothing of it is kept
}
