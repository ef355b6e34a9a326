package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

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
	told("the metrics tell of both minions", "phoenix_ready 1", "phoenix_bus_connected 1", "phoenix_keys_accepted_total 1", "phoenix_keys_refused_total 1",
		"phoenix_highstates_published_total 1", `phoenix_highstates_ended_total{outcome="succeeded"} 1`, "phoenix_highstates_running 0",
		"phoenix_work_held_up 0", "phoenix_store_failures_total 0", "phoenix_launch_to_accepted_seconds_count 1",
		"phoenix_accepted_to_connected_seconds_count 1", "phoenix_connected_to_done_seconds_count 1")
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
