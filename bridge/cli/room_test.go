package cli

import (
	"bytes"
	"os"
	"slices"
	"testing"
)

// A last column has all that a terminal leaves for it, and no limit in a pipe or a file.
func TestLastColumn(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	columns, rows := []string{"MINION", "WHY"}, [][]any{{"web-1", "x"}, {"db-master", "y"}}
	if a, b := lastColumn(file, columns, rows), lastColumn(&bytes.Buffer{}, columns, rows); a != 0 || b != 0 {
		t.Errorf("%d in a file, %d in a pipe", a, b)
	}
	for width, want := range map[int]int{20: 20, 60: 49, 80: 69, 132: 121} {
		if got := lastColumn(newTerminal(t, width, 25).tty, columns, rows); got != want {
			t.Errorf("%d of %d, not %d", got, width, want)
		}
	}
	if clip("reason", 0) != "reason" || clip("reason", 4) != "rea…" {
		t.Errorf("%s, %s", clip("reason", 0), clip("reason", 4))
	}
}

func TestFoldLines(t *testing.T) {
	for _, test := range []struct {
		text  string
		width int
		want  string
	}{
		{"short\n", 40, "short\n"},
		{"highstate  one two three four five six seven eight nine\n\nnext\n", 40,
			"highstate  one two three four five six\n           seven eight nine\n\nnext\n"},
		{"highstate  one two three four five six seven eight nine\n", 0,
			"highstate  one two three four five six seven eight nine\n"},
		// A digest has the space that it needs.
		{"12:00:00  key accepted key=0123456789012345678901234567890123\n", 40,
			"12:00:00  key accepted\n  key=0123456789012345678901234567890123\n"},
		{"why  attempt 1 failed (phoenix highstate show web-1; phoenix highstate run web-1)\n", 40,
			"why  attempt 1 failed\n     (phoenix highstate show web-1;\n     phoenix highstate run web-1)\n"},
		{"no label in this line, which is longer than there is space\n", 40,
			"no label in this line, which is longer\nthan there is space\n"},
	} {
		if got := foldLines(test.text, test.width); got != test.want {
			t.Errorf("%q", got)
		}
	}
}

// The live view is folded, its decisions are cut.
func TestFolding(t *testing.T) {
	decision := "  2026-11-27 06:19:42  web-1: key accepted key=0123456789012345678901234567890123"
	got := folding([]string{"MINIONS  COUNT  MEANING", "",
		"adopted  1      its key was accepted before Phoenix managed it", decision}, 44)
	want := []string{"MINIONS  COUNT  MEANING", "", "adopted  1      its key was accepted before",
		"                Phoenix managed it", decision}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
