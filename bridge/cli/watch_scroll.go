package cli

// scroller is which line of the view is the first that is shown.
type scroller struct {
	offset int
	page   int    // lines of a page, as of the last fit
	escape []byte // a key that has begun: a terminal sends ESC [ A for an arrow
}

// press moves by a key: j, k and the arrows by a line, space, b and the page keys by a
// page, g and G to the ends. fit must follow.
func (s *scroller) press(key byte) {
	if len(s.escape) > 0 || key == 0x1b {
		s.escape = append(s.escape, key)
		switch string(s.escape) {
		case "\x1b", "\x1b[", "\x1bO", "\x1b[5", "\x1b[6":
			return
		case "\x1b[A", "\x1bOA":
			key = 'k'
		case "\x1b[B", "\x1bOB":
			key = 'j'
		case "\x1b[5~":
			key = 'b'
		case "\x1b[6~":
			key = ' '
		default: // a key that means nothing here
			key = 0
		}
		s.escape = nil
	}
	switch key {
	case 'j':
		s.offset++
	case 'k':
		s.offset--
	case ' ', 'f':
		s.offset += s.page
	case 'b':
		s.offset -= s.page
	case 'g':
		s.offset = 0
	case 'G':
		s.offset = maxViewLines
	}
}

// maxViewLines is more than a view has.
const maxViewLines = 1 << 20

// fit keeps the offset within a view of so many lines on a screen of a height.
func (s *scroller) fit(lines, height int) {
	s.page = max(height-1, 1)
	s.offset = max(min(s.offset, lines-height), 0)
}
