package salt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/vmihailenco/msgpack/v5"

	"phoenix/bridge/event"
)

// Names of what a master remembers of a minion.
const (
	DataGrains = "grains"
	DataPillar = "pillar"
	DataMine   = "mine"
)

const (
	// maxData bounds the data of one minion: grains take some 20 KB.
	maxData = 4 << 20
	// maxCached bounds the minions that are listed.
	maxCached = 100_000
)

var (
	// ErrNoData is returned when a master has no data of a minion.
	ErrNoData = errors.New("the master has no data of it")
	// ErrDataChanged is returned when the master has written a minion's data meanwhile.
	ErrDataChanged = errors.New("the master has written it meanwhile")
)

// MinionData is the data of one minion: maps in msgpack, by the names above.
type MinionData map[string]msgpack.RawMessage

// Validate reports what the master could not read.
func (d MinionData) Validate() error {
	size := 0
	for name, value := range d {
		if name != DataGrains && name != DataPillar && name != DataMine {
			return fmt.Errorf("unknown data %.20q", name)
		}
		if _, err := event.Fields(value); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		size += len(value)
	}
	if d[DataGrains] == nil {
		return errors.New("no grains")
	}
	if size > maxData {
		return fmt.Errorf("%d bytes are too many", size)
	}
	return nil
}

// DataCache is a master's minion data cache: the grains and pillars by which the
// master decides which minions a target means, and the mine. It can be written while
// the master runs, as Salt reads a file anew for each look-up and replaces it by
// rename (salt/cache/localfs.py).
type DataCache struct {
	dir string
	pki string
	id  string // the master's, with Salt's suffix _master
}

// OpenDataCache opens the cache of the master so configured.
func OpenDataCache(c Config) (*DataCache, error) {
	if !c.MinionDataCache || c.CacheDriver != "localfs" {
		return nil, fmt.Errorf("open minion data cache: %w", ErrGrainsCache)
	}
	return &DataCache{dir: c.CacheDir, pki: c.PKIDir, id: c.ID}, nil
}

// separate reports whether grains, pillar and mine have a folder each (grains/ID.p),
// as since 3008. 3006 and 3007 have a folder for each minion (minions/ID/data.p with
// grains and pillar, minions/ID/mine.p). A 3008 master that no minion has connected to
// has neither, but it keeps its key under its id (MasterKeys in salt/crypt.py); 3008.5
// leaves a symlink master.pem to it, 3008.3 none.
func (c *DataCache) separate() bool {
	if _, err := os.Stat(filepath.Join(c.dir, DataGrains)); err == nil {
		return true
	}
	if id := strings.TrimSuffix(c.id, "_master"); id != "" && id != "master" && checkID(id) == nil {
		if _, err := os.Lstat(filepath.Join(c.pki, id+".pem")); err == nil {
			return true
		}
	}
	_, err := os.Lstat(filepath.Join(c.pki, "master.pem"))
	return errors.Is(err, fs.ErrNotExist)
}

// file is one file of the cache, and which data is in it.
type file struct{ folder, name string }

func filesOf(id string, separate bool) []file {
	if separate {
		return []file{{DataGrains, id + ".p"}, {DataPillar, id + ".p"}, {DataMine, id + ".p"}}
	}
	return []file{{filepath.Join("minions", id), "data.p"}, {filepath.Join("minions", id), "mine.p"}}
}

// List returns when the data of each minion was written last, by the modification times
// of its files in nanoseconds.
func (c *DataCache) List() (map[string]int64, error) {
	stamps := map[string]int64{}
	var err error
	if c.separate() {
		for _, bank := range []string{DataGrains, DataPillar, DataMine} {
			err = errors.Join(err, c.list(bank, func(e fs.DirEntry) {
				if id, ok := strings.CutSuffix(e.Name(), ".p"); ok && checkID(id) == nil {
					if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
						stamps[id] = max(stamps[id], info.ModTime().UnixNano())
					}
				}
			}))
		}
		// The master knows a minion by its grains.
		for id := range stamps {
			if _, err := os.Lstat(filepath.Join(c.dir, DataGrains, id+".p")); err != nil {
				delete(stamps, id)
			}
		}
	} else {
		err = c.list("minions", func(e fs.DirEntry) {
			if id := e.Name(); checkID(id) == nil {
				if stamp := c.Stamp(id); stamp != 0 {
					stamps[id] = stamp
				}
			}
		})
	}
	if err == nil && len(stamps) > maxCached {
		err = fmt.Errorf("list minion data cache: over %d minions", maxCached)
	}
	return stamps, err
}

func (c *DataCache) list(folder string, see func(fs.DirEntry)) error {
	entries, err := os.ReadDir(filepath.Join(c.dir, folder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list minion data cache: %w", hint(err))
	}
	for _, e := range entries {
		see(e)
	}
	return nil
}

// Stamp is what List gives for one minion; 0: there is no data of it.
func (c *DataCache) Stamp(id string) int64 {
	if checkID(id) != nil {
		return 0
	}
	var stamp int64
	for i, f := range filesOf(id, c.separate()) {
		info, err := os.Lstat(filepath.Join(c.dir, f.folder, f.name))
		if err == nil && info.Mode().IsRegular() {
			stamp = max(stamp, info.ModTime().UnixNano())
		} else if i == 0 {
			return 0
		}
	}
	return stamp
}

// Read returns the data of one minion, and the stamp that it had before it was read.
func (c *DataCache) Read(id string) (MinionData, int64, error) {
	if err := checkID(id); err != nil {
		return nil, 0, err
	}
	data, stamp, separate := MinionData{}, c.Stamp(id), c.separate()
	for i, f := range filesOf(id, separate) {
		raw, err := readBounded(filepath.Join(c.dir, f.folder), f.name, maxData)
		if errors.Is(err, fs.ErrNotExist) {
			if i == 0 {
				return nil, 0, fmt.Errorf("read data of %s: %w", id, ErrNoData)
			}
			continue
		}
		if err == nil {
			err = data.add(f, raw, separate)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("read data of %s: %w", id, hint(err))
		}
	}
	if err := data.Validate(); err != nil {
		return nil, 0, fmt.Errorf("read data of %s: %w", id, err)
	}
	return data, stamp, nil
}

func (d MinionData) add(f file, raw []byte, separate bool) error {
	switch {
	case separate:
		d[f.folder] = raw
	case f.name == "mine.p":
		d[DataMine] = raw
	default:
		both, err := event.Fields(raw)
		if err != nil {
			return err
		}
		for _, name := range []string{DataGrains, DataPillar} {
			if both[name] != nil {
				d[name] = both[name]
			}
		}
	}
	return nil
}

// content returns what a file of the cache is to hold; nil: there is to be none.
func (d MinionData) content(f file, separate bool) ([]byte, error) {
	switch {
	case separate:
		return d[f.folder], nil
	case f.name == "mine.p":
		return d[DataMine], nil
	}
	both := map[string]msgpack.RawMessage{}
	for _, name := range []string{DataGrains, DataPillar} {
		if d[name] != nil {
			both[name] = d[name]
		}
	}
	return msgpack.Marshal(both)
}
