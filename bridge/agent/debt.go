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

// Debt is a restart that the minion is owed.
type Debt struct {
	Owed    bool
	Since   time.Time // by this host's clock
	Running Running   // Process is the one that ran when the list was written
}

// debt is what the file of that name says, one "name value" a line. The first is
// the digest of the drop-in that the minion is to be restarted with, alone: what
// agents wrote that knew no more.
type debt struct {
	text    string // digest of the drop-in
	running string // digest of the one that the minion was started with; empty: not known
	Running
}

func (d debt) render() []byte {
	var b bytes.Buffer
	fmt.Fprintln(&b, d.text)
	if d.running != "" {
		fmt.Fprintln(&b, "running", d.running)
	}
	if len(d.Masters) > 0 {
		fmt.Fprintln(&b, "masters", strings.Join(d.Masters, " "))
	}
	if d.Hot {
		fmt.Fprintln(&b, "hot yes")
	}
	if d.Process != "" {
		fmt.Fprintln(&b, "process", d.Process)
	}
	return b.Bytes()
}

func parseDebt(text []byte) (d debt) {
	first, rest, _ := strings.Cut(string(text), "\n")
	d.text = strings.TrimSpace(first)
	for line := range strings.Lines(rest) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch name {
		case "running":
			d.running = value
		case "masters":
			d.Masters = strings.Fields(value)
		case "hot":
			d.Hot = value == "yes"
		case "process":
			d.Process = value
		}
	}
	return d
}

// next is the debt of a text that comes in the place of old. The minion runs with
// old, unless it owes a restart since before.
func (d *DropIn) next(old []byte, running Running) debt {
	process := running.Process
	if text, err := readSmall(d.owedPath()); err == nil {
		if before := parseDebt(text); before.text == digest(old) && before.sameProcess(process) {
			before.Process = process
			return before
		}
	}
	if old == nil {
		return debt{Running: running}
	}
	listed := parse(old)
	return debt{running: digest(old), Running: Running{addressesOf(listed.Masters), listed.Hot, process}}
}

// sameProcess: one that is not known is taken for the same.
func (r Running) sameProcess(process string) bool {
	return r.Process == "" || process == "" || r.Process == process
}

// Debt says whether the minion was not restarted since the drop-in was written,
// and what it runs with. A debt for another text than the one that is there is of
// a write that did not come about.
func (d *DropIn) Debt() (Debt, error) {
	info, err := os.Stat(d.owedPath())
	if errors.Is(err, fs.ErrNotExist) {
		return Debt{}, nil
	}
	if err != nil {
		return Debt{}, fmt.Errorf("read debt: %w", err)
	}
	raw, err := readSmall(d.owedPath())
	if err != nil {
		return Debt{}, fmt.Errorf("read debt: %w", err)
	}
	text, err := d.text()
	if err != nil {
		return Debt{}, fmt.Errorf("read drop-in: %w", err)
	}
	debt := parseDebt(raw)
	if text == nil || debt.text != digest(text) {
		return Debt{}, nil
	}
	return Debt{true, info.ModTime(), debt.Running}, nil
}

// Settle says that the minion was restarted.
func (d *DropIn) Settle() error {
	if err := os.Remove(d.owedPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("settle restart: %w", err)
	}
	return nil
}
