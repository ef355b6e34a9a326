package relay

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	// maxFrame bounds a frame: a job (member.MaxPublish) and what goes around it.
	maxFrame = 17 << 20
	// maxHello bounds frames before the peer has said who it is.
	maxHello = 4 << 10
	// step is as much as is allocated for bytes that have only been announced.
	step = 64 << 10
)

var errFrame = errors.New("malformed frame")

// readFrame reads one frame: four bytes of length, most significant first, and the
// message. What is announced costs memory only as it arrives.
func readFrame(r io.Reader, limit int) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > uint32(limit) {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", errFrame, n, limit)
	}
	var body bytes.Buffer
	body.Grow(min(int(n), step))
	if _, err := io.CopyN(&body, r, int64(n)); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return body.Bytes(), nil
}

// appendFrame appends a message as a frame.
func appendFrame(to, body []byte) []byte {
	to = binary.BigEndian.AppendUint32(to, uint32(len(body)))
	return append(to, body...)
}
