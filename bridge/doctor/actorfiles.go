package doctor

import (
	"bufio"
	"bytes"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"phoenix/bridge/salt"
)

// sls are the state files below a folder.
func sls(root string) (paths []string) {
	_ = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil // what cannot be read, Salt cannot either
		}
		if e.Type().IsRegular() && strings.HasSuffix(path, ".sls") {
			paths = append(paths, path)
		}
		if len(paths) > maxOrchestrations {
			return fs.SkipAll
		}
		return nil
	})
	return paths
}

// roots are the folders of an option like file_roots, of all environments.
func roots(c salt.Config, option, otherwise string) (dirs []string) {
	byEnv, ok := c.Options[option].(map[string]any)
	if !ok {
		return []string{otherwise}
	}
	for _, folders := range byEnv {
		dirs = append(dirs, list(folders)...)
	}
	slices.Sort(dirs)
	return dirs
}

// list is a text, or the texts of a list.
func list(v any) (out []string) {
	switch v := v.(type) {
	case string:
		out = append(out, v)
	case []any:
		for _, x := range v {
			if text, ok := x.(string); ok {
				out = append(out, text)
			}
		}
	}
	return out
}

// jinjaComment is what no renderer sees.
var jinjaComment = regexp.MustCompile(`(?s)\{#.*?#\}`)

func withoutComments(text []byte) []byte {
	var rest []byte
	lines := bufio.NewScanner(bytes.NewReader(jinjaComment.ReplaceAll(text, nil)))
	lines.Buffer(nil, maxFile)
	for lines.Scan() {
		if line := bytes.TrimSpace(lines.Bytes()); !bytes.HasPrefix(line, []byte("#")) ||
			bytes.HasPrefix(line, []byte("#!")) {
			rest = append(append(rest, lines.Bytes()...), '\n')
		}
	}
	return rest
}
