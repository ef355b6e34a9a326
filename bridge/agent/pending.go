package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// PendingRestart is a restart that the minion still needs.
type PendingRestart struct {
	Pending bool
	Since   time.Time // by this host's clock
	Running Running   // Process is the one that ran when the list was written
	Trust   string    // digest of the master key that it must trust before; empty: the one that it trusts
}

// pendingRecord is the content of the file pendingName, one "name value" a line. The first
// line is the digest of the drop-in that the minion needs a restart for, alone: older
// agents wrote nothing else.
type pendingRecord struct {
	text    string // digest of the drop-in
	running string // digest of the one that the minion was started with; empty: not known
	trust   string // digest of the master key that the listed masters have
	Running
}

func (p pendingRecord) render() []byte {
	var b bytes.Buffer
	fmt.Fprintln(&b, p.text)
	if p.running != "" {
		fmt.Fprintln(&b, "running", p.running)
	}
	if len(p.Masters) > 0 {
		fmt.Fprintln(&b, "masters", strings.Join(p.Masters, " "))
	}
	if p.Hot {
		fmt.Fprintln(&b, "hot yes")
	}
	if p.trust != "" {
		fmt.Fprintln(&b, "trust", p.trust)
	}
	if p.Process != "" {
		fmt.Fprintln(&b, "process", p.Process)
	}
	return b.Bytes()
}

func parsePending(text []byte) (p pendingRecord) {
	first, rest, _ := strings.Cut(string(text), "\n")
	p.text = strings.TrimSpace(first)
	for line := range strings.Lines(rest) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch name {
		case "running":
			p.running = value
		case "masters":
			p.Masters = strings.Fields(value)
		case "hot":
			p.Hot = value == "yes"
		case "trust":
			p.trust = value
		case "process":
			p.Process = value
		}
	}
	return p
}

// next returns the record for a text that replaces old. The minion runs with old, unless
// a restart was pending before.
func (d *DropIn) next(old []byte, running Running) pendingRecord {
	process := running.Process
	if text, err := readSmall(d.pendingPath()); err == nil {
		if before := parsePending(text); before.text == digest(old) && before.sameProcess(process) {
			before.Process = process
			return before
		}
	}
	if old == nil {
		return pendingRecord{Running: running}
	}
	listed := parse(old)
	return pendingRecord{running: digest(old), Running: Running{addressesOf(listed.Masters), listed.Hot, process}}
}

// keepTrust makes the record of a pending restart for that text say which master key the
// minion must trust: masters may change theirs while the list stays the same.
func (d *DropIn) keepTrust(text []byte, trust string) error {
	raw, err := readSmall(d.pendingPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read pending restart: %w", err)
	}
	pending := parsePending(raw)
	if pending.text != digest(text) || pending.trust == trust {
		return nil
	}
	info, err := os.Stat(d.pendingPath())
	if err != nil {
		return fmt.Errorf("read pending restart: %w", err)
	}
	pending.trust = trust
	if err := d.replace("pending", d.pendingPath(), pending.render()); err != nil {
		return fmt.Errorf("write pending restart: %w", err)
	}
	return os.Chtimes(d.pendingPath(), time.Time{}, info.ModTime()) // since when it is pending
}

// sameProcess reports whether the minion's process is the same. An unknown one counts as
// the same.
func (r Running) sameProcess(process string) bool {
	return r.Process == "" || process == "" || r.Process == process
}

// PendingRestart returns whether the minion has not been restarted since the drop-in was
// written, and what it runs with. A record for another text than the current one belongs
// to a write that was interrupted.
func (d *DropIn) PendingRestart() (PendingRestart, error) {
	info, err := os.Stat(d.pendingPath())
	if errors.Is(err, fs.ErrNotExist) {
		return PendingRestart{}, nil
	}
	if err != nil {
		return PendingRestart{}, fmt.Errorf("read pending restart: %w", err)
	}
	raw, err := readSmall(d.pendingPath())
	if err != nil {
		return PendingRestart{}, fmt.Errorf("read pending restart: %w", err)
	}
	text, err := d.text()
	if err != nil {
		return PendingRestart{}, fmt.Errorf("read drop-in: %w", err)
	}
	pending := parsePending(raw)
	if text == nil || pending.text != digest(text) {
		return PendingRestart{}, nil
	}
	return PendingRestart{true, info.ModTime(), pending.Running, pending.trust}, nil
}

// ClearPending records that the minion was restarted.
func (d *DropIn) ClearPending() error {
	if err := os.Remove(d.pendingPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("clear pending restart: %w", err)
	}
	return nil
}
