package salt

import (
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

// includes reads the files that patterns name, as salt.config.include_config
// does: relative to the folder of the file that names them, sorted, later files
// over earlier ones. A file with a fault counts as empty there, so it does here;
// skipped reports it.
func includes(patterns any, from string, depth int) (opts map[string]any, skipped []error, err error) {
	opts = map[string]any{}
	if depth > maxIncludes {
		return nil, nil, &fault{from, errors.New("files include one another without end")}
	}
	for _, pattern := range texts(patterns) {
		pattern = expandUser(pattern)
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(filepath.Dir(from), pattern)
		}
		for _, path := range glob(pattern) {
			one, err := readYAML(path)
			if f := (*fault)(nil); errors.As(err, &f) {
				skipped = append(skipped, err)
				continue
			} else if err != nil {
				return nil, nil, err
			}
			textID(one)
			nested, more, err := includes(one["include"], path, depth+1)
			if err != nil {
				return nil, nil, err
			}
			skipped = append(skipped, more...)
			for k, v := range nested {
				one[k] = v
			}
			merge(opts, one)
		}
	}
	return opts, skipped, nil
}

// maxIncludes ends files that include each other. (Salt ends there by Python's
// limit of recursion.)
const maxIncludes = 32

// merge is salt.utils.dictupdate.update with lists joined: maps grow together,
// lists are appended without what is there already, everything else is replaced.
func merge(dest, from map[string]any) {
	for k, v := range from {
		switch old := dest[k].(type) {
		case map[string]any:
			if v, ok := v.(map[string]any); ok {
				merge(old, v)
				continue
			}
		case []any:
			if v, ok := v.([]any); ok {
				for _, x := range v {
					if !slices.ContainsFunc(old, func(o any) bool { return reflect.DeepEqual(o, x) }) {
						old = append(old, x)
					}
				}
				v = old
				dest[k] = v
				continue
			}
		}
		dest[k] = v
	}
}

// glob is Python's: sorted, "[!x]" for "not x", and no wildcard matches a
// leading dot.
func glob(pattern string) []string {
	found, err := filepath.Glob(strings.ReplaceAll(pattern, "[!", "[^"))
	if err != nil {
		return nil
	}
	want := strings.Split(pattern, "/")
	found = slices.DeleteFunc(found, func(path string) bool {
		for i, part := range strings.Split(path, "/") {
			if strings.HasPrefix(part, ".") && i < len(want) && !strings.HasPrefix(want[i], ".") {
				return true
			}
		}
		return false
	})
	slices.Sort(found)
	return found
}

func expandUser(path string) string {
	if !strings.HasPrefix(path, "~") {
		return path
	}
	name, rest, _ := strings.Cut(path[1:], "/")
	home := os.Getenv("HOME")
	if name != "" {
		u, err := user.Lookup(name)
		if err != nil {
			return path
		}
		home = u.HomeDir
	}
	return filepath.Join(home, rest)
}

// texts is a string, or the strings of a list.
func texts(v any) []string {
	switch v := v.(type) {
	case string:
		if v != "" {
			return []string{v}
		}
	case []any:
		var list []string
		for _, x := range v {
			if s, ok := x.(string); ok {
				list = append(list, s)
			}
		}
		return list
	}
	return nil
}
