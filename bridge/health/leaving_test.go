package health

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestLeaving(t *testing.T) {
	for _, c := range []struct {
		name string
		has  map[string]string
		want string
	}{
		{"nothing", nil, ""},
		{"in service", map[string]string{pathLifecycle: "InService"}, ""},
		{"stand-by, which an operator asked for", map[string]string{pathLifecycle: "Standby"}, ""},
		{"a warm pool", map[string]string{pathLifecycle: "Warmed:Stopped"}, ""},
		{"terminated by AutoScaling", map[string]string{pathLifecycle: "Terminated\n"}, "AutoScaling"},
		{"spot interruption", map[string]string{pathLifecycle: "InService",
			pathSpot: `{"action":"terminate","time":"2026-01-01T00:02:00Z"}`}, "interrupts"},
		{"rebalance recommendation", map[string]string{pathRebalance: `{"noticeTime":"2026-01-01T00:00:00Z"}`},
			"recommends"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Leaving(t.Context(), func(_ context.Context, path string) (string, bool, error) {
				text, found := c.has[path]
				return text, found, nil
			})
			advice := ""
			if c.want == "recommends" {
				advice = "2026-01-01T00:00:00Z"
			}
			if err != nil || (got.Why == "") != (c.want == "") || !strings.Contains(got.Why, c.want) ||
				got.Advice != advice {
				t.Errorf("%+v, %v; want %q", got, err, c.want)
			}
		})
	}
}

// A master is marked within seconds of the word, once, whatever fails meanwhile.
func TestWatchInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		get := func(_ context.Context, path string) (string, bool, error) {
			up := time.Since(begun)
			switch {
			case up < 30*time.Second:
				return "", false, errors.New("connection refused")
			case path == pathZone:
				return "eu-west-1a", true, nil
			case path == pathSpot && up >= 10*time.Minute:
				return "{}", true, nil
			}
			return "", false, nil
		}
		zones, tries := []string{}, []time.Duration{}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		err := WatchInstance(ctx, get, func(z string) { zones = append(zones, z) },
			func(context.Context, Notice) error {
				tries = append(tries, time.Since(begun))
				if len(tries) < 3 {
					return errors.New("the store does not answer")
				}
				return nil
			}, slog.New(slog.DiscardHandler))
		if err != nil || len(zones) != 1 || zones[0] != "eu-west-1a" {
			t.Errorf("%v, zones %v", err, zones)
		}
		if len(tries) != 3 || tries[0] > 10*time.Minute+leavingEvery || tries[2]-tries[1] > leavingEvery {
			t.Errorf("tried after %v", tries)
		}
	})
}

// A recommendation is followed once, when it may be; the instance's end is heard of all
// the same.
func TestWatchAdvice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		get := func(_ context.Context, path string) (string, bool, error) {
			up := time.Since(begun)
			switch {
			case path == pathRebalance && up < 2*time.Hour:
				return `{"noticeTime":"2026-01-01T00:00:00Z"}`, true, nil
			case path == pathRebalance:
				return `{"noticeTime":"2026-01-01T02:00:00Z"}`, true, nil
			case path == pathSpot && up >= 3*time.Hour:
				return "{}", true, nil
			}
			return "", false, nil
		}
		var got []string
		log := &strings.Builder{}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Hour)
		defer cancel()
		err := WatchInstance(ctx, get, func(string) {}, func(_ context.Context, n Notice) error {
			if n.Advice != "" && time.Since(begun) < time.Hour {
				return ErrNotNow
			}
			got = append(got, n.Advice+" "+n.Why)
			return nil
		}, slog.New(slog.NewTextHandler(log, nil)))
		if err != nil || log.Len() > 0 || len(got) != 3 || !strings.HasPrefix(got[0], "2026-01-01T00") ||
			!strings.HasPrefix(got[1], "2026-01-01T02") || !strings.Contains(got[2], "interrupts") {
			t.Errorf("%v: %q\n%s", err, got, log)
		}
	})
}
