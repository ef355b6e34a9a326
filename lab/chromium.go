package lab

import (
	"context"
	"errors"
	"os/exec"
	"testing"
	"time"
)

// chromiumWithin bounds one run of the browser: it starts in 2 s on a machine of its own.
const chromiumWithin = 2 * time.Minute

// Chromium runs a headless Chromium with arguments, and returns what it prints. Where there
// is none, the test is skipped.
func Chromium(tb testing.TB, args ...string) string {
	tb.Helper()
	program := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		tb.Skip("chromium is missing: apt-get install chromium")
	}
	ctx, cancel := context.WithTimeout(context.Background(), chromiumWithin)
	defer cancel()
	// As root there is no sandbox, and a container has a small /dev/shm.
	base := []string{"--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars",
		"--no-first-run",
		"--disable-background-networking", "--user-data-dir=" + tb.TempDir()}
	cmd := exec.CommandContext(ctx, program, append(base, args...)...)
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		tb.Fatalf("chromium %v: %v\n%.2000s", args, err, exit.Stderr)
	} else if err != nil {
		tb.Fatalf("chromium %v: %v", args, err)
	}
	return string(out)
}
