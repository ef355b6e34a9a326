package compose

import (
	"context"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// stuckAfter: a loop that has not come round for so long never will. Its longest
// steps are some minutes: 20,000 keys accepted at once, a minion that is restarted.
const stuckAfter = 10 * time.Minute

// Attend notifies systemd that a service runs (Type=notify) and, while its loop
// turns, that it is alive (WatchdogSec). turned returns when the loop last did.
// Without systemd it does nothing.
func Attend(ctx context.Context, turned func() time.Time, log *slog.Logger) {
	if notified, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		log.Warn("systemd not notified", "err", err)
		return
	} else if !notified {
		return
	}
	context.AfterFunc(ctx, func() { _, _ = daemon.SdNotify(false, daemon.SdNotifyStopping) }) // it sees us end anyway
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every <= 0 {
		if err != nil {
			log.Warn("watchdog setting not understood", "err", err)
		}
		return
	}
	go watch(ctx, every/2, turned, log, func() {
		_, _ = daemon.SdNotify(false, daemon.SdNotifyWatchdog) // if it is lost, systemd starts us again
	})
}

// watch says that the service lives until its loop is stuck; then systemd kills it
// and starts it again, which is safe at any time.
func watch(ctx context.Context, every time.Duration, turned func() time.Time, log *slog.Logger, alive func()) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	stuck := false
	for {
		still := time.Since(turned())
		if still < stuckAfter {
			stuck = false
			alive()
		} else if !stuck {
			stuck = true
			log.Error("main loop stalled; watchdog not notified", "for", still.Round(time.Second))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
