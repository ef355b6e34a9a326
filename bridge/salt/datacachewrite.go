package salt

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"phoenix/bridge/files"
)

// Write replaces the data of one minion, if its stamp is still seen (0: there was
// none), and gives it the stamp. The master may write at the same time: each file is
// one master's or the other's, and whole.
func (c *DataCache) Write(id string, data MinionData, seen, stamp int64) error {
	err := checkID(id)
	if err == nil {
		err = data.Validate()
	}
	if err == nil && c.Stamp(id) != seen {
		err = ErrDataChanged
	}
	if err == nil {
		err = c.write(id, data, stamp)
	}
	if err != nil {
		return fmt.Errorf("write data of %s: %w", id, hint(err))
	}
	return nil
}

func (c *DataCache) write(id string, data MinionData, stamp int64) error {
	root, err := os.OpenRoot(c.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	info, err := root.Stat(".")
	if err != nil {
		return err
	}
	w := dataWriter{root: root, uid: -1, gid: -1, at: time.Unix(0, stamp)}
	if s, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		w.uid, w.gid = int(s.Uid), int(s.Gid)
	}
	separate := c.separate()
	for _, f := range filesOf(id, separate) {
		content, err := data.content(f, separate)
		if err == nil {
			err = w.write(f, content)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// dataWriter writes files of the cache, with Salt's owner and modes.
type dataWriter struct {
	root     *os.Root
	uid, gid int
	at       time.Time
}

func (w dataWriter) write(f file, content []byte) error {
	path := filepath.Join(f.folder, f.name)
	if content == nil {
		if err := w.root.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	if err := w.folder(f.folder); err != nil {
		return err
	}
	temp := filepath.Join(f.folder, tempStem+rand.Text())
	err := w.root.WriteFile(temp, content, 0o600)
	if err == nil && w.uid >= 0 {
		err = w.root.Lchown(temp, w.uid, w.gid)
	}
	if err == nil {
		err = w.root.Chtimes(temp, w.at, w.at)
	}
	if err == nil {
		err = w.root.Rename(temp, path)
	}
	if err != nil {
		_ = w.root.Remove(temp)
	}
	return err
}

// folder makes the folders of a path as Salt makes them.
func (w dataWriter) folder(path string) error {
	if info, err := w.root.Lstat(path); err == nil {
		return notFolder(info.Mode())
	}
	made := ""
	for _, part := range strings.Split(path, "/") {
		made = filepath.Join(made, part)
		switch err := w.root.Mkdir(made, 0o755); {
		case errors.Is(err, fs.ErrExist):
			continue
		case err != nil:
			return err
		}
		if w.uid >= 0 {
			if err := w.root.Lchown(made, w.uid, w.gid); err != nil {
				return err
			}
		}
	}
	return nil
}

func notFolder(mode fs.FileMode) error {
	if mode.IsDir() {
		return nil
	}
	if err := files.NotRegular(mode); err != nil {
		return err
	}
	return errors.New("it is a file, not a folder")
}
