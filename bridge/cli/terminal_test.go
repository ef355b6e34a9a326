package cli

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// beMain makes the test's own binary the program, for tests that need a process.
const beMain = "PHOENIX_TEST_IS_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(beMain) != "" {
		os.Exit(Main(version))
	}
	testscript.Main(m, map[string]func(){"phoenix": program})
}

// terminal is one of the kernel's, with a screen that understands what we send and
// complains about the rest.
type terminal struct {
	t        *testing.T
	keyboard *os.File // and screen: the kernel's other end
	tty      *os.File
	before   unix.Termios

	mu        sync.Mutex
	grid      [][]rune // the alternate screen
	scrolled  strings.Builder
	row, col  int
	alternate bool
	hidden    bool // the cursor
	drawn     int  // frames
	cleared   int  // whole screens, which flickers
	unknown   []string
}

func newTerminal(t *testing.T, width, height int) *terminal {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keyboard.Close() })
	fd := int(keyboard.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tty.Close() })
	term := &terminal{t: t, keyboard: keyboard, tty: tty}
	before, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	term.before = *before
	term.resize(width, height)
	go term.show()
	return term
}

func (term *terminal) resize(width, height int) {
	term.mu.Lock()
	grid := make([][]rune, height)
	for i := range grid {
		grid[i] = []rune(strings.Repeat(" ", width))
		if i < len(term.grid) {
			copy(grid[i], term.grid[i])
		}
	}
	term.grid = grid
	term.mu.Unlock()
	if err := unix.IoctlSetWinsize(int(term.keyboard.Fd()), unix.TIOCSWINSZ,
		&unix.Winsize{Row: uint16(height), Col: uint16(width)}); err != nil {
		term.t.Error(err)
	}
}

// show reads what is written until the terminal is closed.
func (term *terminal) show() {
	buf, rest := make([]byte, 64<<10), ""
	for {
		n, err := term.keyboard.Read(buf)
		if err != nil {
			return
		}
		term.mu.Lock()
		rest = term.write(rest + string(buf[:n]))
		term.mu.Unlock()
	}
}

// write takes in text, and returns the begin of a sequence that is not all there.
func (term *terminal) write(text string) string {
	for text != "" {
		if text[0] != 0x1b {
			r, size := rune(text[0]), 1
			if r >= 0x80 {
				for size < len(text) && text[size]&0xc0 == 0x80 {
					size++
				}
				if r = []rune(text[:size])[0]; r == 0xfffd && len(text) < 4 {
					return text
				}
			}
			term.put(r)
			text = text[size:]
			continue
		}
		end := strings.IndexFunc(text, func(r rune) bool { return r >= '@' && r <= '~' && r != '[' })
		if end < 0 {
			return text
		}
		term.control(text[:end+1])
		text = text[end+1:]
	}
	return ""
}

func (term *terminal) put(r rune) {
	switch {
	case !term.alternate:
		term.scrolled.WriteRune(r)
	case r == '\r':
		term.col = 0
	case r == '\n':
		term.row++
	case r < ' ' || term.row >= len(term.grid) || term.col >= len(term.grid[term.row]):
		// A line that is too long would wrap, one too many would scroll.
		term.unknown = append(term.unknown, fmt.Sprintf("%q in line %d, column %d", r, term.row, term.col))
	default:
		term.grid[term.row][term.col] = r
		term.col++
	}
}

func (term *terminal) control(sequence string) {
	blank := func(row, from int) {
		if row < len(term.grid) {
			for i := from; i < len(term.grid[row]); i++ {
				term.grid[row][i] = ' '
			}
		}
	}
	switch sequence {
	case "\x1b[?1049h":
		term.alternate = true
		term.row, term.col = 0, 0
	case "\x1b[?1049l":
		term.alternate = false
	case "\x1b[?25l":
		term.hidden = true
	case "\x1b[?25h":
		term.hidden = false
	case "\x1b[H":
		term.row, term.col = 0, 0
	case "\x1b[K":
		blank(term.row, term.col)
	case "\x1b[J":
		if term.row == 0 && term.col == 0 {
			term.cleared++
		}
		blank(term.row, term.col)
		for row := term.row + 1; row < len(term.grid); row++ {
			blank(row, 0)
		}
		term.drawn++
	default:
		term.unknown = append(term.unknown, fmt.Sprintf("%q", sequence))
	}
}

// lines is what is on the screen.
func (term *terminal) lines() []string {
	term.mu.Lock()
	defer term.mu.Unlock()
	lines := make([]string, len(term.grid))
	for i, row := range term.grid {
		lines[i] = strings.TrimRight(string(row), " ")
	}
	return lines
}

// patience bounds what must come soon, on a machine that is busy.
const patience = 30 * time.Second

// await waits until the screen is as it shall be.
func (term *terminal) await(what string, ok func(lines []string) bool) {
	term.t.Helper()
	end := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok(term.lines()) {
		select {
		case <-tick.C:
		case <-end:
			term.t.Fatalf("%s: not within %v; the screen is\n%s\n%s", what, patience, strings.Join(term.lines(), "\n"),
				term.scrolled.String())
		}
	}
}

func (term *terminal) press(keys string) {
	if _, err := term.keyboard.WriteString(keys); err != nil {
		term.t.Error(err)
	}
}

// start runs phoenix on the terminal.
func (term *terminal) start(env []string, args ...string) *exec.Cmd {
	term.t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(append(os.Environ(), beMain+"=1", "TERM=xterm"), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = term.tty, term.tty, term.tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		term.t.Fatal(err)
	}
	term.t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd
}

// restored: whoever had the terminal before finds it as it was.
func (term *terminal) restored() {
	term.t.Helper()
	after, err := unix.IoctlGetTermios(int(term.tty.Fd()), unix.TCGETS)
	if err != nil {
		term.t.Fatal(err)
	}
	if *after != term.before {
		term.t.Errorf("the terminal's modes are %+v, and were %+v", *after, term.before)
	}
	term.await("the screen is given back", func([]string) bool {
		term.mu.Lock()
		defer term.mu.Unlock()
		return !term.alternate && !term.hidden
	})
	term.mu.Lock()
	defer term.mu.Unlock()
	if term.scrolled.Len() > 0 {
		term.t.Errorf("left behind: %q", term.scrolled.String())
	}
	if len(term.unknown) > 0 {
		term.t.Errorf("sent what terminals may not understand: %v", term.unknown)
	}
}
