package salt

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ErrID is returned for an id that must not reach Salt or a path.
var ErrID = errors.New("not a minion id that Phoenix works with")

// maxID is the longest name of a file, and each id is one.
const maxID = 255

// checkID refuses what Salt would read as more than one id, or a file system as
// another file. Salt holds "*", "i-*" and "a,b" for valid ids (tried on all
// three), so it is no help. Which ids belong to the fleet is not decided here.
func checkID(id string) error {
	odd := func(r rune) bool {
		return unicode.IsControl(r) || unicode.IsSpace(r) || strings.ContainsRune(`/\*?[],`, r)
	}
	if id == "" || len(id) > maxID || id[0] == '.' || !utf8.ValidString(id) || strings.ContainsFunc(id, odd) {
		return fmt.Errorf("%.64q: %w", id, ErrID)
	}
	return nil
}

func checkIDs(ids []string) error {
	for _, id := range ids {
		if err := checkID(id); err != nil {
			return err
		}
	}
	return nil
}
