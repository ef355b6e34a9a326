package service

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"phoenix/bridge/fleet"
)

// A recommendation of EC2 stays in the instance's metadata. It is followed once, over
// restarts too, and where there is another master.
func TestRecommendationIsFollowedOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "followed-advice.m")
	synctest.Test(t, func(t *testing.T) {
		store := &shelf{}
		var mu sync.Mutex
		notice := `{"noticeTime":"2026-01-01T00:00:00Z"}`
		asSpot := func(_ *served, o *setup) {
			metadata := func(_ context.Context, path string) (string, bool, error) {
				mu.Lock()
				defer mu.Unlock()
				if path == "events/recommendations/rebalance" {
					return notice, true, nil
				}
				return "", false, nil
			}
			o.beside = func(s *Service) func(context.Context) error { return NewInstanceWatch(s, metadata, file).Run }
		}
		drained := func(want bool, when string) {
			t.Helper()
			if is := store.row("m").Draining; is != want {
				t.Errorf("%s: draining %v", when, is)
			}
		}
		undo := func() {
			t.Helper()
			if err := store.DrainMaster(t.Context(), "m", false); err != nil {
				t.Fatal(err)
			}
		}
		_, stop := serve(t, store, "1", asSpot)
		if _, err := store.Beat(t.Context(),
			fleet.Beat{InstanceID: "dead", Incarnation: "1", Ready: true}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		drained(false, "no other master lives")
		_, stopOther := serve(t, store, "1", func(_ *served, o *setup) { o.cfg.InstanceID = "other" })
		time.Sleep(2 * time.Minute)
		drained(true, "another master serves")
		undo()
		time.Sleep(time.Hour)
		drained(false, "an operator ended it")
		if err := stop(); err != nil {
			t.Error(err)
		}
		_, stop = serve(t, store, "2", asSpot)
		time.Sleep(time.Hour)
		drained(false, "the bridge was restarted")
		mu.Lock()
		notice = `{"noticeTime":"2026-01-02T00:00:00Z"}`
		mu.Unlock()
		time.Sleep(2 * time.Minute)
		drained(true, "EC2 says so anew")
		for _, stop := range []func() error{stop, stopOther} {
			if err := stop(); err != nil {
				t.Error(err)
			}
		}
	})
}
