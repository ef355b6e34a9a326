// Command testlog reads what "go test -json" writes, and prints one line for each
// test as it ends, all output of those that fail, and the slowest at the end. With
// -failures, it repeats in a file why tests failed, without the logs around it.
//
//	go test -json ./lab/e2e | go run ./lab/testlog
//
// It prints output that is not JSON as it is. Its exit code says nothing of the
// tests: that of "go test" does.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"time"
)

// silent is how long nothing may be printed: then a line says what runs.
const silent = 30 * time.Second

func main() {
	least := flag.Float64("least", 1, "tests that pass within fewer seconds than this get no line")
	reasons := flag.String("failures", "", "append the failed tests, and what they said of why, to this file")
	flag.Parse()
	var mu sync.Mutex // guards l
	l := newLog(os.Stdout, *least)
	go func() {
		for range time.Tick(time.Second) {
			mu.Lock()
			l.idle(time.Now(), silent)
			mu.Unlock()
		}
	}()
	lines := bufio.NewReader(os.Stdin)
	for {
		// Not a Scanner: a line has no longest length.
		line, err := lines.ReadBytes('\n')
		mu.Lock()
		l.read(line, time.Now())
		mu.Unlock()
		if err != nil {
			break
		}
	}
	mu.Lock()
	defer mu.Unlock()
	err := l.close()
	if text := l.failures(); err == nil && *reasons != "" && text != "" {
		err = appendTo(*reasons, text)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
