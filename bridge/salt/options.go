package salt

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
)

// readOptions reads the file, what its drop-ins add (role.d/*.conf), and what it
// includes. Master and minion do it alike.
func readOptions(path, role string) (opts map[string]any, skipped []error, err error) {
	opts, err = readYAML(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && Configured(path, role):
		opts = map[string]any{}
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, fmt.Errorf("read %s configuration: %w (salt_config names the file)", role, err)
	case err != nil:
		return nil, nil, fmt.Errorf("read %s configuration: %w", role, err)
	}
	textID(opts)
	include := opts["include"] // of the main file alone, as Salt has it
	defaults, ok := opts["default_include"]
	if !ok {
		defaults = role + ".d/*.conf"
	}
	for _, patterns := range []any{defaults, include} {
		more, faults, err := includes(patterns, path, 0)
		if err != nil {
			return nil, nil, fmt.Errorf("read %s configuration: %w", role, err)
		}
		skipped = append(skipped, faults...)
		for k, v := range more {
			opts[k] = v
		}
	}
	return opts, skipped, nil
}

// underRoot is salt.config.prepend_root_dir: a path already below root_dir
// stays, every other one, absolute or not, goes below it.
func underRoot(root, path string) string {
	if rest, ok := strings.CutPrefix(path, strings.TrimSuffix(root, "/")+"/"); ok {
		path = "/" + rest
	}
	// Cleaned before it is joined: Salt lets no absolute path climb out.
	return filepath.Join(root, filepath.Clean(path))
}

// textID makes an id that YAML takes for a number, a boolean or nothing the
// text that Python makes of it.
func textID(opts map[string]any) {
	switch id := opts["id"].(type) {
	case int:
		opts["id"] = strconv.Itoa(id)
	case float64:
		opts["id"] = python(id)
	case bool:
		opts["id"] = map[bool]string{true: "True", false: "False"}[id]
	case nil:
		if _, ok := opts["id"]; ok {
			opts["id"] = "None"
		}
	}
}

// truth is Python's, of what YAML makes.
func truth(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case int:
		return v != 0
	case float64:
		return v != 0
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return true
}

// options returns typed options and collects what does not fit.
type options struct {
	opts   map[string]any
	faults []error
}

// text is a text. Salt reads a file that sets one to nothing, and then does not start
// with it.
func (o *options) text(name, otherwise string) string {
	switch v := o.opts[name].(type) {
	case nil:
		if _, set := o.opts[name]; set && !optional[name] {
			o.faults = append(o.faults, fmt.Errorf("%s is set to nothing, and Salt does not start with that", name))
		}
		return otherwise
	case string:
		return v
	default:
		o.faults = append(o.faults, fmt.Errorf("%s is %v, not a text", name, v))
		return otherwise
	}
}

// optional are texts that Salt's own defaults set to nothing.
var optional = map[string]bool{"cluster_id": true, "id": true}

func (o *options) port(name string, otherwise int) int {
	v := o.opts[name]
	if s, ok := v.(string); ok { // quoted: ZeroMQ's addresses are texts, so it works there
		if i, err := strconv.Atoi(s); err == nil {
			v = i
		}
	}
	switch p := v.(type) {
	case nil:
		return otherwise
	case int:
		if p > 0 && p < 1<<16 {
			return p
		}
	}
	o.faults = append(o.faults, fmt.Errorf("%s is %v, not a port", name, v))
	return otherwise
}
