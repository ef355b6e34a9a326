package main

import (
	"strings"
	"testing"
	"time"
)

// TestLog: a test that passes is one line, a test that fails tells all, and what is
// cut off by the end of its process is named.
func TestLog(t *testing.T) {
	var out strings.Builder
	l := newLog(&out, 1)
	begun := time.Now()
	for _, line := range []string{
		`# phoenix/a: this is the compiler's`,
		`{"Action":"start","Package":"phoenix/a"}`,
		`{"Action":"run","Package":"phoenix/a","Test":"TestGood"}`,
		`{"Action":"output","Package":"phoenix/a","Test":"TestGood","Output":"says a lot\n"}`,
		`{"Action":"pass","Package":"phoenix/a","Test":"TestGood","Elapsed":12.34}`,
		`{"Action":"run","Package":"phoenix/a","Test":"TestBad"}`,
		`{"Action":"run","Package":"phoenix/a","Test":"TestBad/3007"}`,
		`{"Action":"run","Package":"phoenix/a","Test":"TestBad/3007/deep"}`,
		`{"Action":"output","Package":"phoenix/a","Test":"TestBad/3007/deep","Output":"    bad_test.go:7: why it failed\n"}`,
		`{"Action":"output","Package":"phoenix/a","Test":"TestBad/3007/deep","Output":"    process.go:60: last lines of a master\n"}`,
		`{"Action":"fail","Package":"phoenix/a","Test":"TestBad/3007/deep","Elapsed":1}`,
		`{"Action":"fail","Package":"phoenix/a","Test":"TestBad/3007","Elapsed":2.5}`,
		`{"Action":"fail","Package":"phoenix/a","Test":"TestBad","Elapsed":3}`,
		`{"Action":"run","Package":"phoenix/a","Test":"TestPaused"}`,
		`{"Action":"pause","Package":"phoenix/a","Test":"TestPaused"}`,
		`{"Action":"run","Package":"phoenix/a","Test":"TestWaits"}`,
		`{"Action":"run","Package":"phoenix/a","Test":"TestWaits/3008"}`,
		`{"Action":"pause","Package":"phoenix/a","Test":"TestWaits/3008"}`,
		`{"Action":"run","Package":"phoenix/a","Test":"TestCut"}`,
		`{"Action":"output","Package":"phoenix/a","Test":"TestCut","Output":"panic: of the process\n"}`,
	} {
		l.read([]byte(line+"\n"), begun)
	}
	l.idle(begun.Add(time.Minute), silent)
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	for _, want := range []string{"compiler's", "pass   12.3 s  TestGood\n", "why it failed\n",
		"fail    2.5 s  TestBad/3007\n",
		"now: TestCut for 60 s\n", "panic: of the process\nTestCut did not end\n",
		"     12.3 s  phoenix/a TestGood\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if got, want := l.failures(), "failed: phoenix/a TestBad/3007/deep\n    bad_test.go:7: why it failed\n"+
		"failed: phoenix/a TestCut\n    panic: of the process\n    TestCut did not end\n"; got != want {
		t.Errorf("failures are\n%swant\n%s", got, want)
	}
	for _, not := range []string{"says a lot", "fail    1.0 s", "TestPaused", "now: TestWaits"} {
		if strings.Contains(text, not) {
			t.Errorf("%q is in\n%s", not, text)
		}
	}
	if err := newLog(&out, 1).close(); err == nil {
		t.Error("an empty input is taken for a log")
	}
}
