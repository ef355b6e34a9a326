package salt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"phoenix/bridge/files"
)

// FileVersion identifies the content of a key's file without reading it: no write,
// rename or touch leaves all of it as it was. The zero FileVersion says that the
// content is not known to stay.
type FileVersion struct {
	inode        uint64
	size         int64
	mtime, ctime int64 // nanoseconds
}

// racyFor is longer than the steps in which file systems count times: a file that was
// changed within it may be changed again without another ctime.
const racyFor = 2 * time.Second

// Version returns the version of a key's file; the zero FileVersion if the file was
// changed just now. ErrNoKey if there is none.
func (k *Keys) Version(id string, state State) (FileVersion, error) {
	if err := checkID(id); err != nil {
		return FileVersion{}, err
	}
	info, err := os.Lstat(filepath.Join(k.dir, string(state), id))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return FileVersion{}, fmt.Errorf("read key %s in %s: %w", id, state, ErrNoKey)
	case err == nil:
		err = files.NotRegular(info.Mode().Type())
	}
	if err != nil {
		return FileVersion{}, fmt.Errorf("read key %s in %s: %w", id, state, hint(err))
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok || time.Since(time.Unix(s.Ctim.Unix())) < racyFor {
		return FileVersion{}, nil
	}
	return FileVersion{inode: s.Ino, size: s.Size, mtime: s.Mtim.Nano(), ctime: s.Ctim.Nano()}, nil
}
