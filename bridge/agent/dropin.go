package agent

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"phoenix/bridge/files"
	"phoenix/bridge/salt"
)

const (
	// dropInName sorts after what others put there: the last file wins.
	dropInName = "99-phoenix.conf"
	// pendingName holds the digest of a drop-in that the minion was not restarted with yet,
	// so that the next agent restarts it if this one is killed in between. Salt's include
	// leaves out names with a leading dot.
	pendingName = ".99-phoenix.restart"
	// maxDropIn bounds what is read back; a list of a hundred masters needs 3 KiB.
	maxDropIn = 1 << 20
)

// DropIn is the file that the agent keeps among a minion's configuration.
type DropIn struct {
	minion salt.MinionConfig
	step   Step // nil but in tests
}

// NewDropIn returns the drop-in of the minion with that configuration.
func NewDropIn(minion salt.MinionConfig) *DropIn { return &DropIn{minion: withPublishPort(minion)} }

// Path is the drop-in's.
func (d *DropIn) Path() string { return filepath.Join(d.minion.DropIns, dropInName) }

func (d *DropIn) pendingPath() string { return filepath.Join(d.minion.DropIns, pendingName) }

func (d *DropIn) own() Ports { return Ports{Publish: d.minion.PublishPort, Ret: d.minion.MasterPort} }

// Read returns what the drop-in lists; nothing if it does not exist.
func (d *DropIn) Read() (Listed, error) {
	text, err := d.text()
	if err != nil {
		return Listed{}, fmt.Errorf("read drop-in: %w", err)
	}
	return parse(text), nil
}

// text is the drop-in's; nil if it does not exist.
func (d *DropIn) text() ([]byte, error) {
	text, err := readSmall(d.Path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// Write makes the drop-in say l. wrote is false if it did already, byte for byte; then
// nothing is changed. After a write a restart is pending, unless the minion was started
// with that very text. running is what it was started with, for a minion that has no
// drop-in yet; its process counts in any case. trust is the master key that it must trust
// before that restart, if it trusts another.
func (d *DropIn) Write(l List, running Running, trust string) (wrote bool, err error) {
	text, err := render(l, d.own())
	if err != nil {
		return false, fmt.Errorf("write drop-in: %w", err)
	}
	old, oldErr := d.text() // one that cannot be read is overwritten
	if oldErr == nil && bytes.Equal(old, text) {
		return false, d.keepTrust(text, trust)
	}
	if err := os.MkdirAll(d.minion.DropIns, 0o755); err != nil {
		return false, fmt.Errorf("write drop-in: %w", err)
	}
	pending := d.next(old, running)
	pending.text, pending.trust = digest(text), trust
	// The record comes first: if the new text is there, so is the record.
	if err := d.replace("pending", d.pendingPath(), pending.render()); err != nil {
		return false, fmt.Errorf("write drop-in: %w", err)
	}
	if err := d.replace("drop-in", d.Path(), text); err != nil {
		return false, fmt.Errorf("write drop-in: %w", err)
	}
	if pending.running == pending.text {
		if err := d.ClearPending(); err != nil {
			return true, fmt.Errorf("write drop-in: %w", err)
		}
	}
	return true, nil
}

func (d *DropIn) replace(what, path string, text []byte) error {
	return replacement{d.step, what}.do(path, text)
}

// Check returns an error if the minion will not see l, given its whole configuration: a
// file that sorts after the drop-in overrides it, and lists of the same option in several
// drop-ins are merged (salt.config.include_config).
func (d *DropIn) Check(l List) error {
	c, err := salt.ReadMinionConfig(d.minion.Path)
	if err != nil {
		return err
	}
	want := masterEntries(l, d.own())
	if !slices.Equal(c.Masters, want) {
		return fmt.Errorf("another file changes the list: the minion sees master %q, not %q (look for \"master:\" in %s and in what %s includes)",
			c.Masters, want, d.minion.DropIns, d.minion.Path)
	}
	if want := masterType(l.hot); c.MasterType != want {
		return fmt.Errorf("another file sets master_type to %q, not %q (look in %s and in what %s includes)",
			c.MasterType, want, d.minion.DropIns, d.minion.Path)
	}
	return nil
}

func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// readSmall reads a file that is not larger than the agent's files get.
func readSmall(path string) ([]byte, error) {
	return files.Read(path, maxDropIn)
}
