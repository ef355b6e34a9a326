package lab

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// abandon is the environment variable that makes TestWatchdog the test that
// dies with a lab running.
const abandon = "PHOENIX_LAB_ABANDON"

// A test that is killed leaves no process, sessions of their own included, and
// no folder.
func TestWatchdog(t *testing.T) {
	if os.Getenv(abandon) != "" {
		l := New(t)
		daemon := l.process("daemon")
		daemon.prepare(nil, "sh", "-c", "setsid sleep 1000 & sleep 1000")
		daemon.Start()
		l.Eventually(10*time.Second, "both sleeps run", func() (bool, string) {
			return len(marked(l.dir+"/")) >= 3, "fewer"
		})
		os.Stdout.WriteString("lab " + l.dir + "\n")
		select {}
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestWatchdog$")
	cmd.Env = append(os.Environ(), abandon+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	dir := ""
	for lines := bufio.NewScanner(out); dir == "" && lines.Scan(); {
		dir, _ = strings.CutPrefix(lines.Text(), "lab ")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait() // killed
	if dir == "" {
		t.Fatal("the child made no lab")
	}
	Eventually(t, 10*time.Second, "nothing is left of the lab", func() (bool, string) {
		_, err := os.Stat(dir)
		left := marked(dir + "/")
		return len(left) == 0 && errors.Is(err, os.ErrNotExist), "processes or folder"
	})
}
