// Package audit keeps the trail of a bridge's decisions: a file of JSON lines, one
// a decision, that outlives the bridge and never grows past a bound. Decisions do
// not wait for it.
package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// MaxFile is how large a trail's file grows; the one before it is kept beside
	// it. Both hold some 130,000 decisions, and are read in a blink.
	MaxFile = 16 << 20
	// waiting bounds the lines that are not yet written. A disk that stands still
	// costs lines, which are counted, and never a decision.
	waiting = 4096
	// drainWithin bounds what is still written at the end.
	drainWithin = 2 * time.Second
)

// Old is where the lines before those of a trail's file are.
func Old(path string) string { return path + ".1" }

// Trail takes lines, and writes them in its own time. Several processes may write
// to one file.
type Trail struct {
	path  string
	max   int64
	lines chan []byte
	lost  atomic.Int64
	log   *slog.Logger
}

// New makes a trail; nothing is opened before Run. It complains to log.
func New(path string, log *slog.Logger) *Trail {
	return &Trail{path: path, max: MaxFile, lines: make(chan []byte, waiting), log: log}
}

// Handler makes lines of log records.
func (t *Trail) Handler() slog.Handler { return slog.NewJSONHandler(t, nil) }

// Write takes one line. It never waits, and never fails: see Run.
func (t *Trail) Write(line []byte) (int, error) {
	select {
	case t.lines <- append([]byte(nil), line...):
	default:
		t.lost.Add(1)
	}
	return len(line), nil
}

// Run writes lines until ctx ends, and then those that still wait.
func (t *Trail) Run(ctx context.Context) error {
	failing := false
	for {
		var batch []byte
		select {
		case batch = <-t.lines:
		case <-ctx.Done():
			t.drain()
			return nil
		}
		err := Append(t.path, t.gather(batch), t.max)
		if (err != nil) != failing {
			failing = err != nil
			if failing {
				t.log.Error("audit trail is not written", "err", err)
			} else {
				t.log.Info("audit trail is written again")
			}
		}
		if lost := t.lost.Swap(0); lost > 0 {
			t.log.Error("audit trail lacks lines: the disk is too slow", "lines", lost)
		}
	}
}

func (t *Trail) drain() {
	for deadline := time.Now().Add(drainWithin); len(t.lines) > 0 && time.Now().Before(deadline); {
		if err := Append(t.path, t.gather(nil), t.max); err != nil {
			t.log.Error("audit trail is not written", "err", err)
			return
		}
	}
}

// gather adds what waits, up to a batch that is soon written.
func (t *Trail) gather(batch []byte) []byte {
	for range waiting {
		select {
		case line := <-t.lines:
			batch = append(batch, line...)
		default:
			return batch
		}
	}
	return batch
}

// Append adds lines to the file at path. One that has grown past max becomes the
// old one, in the place of that before it. The file is opened each time: whoever
// moves it away, an admin or another bridge, disturbs nothing.
func Append(path string, lines []byte, max int64) error {
	for range 20 { // others may move the file between the opening and the lock
		again, err := appendOnce(path, lines, max)
		if err != nil {
			return fmt.Errorf("write audit trail: %w", err)
		}
		if !again {
			return nil
		}
	}
	return fmt.Errorf("write audit trail %s: it is moved away all the time", path)
}

func appendOnce(path string, lines []byte, max int64) (again bool, err error) {
	// 0640: ids and digests are no secrets, but nobody's business.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("%w (make the folder first: mkdir -p %s)", err, filepath.Dir(path))
	}
	if err != nil {
		return false, err
	}
	defer f.Close() // and unlocks
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return false, err
	}
	own, err := f.Stat()
	if err != nil {
		return false, err
	}
	if now, err := os.Stat(path); err != nil || !os.SameFile(own, now) {
		return true, nil
	}
	if own.Size() == 0 && os.Geteuid() == 0 { // root may type a command before the master's user runs the bridge
		if folder, err := os.Stat(filepath.Dir(path)); err == nil {
			if owner, ok := folder.Sys().(*syscall.Stat_t); ok {
				_ = f.Chown(int(owner.Uid), int(owner.Gid)) // else only root goes on writing, and the bridge says so
			}
		}
	}
	if _, err := f.Write(lines); err != nil {
		return false, err
	}
	if own.Size()+int64(len(lines)) < max {
		return false, nil
	}
	return false, os.Rename(path, Old(path))
}
