package agent

import (
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"phoenix/bridge/fleet"
)

// twoPorts is settled for masters with different ports, and a minion on the one
// whose publish port is not Salt's.
func twoPorts(t *testing.T, test func(w *world, s *simAgent)) {
	t.Helper()
	settled(t, 2, func(w *world, s *simAgent) {
		s.Order, s.Settle = Sorted, 1000*time.Hour
		w.masters[0].ports, w.masters[1].ports = Ports{9005, 9006}, Ports{4505, 4506}
	}, func(w *world, s *simAgent) {
		if to := s.minion.master(); to != w.masters[0].address || !must(s.file.Read()).Reported {
			t.Fatalf("on %q, listed %+v", to, must(s.file.Read()))
		}
		test(w, s)
	})
}

// A minion whose master has another publish port than its own configuration says is
// served: it is in no urgency when another joins.
func TestServedOnAnotherPort(t *testing.T) {
	twoPorts(t, func(w *world, s *simAgent) {
		joined := time.Now()
		w.join()
		wait(10 * time.Minute)
		if n := len(s.minion.since(joined)); n > 0 || !must(s.file.PendingRestart()).Pending {
			t.Errorf("%d restarts, %+v", n, must(s.file.PendingRestart()))
		}
	})
}

// Nor is it for the next agent, which knows the ports once it has read the masters:
// even if that takes it long.
func TestNextAgentLearnsThePorts(t *testing.T) {
	for _, away := range []bool{false, true} {
		with(t, 3, func(w *world, s *simAgent) {
			s.Settle = 1000 * time.Hour
			w.masters[1].ports = Ports{9005, 9006}
			list := NewList(master("", "10.0.0.1"), withPorts(master("", "10.0.0.2"), 9005, 9006),
				master("", "10.0.0.3"))
			if _, err := s.file.Write(list, Running{Masters: []string{"10.0.0.2", "10.0.0.3"}}, ""); err != nil {
				t.Fatal(err)
			}
			s.minion.connect([]string{"10.0.0.2"})
			if away {
				w.broken = func([]fleet.Master) ([]fleet.Master, error) { return nil, fleet.ErrUnavailable }
			}
		}, func(w *world, s *simAgent) {
			wait(10 * time.Minute)
			w.set(func() { w.broken = nil })
			wait(10 * time.Minute)
			if n := len(s.minion.since(w.began)); n > 0 || !must(s.file.PendingRestart()).Pending {
				t.Errorf("store away %v: %d restarts, %+v\n%s", away, n, must(s.file.PendingRestart()), s.log)
			}
			// Once they are known, loneliness is seen as always.
			s.minion.mu.Lock()
			s.minion.to = nil
			s.minion.mu.Unlock()
			wait(time.Minute)
			if s.minion.master() == "" {
				t.Errorf("store away %v: nobody serves it", away)
			}
		})
	}
}

// One that drains left the list: it serves the minion until the restart, and its
// connection is seen.
func TestLeavesAnotherPortInTime(t *testing.T) {
	twoPorts(t, func(w *world, s *simAgent) {
		w.set(func() { w.add().ports = Ports{4505, 4506} })
		wait(3 * time.Minute)
		said := s.log.Len()
		s.drain(w)
		wait(endsIn)
		if to, log := s.minion.master(), s.log.String()[said:]; to == "10.0.0.1" ||
			!strings.Contains(log, "its master left the list") || strings.Contains(log, "connected to no master") {
			t.Errorf("on %q\n%s", to, log)
		}
	})
}

// A row that is missing once says nothing of ports: the file stays as it is.
func TestPortsOutliveTheRow(t *testing.T) {
	settled(t, 2, func(w *world, s *simAgent) {
		for _, m := range w.masters {
			m.ports = Ports{9005, 9006}
		}
	}, func(w *world, s *simAgent) {
		writes := s.file.(*memory).writes
		w.set(func() { w.masters[1].rowless = true })
		wait(5 * time.Minute)
		w.set(func() { w.masters[1].rowless = false })
		wait(5 * time.Minute)
		if n := s.file.(*memory).writes - writes; n > 0 {
			t.Errorf("written %d times\n%s", n, s.file.(*memory).text)
		}
	})
}

// The machine's own table of connections, with ports as rows say them.
func TestConnectedOnPortsOfRows(t *testing.T) {
	one, other := listenApart(t, "127.0.0.3"), listenApart(t, "127.0.0.4")
	for address, port := range map[string]int{"127.0.0.3": one, "127.0.0.4": other} {
		conn, err := net.Dial("tcp", net.JoinHostPort(address, fmt.Sprint(port)))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	l := newLocal(t, one, 1)
	put(t, filepath.Join(l.minion.PKIDir, "minion_master.pub"), "a key")
	got, err := l.Connected(t.Context(),
		[]Master{withPorts(master("i-b", "127.0.0.4"), other, 1), master("", "127.0.0.3")})
	slices.Sort(got)
	if want := []string{"127.0.0.3", "127.0.0.4"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("connected to %v, %v, want %v", got, err, want)
	}
}
