package service

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// An outage that lasts is recorded once, with its end; one that passes at once is not.
func TestOutagesAreRecorded(t *testing.T) {
	var out strings.Builder
	trail := slog.New(slog.NewTextHandler(&out,
		&slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}))
	var err error
	d := dependency{lost: "store lost", back: "store reached again", fault: func() error { return err }}
	now := time.Now()
	pass := func(d2 time.Duration, fault error) {
		err = fault
		for end := now.Add(d2); now.Before(end); now = now.Add(time.Second) {
			d.check(now, trail)
		}
	}
	pass(time.Minute, nil)
	pass(3*time.Second, errors.New("away"))
	pass(time.Minute, nil)
	if out.Len() > 0 {
		t.Errorf("a moment: %s", out.String())
	}
	pass(2*time.Minute, errors.New("away"))
	pass(time.Minute, nil)
	pass(time.Minute, errors.New("away again"))
	want := `level=WARN msg="store lost" err=away
level=INFO msg="store reached again" after=2m0s
level=WARN msg="store lost" err="away again"
`
	if out.String() != want {
		t.Errorf("%s\nwant %s", out.String(), want)
	}
}
