package salt

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"phoenix/bridge/files"
)

// maxConfig bounds one file of Salt's configuration. Salt's own, with all comments,
// has 50 KB.
const maxConfig = 16 << 20

// maxNodes bounds what a configuration may unfold to: aliases of aliases grow
// without end.
const maxNodes = 100_000

// fault is what is wrong with a configuration file, and in which line.
type fault struct {
	path string
	err  error
}

func (f *fault) Error() string { return fmt.Sprintf("read %s: %v", f.path, f.err) }
func (f *fault) Unwrap() error { return f.err }

// readYAML reads one file as Salt does: YAML 1.1 by PyYAML, with Salt's changes
// to it (salt/utils/yamlloader.py, alike in 3006, 3007 and 3008). An empty file
// is an empty map.
func readYAML(path string) (map[string]any, error) {
	text, err := files.Read(path, maxConfig)
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(text) { // Salt ends there, whichever file it is
		return nil, fmt.Errorf("read %s: %w", path, errNotUTF8)
	}
	if at := bytes.LastIndex(text, byteOrderMark); at > 0 { // yaml/v3 passes over one anywhere
		return nil, &fault{path, fmt.Errorf("line %d: a byte order mark", 1+bytes.Count(text[:at], []byte("\n")))}
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return map[string]any{}, nil
	} else if err != nil {
		return nil, &fault{path, errors.New(strings.TrimPrefix(err.Error(), "yaml: "))}
	}
	var more yaml.Node
	if err := dec.Decode(&more); err == nil {
		return nil, &fault{path, fmt.Errorf("line %d: a second document begins", more.Line)}
	} else if !errors.Is(err, io.EOF) {
		return nil, &fault{path, errors.New(strings.TrimPrefix(err.Error(), "yaml: "))}
	}
	l := loader{left: maxNodes}
	v, err := l.value(doc.Content[0])
	if err != nil {
		return nil, &fault{path, err}
	}
	switch v := v.(type) {
	case map[string]any:
		return v, nil
	case nil:
		return map[string]any{}, nil
	}
	return nil, &fault{path, fmt.Errorf("line %d: not a mapping of options", doc.Content[0].Line)}
}

var byteOrderMark = []byte("\ufeff")

var errNotUTF8 = errors.New("it is not UTF-8, and Salt does not start with it")

// loader turns nodes into nil, bool, int, float64, string, []any and map[string]any.
type loader struct{ left int }

func (l *loader) value(n *yaml.Node) (any, error) {
	if l.left--; l.left < 0 {
		return nil, fmt.Errorf("line %d: more than %d values", n.Line, maxNodes)
	}
	if n.Style&yaml.TaggedStyle != 0 && !tags[n.ShortTag()] {
		return nil, fmt.Errorf("line %d: Salt knows no tag %s", n.Line, n.ShortTag())
	}
	switch n.Kind {
	case yaml.AliasNode:
		return l.value(n.Alias)
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, c := range n.Content {
			v, err := l.value(c)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case yaml.MappingNode:
		return l.mapping(n)
	}
	return scalar(n)
}

// tags are those that Salt's loader takes in files of options: PyYAML's SafeLoader's,
// and one of Python 2 (salt/utils/yamlloader.py).
var tags = map[string]bool{"!!null": true, "!!bool": true, "!!int": true, "!!float": true, "!!binary": true,
	"!!timestamp": true,
	"!!omap":      true, "!!pairs": true, "!!set": true, "!!str": true, "!!seq": true, "!!map": true,
	"!!python/unicode": true}

func (l *loader) mapping(n *yaml.Node) (map[string]any, error) {
	m := make(map[string]any, len(n.Content)/2)
	merged, seen := map[string]any{}, map[any]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, c := n.Content[i], n.Content[i+1]
		v, err := l.value(c)
		if err != nil {
			return nil, err
		}
		if k.ShortTag() == "!!merge" {
			if err := l.merge(merged, c, v); err != nil {
				return nil, err
			}
			continue
		}
		if k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		if k.Kind != yaml.ScalarNode {
			return nil, fmt.Errorf("line %d: a key that is no scalar", k.Line)
		}
		key, err := l.value(k)
		if err != nil {
			return nil, err
		}
		if seen[key] { // Salt refuses what PyYAML lets pass
			return nil, fmt.Errorf("line %d: %q stands there twice", k.Line, k.Value)
		}
		seen[key] = true
		// 1 and "1" are two keys. Only texts name options, so these go first.
		if name, ok := key.(string); ok {
			m[name] = v
		} else if !seen[k.Value] {
			m[k.Value] = v
		}
	}
	for name, v := range merged {
		if _, ok := m[name]; !ok {
			m[name] = v
		}
	}
	return m, nil
}

// merge takes in what a "<<" stands for: a mapping, or a list of them. Salt
// refuses a name that two of the list have.
func (l *loader) merge(merged map[string]any, n *yaml.Node, v any) error {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	for _, v := range list {
		from, ok := v.(map[string]any)
		if !ok {
			return fmt.Errorf("line %d: << with what is no mapping", n.Line)
		}
		for name, v := range from {
			if _, ok := merged[name]; ok {
				return fmt.Errorf("line %d: %q comes in twice", n.Line, name)
			}
			merged[name] = v
		}
	}
	return nil
}

// scalar resolves by YAML 1.1, which PyYAML speaks and yaml/v3 does not: yes,
// no, on and off are booleans, 10:30 is 630. Timestamps stay as they are written, as
// in Salt's own loader.
func scalar(n *yaml.Node) (any, error) {
	plain := n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
	tag := ""
	if n.Style&yaml.TaggedStyle != 0 {
		tag = n.ShortTag()
	}
	if tag == "!!str" || tag == "!!python/unicode" || tag == "" && !plain {
		return n.Value, nil
	}
	if tag == "" {
		switch n.Value {
		case "=", "<<":
			return nil, fmt.Errorf("line %d: Salt knows no value %s (quote it)", n.Line, n.Value)
		}
	}
	v := resolve(n.Value)
	switch tag { // what is quoted is resolved, too, under such a tag
	case "!!bool", "!!int", "!!float":
		if _, text := v.(string); text {
			return nil, fmt.Errorf("line %d: %q is no %s", n.Line, n.Value, strings.TrimPrefix(tag, "!!"))
		}
	}
	return v, nil
}

// resolve is what a plain text stands for.
func resolve(text string) any {
	switch text {
	case "", "~", "null", "Null", "NULL":
		return nil
	case "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON":
		return true
	case "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF":
		return false
	}
	if i, ok := integer(text); ok {
		return i
	}
	if f, ok := float(text); ok {
		return f
	}
	return text
}
