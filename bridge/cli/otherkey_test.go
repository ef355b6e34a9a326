package cli

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"phoenix/bridge/api"
	"phoenix/bridge/fleet"
	"phoenix/bridge/service"
	"phoenix/lab"
)

// TestAcceptedKeyIsNotTheBoundOne: after the restore of an older copy of the store, status,
// its check and explain name the id whose accepted key is not the bound one.
func TestAcceptedKeyIsNotTheBoundOne(t *testing.T) {
	a := newAsker(t)
	known, accepted := lab.UnknownKey(), lab.UnknownKey()
	digest, err := fleet.KeyDigest([]byte(known))
	if err != nil {
		t.Fatal(err)
	}
	a.apply(fleet.Add{InstanceID: "web-1"}, fleet.Bind{InstanceID: "web-1", KeySHA256: digest, PublicKey: known})
	putKey(t, filepath.Join(a.dir, "pki"), "minions", "web-1", accepted)
	a.beat("salt-1", true, 1)
	report := service.Report{InstanceID: "salt-1", Ready: true, StoreReached: true}
	report.Engine.Problem = map[service.ProblemKind]int{service.OtherKey: 1}
	report.Engine.Problems = []service.Problem{{Minion: "web-1", Kind: service.OtherKey, What: "the accepted key is not the bound one"}}
	serveReport(t, filepath.Join(a.dir, "s"), report)
	out := a.says(exitOK, "status", "ANOTHER KEY: web-1: another key is accepted since", "phoenix keys delete web-1 --state accepted")
	if strings.Contains(out, "passed over") {
		t.Errorf("named twice: %s", out)
	}
	a.says(exitFailed, "status --check", "1 id with another key")
	a.says(exitOK, "minions explain web-1", "another key is accepted since")
}

// serveReport answers on a socket as a bridge does that has this report.
func serveReport(t *testing.T, socket string, report service.Report) {
	t.Helper()
	l, err := api.Listen(socket, -1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- api.Serve(ctx, l, api.Bridge{Invalidate: func([]string) {}, Restore: func([]string) {}, Status: func() any { return report },
			Release: func(context.Context) ([]string, error) { return nil, nil }})
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
}
