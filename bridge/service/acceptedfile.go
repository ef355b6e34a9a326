package service

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
)

// AcceptedFile is an AcceptedKeys that outlives the bridge: a file of lines, each
// an id and the first bytes of the digest of its key, or an id and "-". It is
// written at the end, and made anew at the start of a bridge. A line that a crash
// cut off is passed over.
type AcceptedFile struct {
	keys acceptedInMemory
	file *os.File
	log  *slog.Logger
	dead bool // it cannot be written; said once
}

// maxAcceptedLine is longer than any line: an id has 255 bytes at the most.
const maxAcceptedLine = 1 << 10

// OpenAccepted opens the file at path, making it if it is not there. One that
// cannot be written is a warning: then what is accepted is remembered until the
// process ends.
func OpenAccepted(path string, log *slog.Logger) *AcceptedFile {
	a := &AcceptedFile{keys: acceptedInMemory{}, log: log}
	if err := a.open(path); err != nil {
		a.failed(err)
	}
	return a
}

func (a *AcceptedFile) open(path string) error {
	if err := a.load(path); err != nil {
		return err
	}
	// Only what holds is kept, so that the file does not grow for ever.
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	out := bufio.NewWriter(temp)
	for id, key := range a.keys {
		fmt.Fprintf(out, "%s %s\n", id, hex.EncodeToString(key[:]))
	}
	err = out.Flush()
	if err == nil {
		err = temp.Sync()
	}
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		_ = temp.Close()
		_ = os.Remove(temp.Name())
		return err
	}
	a.file = temp
	return nil
}

func (a *AcceptedFile) load(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewReaderSize(f, maxAcceptedLine)
	for {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			continue // a loss of power may leave blocks of anything: what is no line is passed over
		}
		if err != nil { // the end, or a line that a crash cut off
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return err
		}
		id, key, _ := strings.Cut(strings.TrimSuffix(string(line), "\n"), " ")
		var short [8]byte
		switch n, err := hex.Decode(short[:], []byte(key[:min(len(key), 2*len(short))])); {
		case id == "":
		case key == "-":
			delete(a.keys, id)
		case err == nil && n == len(short):
			a.keys[id] = short
		}
	}
}

// Has implements AcceptedKeys.
func (a *AcceptedFile) Has(id, digest string) bool { return a.keys.Has(id, digest) }

// Knows implements AcceptedKeys.
func (a *AcceptedFile) Knows(id string) bool { return a.keys.Knows(id) }

// IDs implements AcceptedKeys.
func (a *AcceptedFile) IDs() iter.Seq[string] { return a.keys.IDs() }

// Add implements AcceptedKeys.
func (a *AcceptedFile) Add(id, digest string) {
	a.keys.Add(id, digest)
	short := shortKey(digest)
	a.write(id + " " + hex.EncodeToString(short[:]))
}

// Remove implements AcceptedKeys.
func (a *AcceptedFile) Remove(id string) {
	if a.keys.Knows(id) {
		a.keys.Remove(id)
		a.write(id + " -")
	}
}

// write is not synced: a line that a loss of power takes is about a key that is
// still there, and is written again then.
func (a *AcceptedFile) write(line string) {
	if a.file == nil {
		return
	}
	if _, err := a.file.WriteString(line + "\n"); err != nil {
		a.failed(err)
	} else {
		a.dead = false
	}
}

func (a *AcceptedFile) failed(err error) {
	if !a.dead {
		a.dead = true
		a.log.Warn("accepted keys are not recorded: a key deleted by hand may be written again after a restart", "err",
			err)
	}
}
