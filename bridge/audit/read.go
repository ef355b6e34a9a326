package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// Line is one decision.
type Line struct {
	Time   time.Time
	Text   string // what was decided
	Minion string
	More   []string // "key=value", in the order in which they were written

	raw json.RawMessage
}

// MarshalJSON returns the line as it stands in the file.
func (l Line) MarshalJSON() ([]byte, error) { return l.raw, nil }

// tail is as much of the trail's end as holds its last decisions, whosever.
const tail = 64 << 10

// Last reads the last n decisions about a minion, the newest at the end; of an
// empty id, the last of all. There may be none: no file is no error.
func Last(path, id string, n int) ([]Line, error) {
	mark, most := []byte(nil), int64(2*MaxFile) // a file may end past its bound, by one batch
	if id == "" {
		most = tail
	} else {
		mark = markOf(id)
	}
	var lines []Line
	for _, name := range []string{path, Old(path)} {
		text, err := end(name, most)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read audit trail: %w", err)
		}
		for len(text) > 0 && len(lines) < n {
			text = bytes.TrimSuffix(text, []byte("\n"))
			begin := bytes.LastIndexByte(text, '\n') + 1
			line := text[begin:]
			text = text[:begin]
			if !bytes.Contains(line, mark) {
				continue
			}
			// A line that was cut, by a crash or at the tail's begin, is left out.
			if l, ok := parse(line); ok && (id == "" || l.Minion == id) {
				lines = append(lines, l)
			}
		}
	}
	slices.Reverse(lines)
	return lines, nil
}

// markOf is how slog writes the id, which escapes less than encoding/json does.
func markOf(id string) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(id) // a string cannot fail
	return append([]byte(`"minion":`), bytes.TrimSpace(b.Bytes())...)
}

// end reads up to most bytes of the end of a file.
func end(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	from := max(info.Size()-most, 0)
	return io.ReadAll(io.NewSectionReader(f, from, info.Size()-from))
}

// parse reads a line as slog writes it.
func parse(line []byte) (Line, bool) {
	if !json.Valid(line) {
		return Line{}, false
	}
	l := Line{raw: bytes.Clone(line)}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.UseNumber()
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return Line{}, false
	}
	for dec.More() {
		key, err := dec.Token()
		var value json.RawMessage
		if err != nil || dec.Decode(&value) != nil {
			return Line{}, false
		}
		text := string(value)
		var unquoted string
		if json.Unmarshal(value, &unquoted) == nil {
			text = unquoted
		}
		switch key {
		case "time":
			l.Time, err = time.Parse(time.RFC3339Nano, text)
			if err != nil {
				return Line{}, false
			}
		case "msg":
			l.Text = text
		case "minion":
			l.Minion = text
		case "level":
		default:
			if text != "" {
				if strings.Contains(text, " ") {
					text = string(value)
				}
				l.More = append(l.More, fmt.Sprint(key)+"="+text)
			}
		}
	}
	return l, l.Text != ""
}
