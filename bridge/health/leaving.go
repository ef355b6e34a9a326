package health

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"time"

	"phoenix/bridge/retry"
)

// Metadata reads one path of the instance's metadata (IMDSv2), below
// /latest/meta-data. found is false where there is nothing, as for a spot
// interruption that nobody has announced.
type Metadata func(ctx context.Context, path string) (text string, found bool, err error)

// What an instance's metadata says of its own end.
const (
	pathLifecycle = "autoscaling/target-lifecycle-state" // of instances of a group
	pathSpot      = "spot/instance-action"               // two minutes before
	pathRebalance = "events/recommendations/rebalance"   // sooner, at a higher risk
	pathZone      = "placement/availability-zone"        // constant
	stateTerminal = "Terminated"                         // what AutoScaling is about to make of it
	leavingEvery  = 5 * time.Second                      // AWS advises it for spot interruptions
	leavingMost   = time.Minute                          // where the metadata does not answer
	leavingWithin = 3 * time.Second                      // it answers within milliseconds
)

// Notice is a word of the instance's metadata that it is about to end.
type Notice struct {
	Why string // empty: there is none
	// Advice names a recommendation, by the time at which EC2 gave it. The instance may
	// live on for days, and its metadata say the same all the while. Empty: it ends.
	Advice string
}

// Leaving says why the instance is about to end.
func Leaving(ctx context.Context, get Metadata) (Notice, error) {
	for _, is := range []struct {
		path string
		says func(text string) Notice
	}{
		{pathLifecycle, func(state string) Notice {
			if strings.TrimSpace(state) == stateTerminal {
				return Notice{Why: "AutoScaling terminates this instance"}
			}
			return Notice{}
		}},
		{pathSpot, func(string) Notice { return Notice{Why: "EC2 interrupts this spot instance"} }},
		{pathRebalance, func(text string) Notice {
			return Notice{"EC2 recommends to replace this spot instance", noticeTime(text)}
		}},
	} {
		text, found, err := read(ctx, get, is.path)
		if err != nil {
			return Notice{}, err
		}
		if found {
			if n := is.says(text); n.Why != "" {
				return n, nil
			}
		}
	}
	return Notice{}, nil
}

// noticeTime reads {"noticeTime": "2020-10-27T08:22:00Z"}. What is no such thing is
// its own name.
func noticeTime(text string) string {
	var notice struct {
		NoticeTime string `json:"noticeTime"`
	}
	if err := json.Unmarshal([]byte(text), &notice); err == nil && notice.NoticeTime != "" {
		return notice.NoticeTime
	}
	return "unreadable: " + strings.TrimSpace(text)
}

// Zone is the instance's availability zone; empty: it does not say.
func Zone(ctx context.Context, get Metadata) (string, error) {
	text, _, err := read(ctx, get, pathZone)
	return strings.TrimSpace(text), err
}

func read(ctx context.Context, get Metadata, path string) (string, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, leavingWithin)
	defer cancel()
	return get(ctx, path)
}

// ErrNotNow is what a recommendation meets that is not to be followed yet.
var ErrNotNow = errors.New("not now")

// WatchInstance reads the instance's metadata until ctx ends: zone is told once, and
// leave as soon as the instance is about to end, again until that succeeds. After a
// recommendation was followed, the instance's end is looked for all the same.
func WatchInstance(ctx context.Context, get Metadata, zone func(string),
	leave func(ctx context.Context, n Notice) error, log *slog.Logger) error {
	placed, left, failing, followed := false, false, false, ""
	for {
		err := func() error {
			if !placed {
				where, err := Zone(ctx, get)
				if err != nil {
					return err
				}
				placed = true
				zone(where)
			}
			if left {
				return nil
			}
			n, err := Leaving(ctx, get)
			if err != nil || n.Why == "" || n.Advice != "" && n.Advice == followed {
				return err
			}
			switch err := leave(ctx, n); {
			case errors.Is(err, ErrNotNow):
			case err != nil:
				log.Error("this master will be terminated, but its row is not written yet", "reason", n.Why, "err", err)
			default:
				left, followed = n.Advice == "", n.Advice
			}
			return nil
		}()
		if ctx.Err() != nil {
			return nil
		}
		wait := leavingEvery
		if err != nil {
			if !failing {
				log.Warn("instance metadata does not answer; only messages can announce the instance's termination",
					"err", err)
			}
			wait = leavingMost
		}
		failing = err != nil
		if !retry.Sleep(ctx, wait) {
			return nil
		}
	}
}
