package salt

import (
	"errors"
	"fmt"

	"go.yaml.in/yaml/v3"

	"phoenix/bridge/files"
)

// Reaction is what a master's reactor does about events whose tags match.
type Reaction struct {
	Tag   string // a glob, by Python's fnmatch
	Files []string
}

// maxReactor bounds a reactor that stands in a file of its own.
const maxReactor = 1 << 20

// readReactor reads the option reactor: a list, or the name of a file that holds
// one (salt.utils.reactor.Reactor.list_reactors). Entries that Salt passes over
// are passed over.
func readReactor(option any) ([]Reaction, error) {
	if path, ok := option.(string); ok && path != "" {
		text, err := files.Read(path, maxReactor)
		var doc yaml.Node
		if err == nil {
			err = yaml.Unmarshal(text, &doc)
		}
		if err == nil && len(doc.Content) == 0 {
			err = errors.New("it is empty")
		}
		if err != nil {
			return nil, fmt.Errorf("read reactor %s: %w", path, err)
		}
		l := loader{left: maxNodes}
		if option, err = l.value(doc.Content[0]); err != nil {
			return nil, &fault{path, err}
		}
	}
	list, _ := option.([]any)
	var found []Reaction
	for _, entry := range list {
		one, ok := entry.(map[string]any)
		if !ok || len(one) != 1 {
			continue
		}
		for tag, files := range one {
			found = append(found, Reaction{Tag: tag, Files: texts(files)})
		}
	}
	return found, nil
}
