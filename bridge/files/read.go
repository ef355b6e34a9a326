// Package files reads files that others write, within bounds, and makes changes of folders
// durable.
package files

import (
	"fmt"
	"io"
	"io/fs"
	"os"
)

// ReadAll reads all of r. More than most bytes are an error.
func ReadAll(r io.Reader, most int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("over %d bytes", most)
	}
	return text, err
}

// Read reads a regular file, or what a symbolic link to one names. One of more than
// most bytes is an error; so is a pipe, which would block, or a device, which might
// never end.
func Read(path string, most int64) ([]byte, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := ReadAll(f, most)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return text, nil
}

// Head reads the first bytes of a regular file, most at most.
func Head(path string, most int64) ([]byte, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}

func open(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if err := NotRegular(info.Mode()); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return os.Open(path)
}

// NotRegular says what something is that is not a regular file; nil: it is one.
func NotRegular(mode fs.FileMode) error {
	for _, kind := range []struct {
		mode fs.FileMode
		name string
	}{{fs.ModeDir, "directory"}, {fs.ModeSymlink, "symbolic link"}, {fs.ModeNamedPipe, "named pipe"},
		{fs.ModeSocket, "socket"}, {fs.ModeDevice, "device"}} {
		if mode&kind.mode != 0 {
			return fmt.Errorf("it is a %s, not a file", kind.name)
		}
	}
	if mode.IsRegular() {
		return nil
	}
	return fmt.Errorf("it is a %v, not a file", mode)
}
