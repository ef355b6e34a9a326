package salt

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// killDir tells a child process which key store to write.
const killDir = "PHOENIX_TEST_KEYS"

// TestWritesUntilKilled is that child.
func TestWritesUntilKilled(t *testing.T) {
	dir := os.Getenv(killDir)
	if dir == "" {
		t.Skip("for TestG8KilledWhileKeysAreWritten")
	}
	keys := map[string][]byte{}
	for i := range 2000 {
		keys[fmt.Sprintf("i-%04d", i)] = killKey(i)
	}
	fmt.Println("begins")
	_, _, err := (&Keys{dir: dir}).WriteAccepted(keys)
	check(t, err)
}

// killKey is a text that shows whether it is whole.
func killKey(i int) []byte { return fmt.Appendf(nil, "%d%s%d", i, strings.Repeat("k", 4096), i) }

// TestG8KilledWhileKeysAreWritten: no key that is there is less than whole, the next
// start writes the rest, and what was left behind goes.
func TestG8KilledWhileKeysAreWritten(t *testing.T) {
	k, dir := keyStore(t)
	killed := 0
	for round := range 12 {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestWritesUntilKilled$")
		cmd.Env = append(os.Environ(), killDir+"="+dir)
		out, err := cmd.StdoutPipe()
		check(t, err)
		check(t, cmd.Start())
		begins := make([]byte, len("begins"))
		_, _ = out.Read(begins)
		timer := time.NewTimer(time.Duration(round) * 3 * time.Millisecond)
		<-timer.C
		check(t, cmd.Process.Kill())
		if cmd.Wait() != nil {
			killed++
		}
		entries, err := os.ReadDir(filepath.Join(dir, "minions"))
		check(t, err)
		for _, e := range entries {
			var i int
			if _, err := fmt.Sscanf(e.Name(), "i-%04d", &i); err != nil {
				t.Errorf("%s is in the folder that Salt lists", e.Name())
				continue
			}
			if text, err := os.ReadFile(filepath.Join(dir, "minions", e.Name())); err != nil ||
				!bytes.Equal(text, killKey(i)) {
				t.Fatalf("%s has %d bytes, %v", e.Name(), len(text), err)
			}
		}
	}
	if killed == 0 {
		t.Error("no child was killed")
	}
	old := time.Now().Add(-2 * leftAfter)
	left, err := filepath.Glob(filepath.Join(dir, tempStem+"*"))
	check(t, err)
	for _, path := range left {
		check(t, os.Chtimes(path, old, old))
	}
	t.Logf("%d of 12 children were killed, %d temporary files left", killed, len(left))
	keys, ids := map[string][]byte{}, []string{}
	for i := range 2000 {
		ids = append(ids, fmt.Sprintf("i-%04d", i))
		keys[ids[i]] = killKey(i)
	}
	if _, faults, err := k.WriteAccepted(keys); err != nil || len(faults) > 0 {
		t.Fatal(faults, err)
	}
	nothingLeft(t, dir, ids...)
}
