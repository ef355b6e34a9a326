package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"golang.org/x/term"
)

// What every terminal of the last forty years understands (ECMA-48), and of
// xterm's own the alternate screen, which leaves the scrolled text alone.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l" // alternate screen, no cursor
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	home        = "\x1b[H"
	clearLine   = "\x1b[K" // to its end
	clearBelow  = "\x1b[J"
)

// Keys, as a terminal in raw mode sends them.
const (
	ctrlC = 0x03
	ctrlD = 0x04
	ctrlL = 0x0c
)

// screen is a terminal that is drawn on.
type screen struct {
	out *os.File
	was *term.State // of standard input; nil: it is no terminal
}

// openScreen takes the terminal over, or says that w is none: ok is false.
func openScreen(w io.Writer) (s *screen, ok bool, err error) {
	out, isFile := w.(*os.File)
	if name := os.Getenv("TERM"); !isFile || !term.IsTerminal(int(out.Fd())) || name == "" || name == "dumb" {
		return nil, false, nil
	}
	s = &screen{out: out}
	if term.IsTerminal(int(os.Stdin.Fd())) {
		if s.was, err = term.MakeRaw(int(os.Stdin.Fd())); err != nil {
			return nil, true, fmt.Errorf("prepare terminal: %w", err)
		}
	}
	_, err = io.WriteString(out, enterScreen)
	return s, true, err
}

// close gives the terminal back as it was.
func (s *screen) close() {
	_, _ = io.WriteString(s.out, leaveScreen) // it may have gone
	if s.was != nil {
		_ = term.Restore(int(os.Stdin.Fd()), s.was)
	}
}

// draw writes lines over what is there, in one write and without clearing first,
// so that nothing flickers. What does not fit is cut, or scrolled to.
func (s *screen) draw(lines []string, at *scroller) error {
	width, height, err := term.GetSize(int(s.out.Fd()))
	if err != nil || width <= 0 || height <= 0 { // a terminal that does not say
		width, height = 80, 24
	}
	lines = folding(lines, width)
	at.fit(len(lines), height)
	_, err = s.out.Write(frameOf(lines[at.offset:], width, height))
	return err
}

func frameOf(lines []string, width, height int) []byte {
	if len(lines) > height {
		more := fmt.Sprintf("… %d more lines (j, k, space)", len(lines)-height+1)
		lines = append(lines[:height-1:height-1], more)
	}
	var b bytes.Buffer
	b.WriteString(home)
	for i, line := range lines {
		if i > 0 {
			b.WriteString("\r\n") // raw: a line feed alone stays in its column
		}
		b.WriteString(cut(line, width) + clearLine)
	}
	b.WriteString(clearBelow)
	return b.Bytes()
}

// folding folds the lines of a view, but those of decisions, of which there are many.
func folding(lines []string, width int) []string {
	var out []string
	for _, line := range lines {
		if decision.MatchString(line) {
			out = append(out, line)
			continue
		}
		out = append(out, strings.Split(strings.TrimSuffix(foldLines(line+"\n", width), "\n"), "\n")...)
	}
	return out
}

// decision begins a line of the view that is one of the last decisions.
var decision = regexp.MustCompile(`^  \d{4}-\d\d-\d\d `)

func cut(line string, width int) string {
	if runes := []rune(line); len(runes) > width {
		return string(runes[:width-1]) + "…"
	}
	return line
}

// keys sends what is typed, until there is no more. It ends with the process: a
// read of a terminal cannot be called off.
func (s *screen) keys() <-chan byte {
	typed := make(chan byte)
	if s.was == nil {
		return typed
	}
	go func() {
		var b [1]byte
		for {
			if n, err := os.Stdin.Read(b[:]); n != 1 || err != nil {
				typed <- ctrlC // nobody is there any more
				return
			}
			typed <- b[0]
		}
	}()
	return typed
}
