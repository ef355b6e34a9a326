package autoscaling

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"phoenix/bridge/fleet"
)

func (x *keeper) beat(t *testing.T, n int, ready bool) {
	t.Helper()
	if _, err := x.store.Beat(t.Context(), fleet.Beat{InstanceID: instance(n), IPAddr: "10.0.0.1", Incarnation: "one",
		Ready: ready}); err != nil {
		t.Fatal(err)
	}
}

// TestNewMasterGoesInServiceWhenReady: a launching master waits until minions can
// turn to it, whatever becomes of its own minion's highstate; then its group may end
// another one.
func TestNewMasterGoesInServiceWhenReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newKeeper(t)
		defer x.stop()
		alive := func(ready bool) {
			t.Helper()
			x.beat(t, 1, ready)
			time.Sleep(2 * checkEvery)
			synctest.Wait()
		}
		x.apply(t, append([]fleet.Change{added, bound}, failed(0, "j1", 1)...)...)
		x.hooks.Tend(Message{Kind: Launched, InstanceID: instance(1), Group: "salt", Hook: upHook}, Masters)
		alive(false)
		x.apply(t, failed(2, "j2", 2)...)
		alive(false)
		if got := x.results(); len(got) != 0 || x.hooks.Waiting() != 1 {
			t.Errorf("before it is ready, its highstate failed for good: %v, %d wait", got, x.hooks.Waiting())
		}
		alive(true)
		if got := x.results(); len(got) != 1 || got[0] != goOn || x.hooks.Waiting() != 0 {
			t.Errorf("once it is ready: %v, %d wait", got, x.hooks.Waiting())
		}
	})
}

// TestMasterOutOfTheWarmPool: its row says ready from before. That is no news, nor is it
// while its bridge has just begun; it is once the bridge has had time to find out.
func TestMasterOutOfTheWarmPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newKeeper(t)
		defer x.stop()
		x.apply(t, added)
		x.beat(t, 1, true)
		x.hooks.Tend(Message{Kind: Launched, InstanceID: instance(1), Group: "salt", Hook: upHook}, Masters)
		beats := func(ready bool, long time.Duration) {
			t.Helper()
			for until := time.Now().Add(long); time.Now().Before(until); time.Sleep(5 * time.Second) {
				x.beat(t, 1, ready)
			}
			synctest.Wait()
		}
		still := func(when string) {
			t.Helper()
			if got := x.results(); len(got) != 0 {
				t.Errorf("%s: %v", when, got)
			}
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		still("nobody beats")
		beats(true, 15*time.Second)
		still("its bridge began")
		beats(false, time.Minute)
		still("its master is not up")
		beats(true, 20*time.Second)
		if got := x.results(); len(got) != 1 || got[0] != goOn {
			t.Errorf("it is ready: %v", got)
		}
	})
}

// TestReadyMasterGoesOn: the message of one that is ready already, and stays so, may
// have come late.
func TestReadyMasterGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newKeeper(t)
		defer x.stop()
		x.apply(t, added)
		x.hooks.Tend(Message{Kind: Launched, InstanceID: instance(1), Group: "salt", Hook: upHook}, Masters)
		for range 12 {
			x.beat(t, 1, true)
			time.Sleep(5 * time.Second)
		}
		if got := x.results(); len(got) != 1 || got[0] != goOn {
			t.Errorf("%v", got)
		}
	})
}

// TestNewMasterThatIsTerminated: nobody tends its hook any more.
func TestNewMasterThatIsTerminated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newKeeper(t)
		defer x.stop()
		x.apply(t, added, fleet.Retire{InstanceID: instance(1)})
		x.hooks.Tend(Message{Kind: Launched, InstanceID: instance(1), Group: "salt", Hook: upHook}, Masters)
		time.Sleep(checkEvery)
		synctest.Wait()
		if len(x.results()) != 0 || x.hooks.Waiting() != 0 {
			t.Errorf("%d calls, %d wait", len(x.calls), x.hooks.Waiting())
		}
	})
}

