package cli

import (
	"bytes"
	"os"
	"testing"
)

// A last column is cut on a terminal alone, and uses the width there is.
func TestRoom(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if a, b := room(file, 44), room(&bytes.Buffer{}, 44); a != 0 || b != 0 {
		t.Errorf("%d in a file, %d in a pipe", a, b)
	}
	for width, want := range map[int]int{60: 44, 80: 44, 132: 96} {
		if got := room(newTerminal(t, width, 25).tty, 44); got != want {
			t.Errorf("%d of %d, not %d", got, width, want)
		}
	}
	if clip("reason", 0) != "reason" || clip("reason", 4) != "rea…" {
		t.Errorf("%s, %s", clip("reason", 0), clip("reason", 4))
	}
}
