package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Between reads the decisions of a time, oldest first, at most `most` of them: the
// newest. There may be none: no file is no error.
func Between(path string, since, until time.Time, most int) ([]Line, error) {
	var lines []Line
	for _, name := range []string{Old(path), path} {
		text, err := end(name, 2*MaxFile)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read audit trail: %w", err)
		}
		for line := range bytes.Lines(text) {
			l, ok := parse(bytes.TrimSuffix(line, []byte("\n")))
			if ok && !l.Time.Before(since) && l.Time.Before(until) {
				lines = append(lines, l)
			}
		}
		if len(lines) > most {
			lines = newest(lines, most)
		}
	}
	return lines, nil
}

// Oldest returns the time of the first decision that a trail still has; nil: it has none.
func Oldest(path string) (*time.Time, error) {
	for _, name := range []string{Old(path), path} {
		at, err := first(name)
		if errors.Is(err, os.ErrNotExist) || err == nil && at == nil {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read audit trail: %w", err)
		}
		return at, nil
	}
	return nil, nil
}

// first returns the time of a file's first whole decision among its first lines.
func first(name string) (*time.Time, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, tail))
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(text) {
		if l, ok := parse(bytes.TrimSuffix(line, []byte("\n"))); ok {
			return &l.Time, nil
		}
	}
	return nil, nil
}

// newest keeps the newest, and lets go of the memory of the others.
func newest(lines []Line, most int) []Line {
	return append([]Line(nil), lines[len(lines)-most:]...)
}