// TestLeavingMaster: a terminating master goes when no minion is left on it, which its
// own bridge sees; another's lets it go when its row says that it is gone; and either
// when its time is over.
func TestLeavingMaster(t *testing.T) {
	const self, other = 2, 3
	for name, c := range map[string]struct {
		master int
		do     func(t *testing.T, x *keeper) // after a minute
		from   time.Duration                 // the hook is ended in between
		to     time.Duration
		why    string
	}{
		"minions stay": {self, nil, downTimeout, downTimeout + 2*checkEvery, "its time is over"},
		"minions leave": {self, func(_ *testing.T, x *keeper) { x.left.Store(0) }, time.Minute,
			time.Minute + 3*checkEvery, "no minion is left"},
		"cannot be counted": {self, func(_ *testing.T, x *keeper) { x.left.Store(-1) }, downTimeout,
			downTimeout + 2*checkEvery, "its time is over"},
		"another's, minions leave": {other, func(_ *testing.T, x *keeper) { x.left.Store(0) }, downTimeout,
			downTimeout + 2*checkEvery, "its time is over"},
		"another's, its row is at end": {other, func(t *testing.T, x *keeper) { retireMaster(t, x, other) },
			time.Minute, time.Minute + 2*checkEvery, "its row says"},
		"another's, it has no row": {4, nil, 0, time.Second, "its row says"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newKeeper(t)
				defer x.stop()
				x.beat(t, self, true)
				x.beat(t, other, true)
				x.set(func() { x.groups["salt"][instance(c.master)] = "Terminating:Wait" })
				begun := time.Now()
				x.hooks.Tend(Message{Kind: Ended, InstanceID: instance(c.master), Group: "salt", Hook: downHook},
					Masters)
				time.Sleep(time.Minute)
				if c.do != nil {
					c.do(t, x)
				}
				time.Sleep(time.Hour)
				calls := x.of("CompleteLifecycleAction")
				if len(calls) != 1 || calls[0].form.Get("LifecycleActionResult") != goOn ||
					x.count("RecordLifecycleActionHeartbeat") != 0 {
					t.Fatalf("%+v", calls)
				}
				if took := calls[0].at.Sub(begun); took < c.from || took > c.to || x.trail.count(c.why) != 1 {
					t.Errorf("after %v, want %v to %v\n%s", took, c.from, c.to, x.trail.text.String())
				}
				masters, err := x.store.Masters(t.Context())
				for _, m := range masters {
					if gone := m.Status == fleet.Terminate; gone != (m.InstanceID == instance(c.master)) {
						t.Errorf("%s: row says %s", m.InstanceID, m.Status)
					}
				}
				if err != nil {
					t.Error(err)
				}
				if n := x.log.count("not counted"); (n == 1) != (name == "cannot be counted") || n > 1 {
					t.Errorf("%d lines say that minions are not counted", n)
				}
			})
		})
	}
}

// TestLastReadyMasterIsKept: AutoScaling scales in the only master that serves. Its hook is
// extended while its minions have no other, and for an hour at most.
func TestLastReadyMasterIsKept(t *testing.T) {
	const self, other = 2, 3
	for name, c := range map[string]struct {
		ready    time.Duration // when the other is ready; 0: never
		leave    bool          // minions then go there
		idle     bool          // no minion is connected
		from, to time.Duration
		why      string
	}{
		"another comes, minions leave": {25 * time.Minute, true, false, 25 * time.Minute, 27 * time.Minute,
			"no minion is left"},
		"another comes, minions stay": {25 * time.Minute, false, false, 25*time.Minute + downTimeout - time.Minute,
			25*time.Minute + downTimeout + time.Minute, "its time is over"},
		"no other comes":      {0, false, false, lastFor, lastFor + time.Minute, "no other master serves"},
		"nobody is connected": {0, false, true, 0, time.Minute, "no minion is left"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newKeeper(t)
				defer x.stop()
				if c.idle {
					x.left.Store(0)
				}
				x.set(func() { x.groups["salt"][instance(self)] = "Terminating:Wait" })
				begun := time.Now()
				x.beat(t, self, true)
				x.hooks.Tend(Message{Kind: Ended, InstanceID: instance(self), Group: "salt", Hook: downHook}, Masters)
				for time.Since(begun) < 2*time.Hour {
					_, err := x.store.Beat(t.Context(),
						fleet.Beat{InstanceID: instance(self), IPAddr: "10.0.0.1", Incarnation: "one", Ready: true})
					if err != nil && !errors.Is(err, fleet.ErrTerminated) { // its hook was completed
						t.Fatal(err)
					}
					serves := c.ready > 0 && time.Since(begun) > c.ready
					x.beat(t, other, serves)
					if serves && c.leave {
						x.left.Store(0)
					}
					time.Sleep(5 * time.Second)
				}
				calls, beats := x.of("CompleteLifecycleAction"), x.of("RecordLifecycleActionHeartbeat")
				if len(calls) != 1 || x.trail.count(c.why) != 1 {
					t.Fatalf("%+v\n%s", calls, x.trail.text.String())
				}
				if took := calls[0].at.Sub(begun); took < c.from || took > c.to {
					t.Errorf("after %v, want %v to %v", took, c.from, c.to)
				}
				last := begun
				for _, b := range beats {
					if b.at.Sub(last) > downTimeout {
						t.Errorf("AutoScaling had no word for %v", b.at.Sub(last))
					}
					last = b.at
				}
				if prolonged := len(beats) > 0; prolonged == c.idle || calls[0].at.Sub(last) > downTimeout+time.Minute {
					t.Errorf("prolonged %d times, the last time %v before the end", len(beats), calls[0].at.Sub(last))
				}
			})
		})
	}
}

