package cli

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
)

// Words that matter are coloured on a terminal, and nowhere else; columns stay where they
// are.
func TestColours(t *testing.T) {
	tty := newTerminal(t, 80, 25).tty
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	if _, is := paint(tty).(painter); !is {
		t.Error("a terminal gets no colours")
	}
	for name, value := range map[string]string{"NO_COLOR": "1", "TERM": "dumb"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, value)
			if paint(tty) != io.Writer(tty) {
				t.Error("coloured")
			}
		})
	}
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if paint(file) != io.Writer(file) {
		t.Error("a file is coloured")
	}

	var plainly, painted bytes.Buffer
	for _, w := range []io.Writer{&plainly, painter{&painted}} {
		tab := newTable(w, "MINION", "OUTCOME", "AGE")
		tab.row("web-1", "failed", "1s")
		tab.row("failed-2", "succeeded", "2s")
		if err := tab.flush(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, "error    auto-accept  it failed\nANOTHER KEY: web-1\n"); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"web-1     " + red + "failed" + normal + "     1s",
		"failed-2  " + green + "succeeded" + normal + "  2s",
		red + "error" + normal + "    auto-accept  it failed", red + "ANOTHER KEY" + normal + ": web-1"} {
		if !strings.Contains(painted.String(), want) {
			t.Errorf("no %q in %q", want, painted.String())
		}
	}
	uncoloured := strings.NewReplacer(red, "", green, "", yellow, "", normal, "").Replace(painted.String())
	if uncoloured != plainly.String() {
		t.Errorf("%q, without colours %q", uncoloured, plainly.String())
	}
}
