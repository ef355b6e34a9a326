package main

import (
	"bufio"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"time"
)

const (
	// every: a line at such intervals shows that it goes on, terminal or not.
	every = 5 * time.Second
	// kept lines of what a command printed last are shown if it fails.
	kept = 30
)

// progress says every few seconds how far an installation is.
type progress struct {
	version  string
	packages int
	begun    time.Time
	done     chan struct{}

	mu   sync.Mutex // guards what follows
	seen int        // packages that pip has looked at
	step string
}

func newProgress(version string, list []byte) *progress {
	p := &progress{version: version, begun: time.Now(), done: make(chan struct{}), step: "making an environment"}
	p.packages = strings.Count(string(list), "==")
	p.say()
	go func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.say()
			case <-p.done:
				return
			}
		}
	}()
	return p
}

func (p *progress) stop() {
	close(p.done)
	p.say()
}

func (p *progress) say() {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Printf("Salt %s: %s, %.0f s\n", p.version, p.step, time.Since(p.begun).Seconds())
}

// run runs one command, and reads from what it prints how far it is.
func (p *progress) run(name string, args ...string) error {
	cmd := exec.Command(name, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return err
	}
	var last []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		last = append(last[max(0, len(last)+1-kept):], lines.Text())
		p.follow(lines.Text())
	}
	if err := cmd.Wait(); err != nil {
		p.follow("failed")
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, strings.Join(last, "\n"))
	}
	return nil
}

func (p *progress) follow(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case strings.HasPrefix(line, "Collecting "):
		p.seen++
		p.step = fmt.Sprintf("package %d of some %d", p.seen, p.packages)
	case strings.HasPrefix(line, "Building "):
		p.step = "building"
	case strings.HasPrefix(line, "Installing "):
		p.step = "installing what was fetched"
	case strings.HasPrefix(line, "Successfully installed"):
		p.step = "installed"
	case line == "failed":
		p.step = "failed"
	}
}
