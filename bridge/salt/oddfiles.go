package salt

import (
	"crypto/sha256"
	"io/fs"
	"sync"
	"time"

	"phoenix/bridge/fleet"
)

const (
	// stableAfter: a text that is no key, and has not changed for that long, is not
	// being written any more. Salt writes a key in a single call, within milliseconds.
	stableAfter = 5 * time.Second
	// maxOddFiles bounds the memory for files of unlisted minions to some 2 MB. A file
	// that is forgotten is unsettled again.
	maxOddFiles = 10_000
)

// whole reports whether a text is a public key from its first line to its last.
func whole(text []byte) bool {
	_, err := fleet.KeyDigest(text)
	return err == nil
}

// oddFiles remembers files whose texts are no keys. Only what was seen, and this
// machine's monotonic clock, count, because the file server sets the time of a file. The
// zero oddFiles is ready.
type oddFiles struct {
	mu   sync.Mutex
	seen map[string]oddFile
}

type oddFile struct {
	size  int64
	mtime time.Time
	sum   [sha256.Size]byte
	first time.Time // when it was first seen so
}

// unchanged reports whether the file had that text stableAfter ago or earlier, and was
// not seen with another one since.
func (l *oddFiles) unchanged(name string, info fs.FileInfo, text []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := oddFile{size: info.Size(), mtime: info.ModTime(), sum: sha256.Sum256(text), first: time.Now()}
	old, known := l.seen[name]
	if known && old.size == now.size && old.mtime.Equal(now.mtime) && old.sum == now.sum {
		return now.first.Sub(old.first) >= stableAfter
	}
	if l.seen == nil {
		l.seen = map[string]oddFile{}
	}
	if !known && len(l.seen) >= maxOddFiles {
		for other := range l.seen { // any one
			delete(l.seen, other)
			break
		}
	}
	l.seen[name] = now
	return false
}

// forget drops what is remembered of a file.
func (l *oddFiles) forget(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.seen, name)
}
