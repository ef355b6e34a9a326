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
	// owedName holds the digest of a drop-in that the minion was not restarted
	// with yet, so that an agent that is killed in between restarts it later.
	// Salt's include passes over names with a leading dot.
	owedName = ".99-phoenix.restart"
	// maxDropIn bounds what is read back; a list of a hundred masters needs 3 KiB.
	maxDropIn = 1 << 20
)

// DropIn is the file that the agent keeps among a minion's configuration.
type DropIn struct {
	minion salt.MinionConfig
	step   Step // nil but in tests
}

// NewDropIn gives the drop-in of the minion so configured.
func NewDropIn(minion salt.MinionConfig) *DropIn { return &DropIn{minion: withPublishPort(minion)} }

// Path is the drop-in's.
func (d *DropIn) Path() string { return filepath.Join(d.minion.DropIns, dropInName) }

func (d *DropIn) owedPath() string { return filepath.Join(d.minion.DropIns, owedName) }

func (d *DropIn) own() Ports { return Ports{Publish: d.minion.PublishPort, Ret: d.minion.MasterPort} }

// Read gives what the drop-in lists; nothing if it is not there.
func (d *DropIn) Read() (Listed, error) {
	text, err := d.text()
	if err != nil {
		return Listed{}, fmt.Errorf("read drop-in: %w", err)
	}
	return parse(text), nil
}

// text is the drop-in's; nil if it is not there.
func (d *DropIn) text() ([]byte, error) {
	text, err := readSmall(d.Path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// Write makes the drop-in say l. wrote is false if it said so already, byte for
// byte; then nothing is touched. After a write a restart is owed, unless the
// minion was started with that very text. running is what it was started with, for
// a minion that has no drop-in yet; its process counts in any case.
func (d *DropIn) Write(l List, running Running) (wrote bool, err error) {
	text, err := render(l, d.own())
	if err != nil {
		return false, fmt.Errorf("write drop-in: %w", err)
	}
	old, oldErr := d.text() // one that cannot be read is written over
	if oldErr == nil && bytes.Equal(old, text) {
		return false, nil
	}
	if err := os.MkdirAll(d.minion.DropIns, 0o755); err != nil {
		return false, fmt.Errorf("write drop-in: %w", err)
	}
	debt := d.next(old, running)
	debt.text = digest(text)
	// The debt goes first: if the new text is there, so is the debt.
	if err := d.replace("debt", d.owedPath(), debt.render()); err != nil {
		return false, fmt.Errorf("write drop-in: %w", err)
	}
	if err := d.replace("drop-in", d.Path(), text); err != nil {
		return false, fmt.Errorf("write drop-in: %w", err)
	}
	if debt.running == debt.text {
		if err := d.Settle(); err != nil {
			return true, fmt.Errorf("write drop-in: %w", err)
		}
	}
	return true, nil
}

func (d *DropIn) replace(what, path string, text []byte) error {
	return replacement{d.step, what}.do(path, text)
}

// Check says whether the minion will see l, given its whole configuration: a file
// that sorts after the drop-in wins over it, and lists of the same option in
// several drop-ins are joined (salt.config.include_config).
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
