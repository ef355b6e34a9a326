package salt

import (
	"crypto/sha256"
	"io/fs"
	"sync"
	"time"

	"phoenix/bridge/fleet"
)

const (
	// settleAfter: a text that is no key, and that stayed the same for so long, is not
	// being written any more. Salt writes one in a single call, within milliseconds.
	settleAfter = 5 * time.Second
	// maxLooks bounds what strangers who send no keys can make us remember, to some
	// 2 MB. What is forgotten is unsettled again.
	maxLooks = 10_000
)

// whole says whether a text is a public key from its first line to its last.
func whole(text []byte) bool {
	_, err := fleet.KeyDigest(text)
	return err == nil
}

// looks remembers files whose texts are no keys. Only what was seen, and this
// machine's monotonic clock, counts: the time of a file is the file server's. The
// zero looks is ready.
type looks struct {
	mu   sync.Mutex
	seen map[string]look
}

type look struct {
	size  int64
	mtime time.Time
	sum   [sha256.Size]byte
	first time.Time // when it was first seen so
}

// settled says whether a file was seen with that text before, settleAfter ago at
// least, and not otherwise since.
func (l *looks) settled(name string, info fs.FileInfo, text []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := look{size: info.Size(), mtime: info.ModTime(), sum: sha256.Sum256(text), first: time.Now()}
	old, known := l.seen[name]
	if known && old.size == now.size && old.mtime.Equal(now.mtime) && old.sum == now.sum {
		return now.first.Sub(old.first) >= settleAfter
	}
	if l.seen == nil {
		l.seen = map[string]look{}
	}
	if !known && len(l.seen) >= maxLooks {
		for other := range l.seen { // any one
			delete(l.seen, other)
			break
		}
	}
	l.seen[name] = now
	return false
}

// forget drops what is remembered of a file.
func (l *looks) forget(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.seen, name)
}
