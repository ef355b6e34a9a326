package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	// scheduleName is where a minion keeps its schedule across restarts.
	scheduleName = "_schedule.conf"
	// alivePrefix begins the name of the job that checks the connection to a
	// master (salt.minion.master_event). Salt means to delete it at a failover, but
	// leaves the address out of the name, so it stays for good (3006 to 3008).
	alivePrefix = "__master_alive_"
)

// RemoveAlive removes from the minion's schedule the jobs that check connections to masters
// which are not on the list. Everything else stays, byte for byte.
func (d *DropIn) RemoveAlive(listed []string) (removed []string, err error) {
	path := filepath.Join(d.minion.DropIns, scheduleName)
	text, err := readSmall(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read schedule: %w", err)
	}
	rest, removed, err := withoutAlive(text, listed)
	if err != nil {
		return nil, fmt.Errorf("read schedule %s: %w", path, err)
	}
	if len(removed) == 0 {
		return nil, nil
	}
	if err := d.replace("schedule", path, rest); err != nil {
		return nil, fmt.Errorf("write schedule: %w", err)
	}
	return removed, nil
}

// withoutAlive removes whole lines, and checks that the rest means the same without those
// jobs. Salt writes the file itself, in block style, without comments.
func withoutAlive(text []byte, listed []string) (rest []byte, removed []string, err error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, nil, err
	}
	jobs, after := scheduled(&doc)
	if jobs == nil {
		return nil, nil, nil
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	if after == 0 {
		after = len(lines) + 1
	}
	cut := make([]bool, len(lines)+1) // by line number, from 1
	for i := 0; i+1 < len(jobs.Content); i += 2 {
		address, alive := strings.CutPrefix(jobs.Content[i].Value, alivePrefix)
		if !alive || slices.Contains(listed, address) {
			continue
		}
		end := after
		if i+2 < len(jobs.Content) {
			end = jobs.Content[i+2].Line
		}
		for n := jobs.Content[i].Line; n < end && n < len(cut); n++ {
			cut[n] = true
		}
		removed = append(removed, address)
	}
	if len(removed) == 0 {
		return nil, nil, nil
	}
	if 2*len(removed) == len(jobs.Content) {
		// "schedule:" with nothing below is None, on which the minion's scheduler
		// ends: "Schedule must be of type dict" (3006 to 3008).
		key := doc.Content[0].Content[keyOf(&doc)]
		lines[key.Line-1] = []byte("schedule: {}\n")
		cut[key.Line] = false
	}
	for i, line := range lines {
		if !cut[i+1] {
			rest = append(rest, line...)
		}
	}
	return rest, removed, sameBut(text, rest, removed)
}

// keyOf returns the index of "schedule" among the file's keys and values; -1: it is not
// there.
func keyOf(doc *yaml.Node) int {
	if len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
		return -1
	}
	top := doc.Content[0].Content
	for i := 0; i+1 < len(top); i += 2 {
		if top[i].Value == "schedule" {
			return i
		}
	}
	return -1
}

// scheduled returns the jobs, and the line after them; 0: nothing follows.
func scheduled(doc *yaml.Node) (jobs *yaml.Node, after int) {
	i := keyOf(doc)
	if i < 0 || doc.Content[0].Content[i+1].Kind != yaml.MappingNode {
		return nil, 0
	}
	top := doc.Content[0].Content
	if i+2 < len(top) {
		after = top[i+2].Line
	}
	return top[i+1], after
}

// sameBut returns an error unless rest means what text does without the removed jobs.
func sameBut(text, rest []byte, removed []string) error {
	var before, after map[string]any
	if err := errors.Join(yaml.Unmarshal(text, &before), yaml.Unmarshal(rest, &after)); err != nil {
		return err
	}
	jobs, ok := before["schedule"].(map[string]any)
	if !ok {
		return errors.New("is not written as Salt writes it")
	}
	for _, address := range removed {
		delete(jobs, alivePrefix+address)
	}
	if !reflect.DeepEqual(before, after) {
		return errors.New("is not written as Salt writes it")
	}
	return nil
}
