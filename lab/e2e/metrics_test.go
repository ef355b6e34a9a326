package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"phoenix/bridge/fleet/sqlite"
	"phoenix/lab"
)

// TestMetrics: what a scraper sees of a bridge, from its start over a minion that is
// let in and an unknown one that is not, to the loss of its master.
func TestMetrics(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	master := l.StartMaster(lab.MasterOptions{Version: lab.Salt3007})
	address := net.JoinHostPort(l.Addr(), strconv.Itoa(l.RetPort)) // the lab's own, and that port is free there
	bridge := l.StartBridge(lab.BridgeOptions{Master: master, Config: map[string]any{"http_listen": address}})
	l.Eventually(within, "the bridge says that it is not ready, and why", func() (bool, string) {
		status, text := scrape(t, address, "/readyz")
		return status == http.StatusServiceUnavailable && text != "", fmt.Sprint(status, " ", text)
	})
	master.Ready()
	bridge.Ready()
	for _, path := range []string{"/readyz", "/healthz"} {
		if status, text := scrape(t, address, path); status != http.StatusOK || text != "ok\n" {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	bridge.Phoenix("minions", "add", "web-1")
	l.StartMinion(lab.MinionOptions{ID: "guest", Masters: []*lab.Master{master}})
	minion := l.StartMinion(lab.MinionOptions{ID: "web-1", Masters: []*lab.Master{master}})
	fixture{l, master, bridge}.ran(t, minion, 1)
	told := func(what string, lines ...string) {
		t.Helper()
		l.Eventually(within, what, func() (bool, string) {
			_, text := scrape(t, address, "/metrics")
			for _, line := range lines {
				if !strings.Contains(text, "\n"+line+"\n") {
					return false, line + " is not in\n" + text
				}
			}
			return true, ""
		})
	}
	told("the metrics tell of both minions", "phoenix_ready 1", "phoenix_bus_connected 1",
		"phoenix_keys_accepted_total 1", "phoenix_keys_refused_total 1",
		"phoenix_highstates_published_total 1", `phoenix_highstates_ended_total{outcome="succeeded"} 1`,
		"phoenix_highstates_running 0",
		"phoenix_work_held_up 0", "phoenix_store_failures_total 0", "phoenix_launch_to_accepted_seconds_count 1",
		"phoenix_accepted_to_connected_seconds_count 1", "phoenix_connected_to_done_seconds_count 1")
	storeTakenAway(t, l, bridge, address)
	master.Kill()
	told("the metrics tell that the bus is lost", "phoenix_bus_connected 0")
	if status, text := scrape(t, address, "/healthz"); status != http.StatusOK {
		t.Errorf("without its master, /healthz: %d %s", status, text)
	}
	bridge.Stop()
	if status, text := scrape(t, address, "/metrics"); status != 0 {
		t.Errorf("after the end: %d %s", status, text)
	}
}

// storeTakenAway deletes, and then replaces, the store's file under a bridge: it says so
// within a beat (5 s), no command makes another store, and it goes on when the file is back.
func storeTakenAway(t *testing.T, l *lab.Lab, bridge *lab.Bridge, address string) {
	t.Helper()
	path := filepath.Join(l.Dir(), "fleet.db")
	move := func(from, to string) {
		t.Helper()
		for _, end := range []string{"", "-wal", "-shm"} {
			if err := os.Rename(from+end, to+end); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
	}
	gone := func(how, what string) {
		t.Helper()
		at := time.Now()
		l.Eventually(within, "/readyz is 503 once the store's file was "+how, func() (bool, string) {
			status, text := scrape(t, address, "/readyz")
			return status == http.StatusServiceUnavailable && strings.Contains(text, what),
				fmt.Sprint(status, " ", text)
		})
		lines := bridge.Grep("heartbeat not written")
		if took := lab.LoggedAt(t, lines[len(lines)-1]).Sub(at); took > 10*time.Second { // a beat, on a busy machine
			t.Errorf("%s: it took %v", how, took)
		}
	}
	back := func() {
		t.Helper()
		l.Eventually(within, "the bridge is ready once its store is back", func() (bool, string) {
			status, text := scrape(t, address, "/readyz")
			return status == http.StatusOK, fmt.Sprint(status, " ", text)
		})
	}
	move(path, path+".away")
	gone("deleted", "removed or renamed")
	for _, command := range []string{"status", "minions list", "history"} {
		if _, stderr, code := bridge.Try(strings.Fields(command)...); code != 3 && code != 2 {
			t.Errorf("%s without a store: exit %d, %s", command, code, stderr)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a second store was made: %v", err)
	}
	move(path+".away", path)
	back()
	move(path, path+".away")
	other, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	gone("replaced", "replaced while in use")
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	move(path, path+".other")
	move(path+".away", path)
	back()
}

// scrape gets one path; status 0: nobody listens.
func scrape(t *testing.T, address, path string) (status int, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}
