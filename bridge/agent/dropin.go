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
	"strconv"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

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

// settings make a minion fail over: Salt's own defaults never notice a master
// whose packets vanish. With them it took 47 and 72 s to go elsewhere by itself,
// agent or no agent (3007.15, tried; 3008.3 was not done after 150 s).
const settings = `master_type: failover
# Off by default (0). It looks at the local TCP table only, so what ends a dead
# connection is the keep-alive below: after 30 + 3 * 10 s.
master_alive_interval: 15
retry_dns: 0
tcp_keepalive: True
tcp_keepalive_idle: 30
tcp_keepalive_cnt: 3
tcp_keepalive_intvl: 10
# A minion that is denied exits otherwise.
rejected_retry: True
# Where a return reached no master, the minion's own copy is the only record.
cache_jobs: True
`

// render gives the drop-in's text. Whatever the addresses hold, YAML reads the
// same: Go's ASCII quoting is a subset of YAML's double-quoted style.
func render(l List) ([]byte, error) {
	if len(l.masters) == 0 {
		return nil, errNoMaster
	}
	var b bytes.Buffer
	b.WriteString("# Kept by \"phoenix agent\", which writes over what is changed here.\nmaster:\n")
	for _, address := range l.Addresses() {
		if !utf8.ValidString(address) {
			return nil, fmt.Errorf("address %q is not UTF-8", address)
		}
		b.WriteString("  - " + strconv.QuoteToASCII(address) + "\n")
	}
	b.WriteString(settings)
	return b.Bytes(), nil
}

// parse gives the addresses of a drop-in. What the agent did not write so counts
// as no list.
func parse(text []byte) []string {
	var doc struct {
		Master []string `yaml:"master"`
	}
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil
	}
	return slices.DeleteFunc(doc.Master, func(address string) bool { return address == "" })
}

// DropIn is the file that the agent keeps among a minion's configuration.
type DropIn struct {
	minion salt.MinionConfig
	step   Step // nil but in tests
}

// NewDropIn gives the drop-in of the minion so configured.
func NewDropIn(minion salt.MinionConfig) *DropIn { return &DropIn{minion: minion} }

// Path is the drop-in's.
func (d *DropIn) Path() string { return filepath.Join(d.minion.DropIns, dropInName) }

func (d *DropIn) owedPath() string { return filepath.Join(d.minion.DropIns, owedName) }

// Read gives the addresses that the drop-in lists; none if it is not there.
func (d *DropIn) Read() ([]string, error) {
	text, err := readSmall(d.Path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read drop-in: %w", err)
	}
	return parse(text), nil
}

// Write makes the drop-in say l. wrote is false if it said so already, byte for
// byte; then nothing is touched. After a write a restart is owed.
func (d *DropIn) Write(l List) (wrote bool, err error) {
	text, err := render(l)
	if err != nil {
		return false, fmt.Errorf("write drop-in: %w", err)
	}
	old, err := readSmall(d.Path())
	if err == nil && bytes.Equal(old, text) {
		return false, nil
	}
	if err := os.MkdirAll(d.minion.DropIns, 0o755); err != nil {
		return false, fmt.Errorf("write drop-in: %w", err)
	}
	// The debt goes first: if the new text is there, so is the debt.
	if err := d.replace("debt", d.owedPath(), []byte(digest(text)+"\n")); err != nil {
		return false, fmt.Errorf("write drop-in: %w", err)
	}
	if err := d.replace("drop-in", d.Path(), text); err != nil {
		return false, fmt.Errorf("write drop-in: %w", err)
	}
	return true, nil
}

func (d *DropIn) replace(what, path string, text []byte) error {
	return replacement{d.step, what}.do(path, text)
}

// Owed says whether the minion was not restarted since the drop-in was written.
// A debt for another text than the one that is there is of a write that did not
// come about.
func (d *DropIn) Owed() (bool, error) {
	debt, err := readSmall(d.owedPath())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read debt: %w", err)
	}
	text, err := readSmall(d.Path())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read drop-in: %w", err)
	}
	return string(bytes.TrimSpace(debt)) == digest(text), nil
}

// Settle says that the minion was restarted.
func (d *DropIn) Settle() error {
	if err := os.Remove(d.owedPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("settle restart: %w", err)
	}
	return nil
}

// Check says whether the minion will see l, given its whole configuration: a file
// that sorts after the drop-in wins over it, and lists of the same option in
// several drop-ins are joined (salt.config.include_config).
func (d *DropIn) Check(l List) error {
	c, err := salt.ReadMinionConfig(d.minion.Path)
	if err != nil {
		return err
	}
	want := l.Addresses()
	if !slices.Equal(c.Masters, want) {
		return fmt.Errorf("another file changes the list: the minion sees master %q, not %q (look for \"master:\" in %s and in what %s includes)",
			c.Masters, want, d.minion.DropIns, d.minion.Path)
	}
	if c.MasterType != "failover" {
		return fmt.Errorf("another file sets master_type to %q (look in %s and in what %s includes)",
			c.MasterType, d.minion.DropIns, d.minion.Path)
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
