package doctor

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Unit is what a unit of systemd says about how its service ends.
type Unit struct {
	Path           string // empty: there is none
	KillMode       string // empty: systemd's default, control-group
	TimeoutStopSec int    // 0: systemd's default
}

// unitFolders are where systemd finds units, the first wins (systemd.unit(5)).
var unitFolders = []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system",
	"/usr/lib/systemd/system", "/lib/systemd/system"}

// readUnit reads a unit and its drop-ins, which systemd sorts by their names whatever
// folder they are in.
func readUnit(name string, folders []string) (u Unit) {
	for _, folder := range folders {
		if path := filepath.Join(folder, name); u.Path == "" && exists(path) {
			u.Path = path
			u.read(path)
		}
	}
	if u.Path == "" {
		return u
	}
	dropIns := map[string]string{}
	for _, folder := range slices.Backward(folders) {
		paths, _ := filepath.Glob(filepath.Join(folder, name+".d", "*.conf"))
		for _, path := range paths {
			dropIns[filepath.Base(path)] = path
		}
	}
	names := make([]string, 0, len(dropIns))
	for name := range dropIns {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		u.read(dropIns[name])
	}
	return u
}

func (u *Unit) read(path string) {
	_ = lines(path, func(line string) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(name) {
		case "KillMode":
			u.KillMode = value
		case "TimeoutStopSec", "TimeoutSec":
			u.TimeoutStopSec = 0
			if ok && value != "" {
				u.TimeoutStopSec = span(value)
			}
		}
	})
}

// span reads "90", "90s", "5min", "1min 30s" as systemd.time(7) does; 0 for what it
// does not understand, and for infinity.
func span(text string) int {
	if n, err := strconv.Atoi(text); err == nil {
		return n
	}
	total := 0.0
	for field := range strings.FieldsSeq(text) {
		field = strings.NewReplacer("min", "m", "sec", "s").Replace(field)
		d, err := time.ParseDuration(field)
		if err != nil {
			return 0
		}
		total += d.Seconds()
	}
	return int(total)
}

// Reach is what became of a master that was asked for.
type Reach struct {
	NameErr error // no address is known
	Closed  []int // ports on which nothing answers
}
