package cli

import (
	"net"
	"strings"
	"testing"
	"time"
)

// A master counts as stopped only when its port refuses connections. A busy one, which
// leaves pings unanswered, is not: it would go on with the old key beside the new file.
func TestMasterIsStopped(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := closes(t.Context(), address, time.Second); err == nil ||
		!strings.Contains(err.Error(), "--stop-command") {
		t.Errorf("a master that takes connections and answers nothing: %v", err)
	}
	l.Close()
	if err := closes(t.Context(), address, time.Second); err != nil {
		t.Errorf("a stopped one: %v", err)
	}
	// One that something starts again at once.
	again := make(chan net.Listener)
	go func() {
		time.Sleep(closedPoll / 2)
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Error(err)
		}
		again <- l
	}()
	if err := closes(t.Context(), address, time.Second); err == nil {
		t.Error("one that was started again counts as stopped")
	}
	if l := <-again; l != nil {
		l.Close()
	}
}
