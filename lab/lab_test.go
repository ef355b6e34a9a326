package lab_test

import (
	"testing"
	"time"

	"phoenix/lab"
)

func TestHighstateIsCountedByTheStateItself(t *testing.T) {
	for _, version := range lab.Versions() {
		t.Run(version, func(t *testing.T) {
			l := lab.New(t)
			s := time.Now()
			master := l.StartMaster(lab.MasterOptions{Version: version})
			minion := l.StartMinion(lab.MinionOptions{ID: "web-1", Masters: []*lab.Master{master}})
			master.Ready()
			t.Log("ready", time.Since(s))
			l.Eventually(time.Minute, "the minion's key is pending", func() (bool, string) {
				return len(master.Pending()) == 1, "no key"
			})
			t.Log("pending", time.Since(s))
			master.Run("salt-key", "-y", "-a", "web-1")
			t.Log("accepted", time.Since(s))
			minion.Answers(master)
			t.Log("answers", time.Since(s))
			a, ok := master.Call("web-1", "state.highstate")
			t.Log("highstate", time.Since(s), a, ok)
			t.Log(minion.RunLog())
		})
	}
}
