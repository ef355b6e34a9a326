package cli

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Where there is no terminal, a line every ten seconds says that a command goes on.
func TestWhatTakesLongIsToldInALog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		w, done := progressLines(&log, "waiting for the next auth request of web-1")
		time.Sleep(25 * time.Second)
		fmt.Fprintln(w, "note: another line")
		done()
		const want = "waiting for the next auth request of web-1 … 10 s\n" +
			"waiting for the next auth request of web-1 … 20 s\nnote: another line\n"
		if log.String() != want {
			t.Errorf("%s", log.String())
		}
	})
}

// A store that takes its time is no reason to wonder whether the command hangs.
func TestWhatTakesLongIsTold(t *testing.T) {
	t.Parallel()                                    // it waits
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts; nobody answers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	term := newTerminal(t, 100, 30)
	cmd := term.start([]string{"AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=y"}, "minions", "list",
		"--store", "dynamodb:",
		"--dynamodb-region", "eu-west-1", "--dynamodb-endpoint", "http://"+silent.Addr().String())
	term.await("it says what it does, and for how long", func([]string) bool {
		term.mu.Lock()
		defer term.mu.Unlock()
		return strings.Contains(term.scrolled.String(), "\rreading the fleet … 2 s")
	})
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}