func retireMaster(t *testing.T, x *keeper, n int) {
	t.Helper()
	if err := x.store.RetireMaster(t.Context(), instance(n)); err != nil {
		t.Fatal(err)
	}
}

// TestOwnMinionIsConnected: a minion of the master's own host is connected, and is not
// left when the master goes. The bridge's own connection is that of no minion.
func TestOwnMinionIsConnected(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	relay, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer relay.Close()
	minion := exec.Command("bash", "-c", fmt.Sprintf("exec 3<>/dev/tcp/127.0.0.1/%d && echo connected && read", port))
	input, err := minion.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := minion.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := minion.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { input.Close(); _ = minion.Wait() })
	if said, err := bufio.NewReader(output).ReadString('\n'); err != nil {
		t.Fatalf("%q, %v", said, err)
	}
	if n, err := Connected("127.0.0.1", port)(); n != 1 || err != nil {
		t.Errorf("%d connected, %v", n, err)
	}
	if n, err := Left("127.0.0.1", port)(); n != 0 || err != nil {
		t.Errorf("%d left, %v", n, err)
	}
}

// TestLeft counts the connections to a port in tables as the kernel writes them.
func TestLeft(t *testing.T) {
	title := "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	line := func(local, remote, state string) string {
		return fmt.Sprintf("   0: %s %s %s 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n",
			local, remote, state)
	}
	const (
		any4, any6 = "00000000:1199", "00000000000000000000000000000000:1199"
		here4      = "0A00000A:1199" // 10.0.0.10:4505
		there4     = "0B00000A:C350" // 10.0.0.11
		here6      = "0000000000000000FFFF00000A00000A:1199"
		there6     = "0000000000000000FFFF00000C00000A:C350"
	)
	listen4, listen6 := line(any4, "00000000:0000", "0A"), line(any6, "00000000000000000000000000000000:0000", "0A")
	for name, c := range map[string]struct {
		tcp, tcp6 string
		want      int
		fails     bool
		at        string // the master's interface
	}{
		"nobody":    {title + listen4, title, 0, false, "0.0.0.0"},
		"over IPv6": {title, title + listen6 + line(here6, there6, "01"), 1, false, "0.0.0.0"},
		"two": {title + listen4 + line(here4, there4, "01"), title + line(here6, there6, "01"), 2,
			false, "0.0.0.0"},
		"another port": {title + listen4 + line("0A00000A:119A", there4, "01"), title, 0, false, "0.0.0.0"},
		"going":        {title + listen4 + line(here4, there4, "06"), title, 0, false, "0.0.0.0"},
		"its own minion": {title + listen4 + line(here4, "0A00000A:C350", "01") + line("0100007F:1199",
			"0100007F:C351", "01"), title, 0, false, "0.0.0.0"},
		"as a minion of another": {title + listen4 + line("0A00000A:C350", "0B00000A:1199", "01"), title, 0,
			false, "0.0.0.0"},
		"nothing listens":         {title + line(here4, there4, "01"), title, 0, true, "0.0.0.0"},
		"no such table":           {title + listen4, "", 0, false, "0.0.0.0"},
		"none of the kernel's":    {title + listen4 + line("here:1199", there4, "01"), title, 0, true, "0.0.0.0"},
		"a line that is cut, too": {title + listen4 + "   1: 0A0000", title, 0, false, "0.0.0.0"},
		"by its address": {title + line(here4, "00000000:0000", "0A") + line(here4, there4, "01"), title, 1,
			false, "10.0.0.10"},
		"another's address": {title + line("0A00000A:1199", "00000000:0000", "0A") + line("0900000A:1199", there4,
			"01"), title, 0, false, "10.0.0.10"},
		"by a name": {title + listen4 + line(here4, there4, "01"), title, 1, false, "salt"},
	} {
		dir := t.TempDir()
		for file, text := range map[string]string{"tcp": c.tcp, "tcp6": c.tcp6} {
			if text == "" {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := connections(dir, c.at, 4505, false); got != c.want || (err != nil) != c.fails {
			t.Errorf("%s: %d, %v", name, got, err)
		}
		if name == "its own minion" { // each of them, by any of its addresses
			c.want = 2
		}
		if got, err := connections(dir, c.at, 4505, true); got != c.want || (err != nil) != c.fails {
			t.Errorf("%s: %d connected, %v", name, got, err)
		}
	}
}
