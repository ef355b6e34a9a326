package files

import (
	"cmp"
	"os"
)

// SyncFolder makes it durable that a file in the folder was made, renamed or removed.
func SyncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return cmp.Or(dir.Sync(), dir.Close())
}
