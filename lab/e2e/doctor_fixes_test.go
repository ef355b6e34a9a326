package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsdynamodb "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"phoenix/bridge/doctor"
	"phoenix/bridge/fleet"
	"phoenix/lab"
	"phoenix/lab/moto"
)

// TestPrintedFixes runs the fixes that start and restart services, and the one of a key of
// the master that the minion cannot read, as doctor prints them.
func TestPrintedFixes(t *testing.T) {
	t.Parallel()
	for _, version := range versions(lab.Salt3007) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			master := l.StartMaster(lab.MasterOptions{Version: version})
			bridge := l.NewBridge(lab.BridgeOptions{Master: master})
			master.Ready()
			onMaster := newDoctorOn(t, l, bridge.ConfigPath(), nil, filepath.Dir(master.ConfigPath()))
			fixStore(t, onMaster, bridge)
			fixMaster(t, onMaster, master)

			bridge.Phoenix("minions", "add", "web-1")
			minion := l.StartMinion(lab.MinionOptions{ID: "web-1", Masters: []*lab.Master{master}, Failover: true})
			agent := l.StartAgent(lab.AgentOptions{Minion: minion})
			fixture{l, master, bridge}.ran(t, minion, 1)
			l.Eventually(within, "the agent has written the list",
				func() (bool, string) { return len(agent.Listed()) == 1 && !agent.Owed(), agent.Tail() })
			minion.Answers(master)
			onMinion := newDoctorOn(t, l, agent.ConfigPath(), nil, filepath.Dir(minion.ConfigPath()))
			fixAgent(t, onMinion, agent)
			minion.Answers(master)
			fixMinion(t, onMinion, minion)
			minion.Answers(master)
			if minion.Runs() != 1 {
				t.Errorf("its highstate ran %d times", minion.Runs())
			}
		})
	}
}

// fixStore: before the first start of a bridge there is no store, and what doctor prints
// makes one.
func fixStore(t *testing.T, d doctorOn, bridge *lab.Bridge) {
	t.Helper()
	sound, files := d.examine(t), d.files(t)
	if f := sound["store"]; f.Severity != doctor.Note {
		t.Errorf("before the first start: %+v", f)
	}
	d.does["systemctl start phoenix-bridge"] = func() { bridge.Start(); bridge.Ready() }
	d.run(t, sound["store"])
	now := d.examine(t)
	for check, f := range sound {
		want := f.Severity
		if check == "store" || check == "bridge" {
			want = doctor.OK
		}
		if now[check].Severity != want {
			t.Errorf("after the first start of the bridge: found %+v, and finds %+v", f, now[check])
		}
	}
	if after := d.files(t); fmt.Sprint(after) != fmt.Sprint(files) {
		t.Errorf("files of Salt: before %v, now %v", files, after)
	}
}

func fixMaster(t *testing.T, d doctorOn, master *lab.Master) {
	t.Helper()
	d.does["systemctl start salt-master"] = func() { master.Start(); master.Ready() }
	d.does["systemctl restart salt-master"] = func() { master.Restart(); master.Ready() }
	d.heal(t, "salt-master", doctor.Error, master.Stop)
	d.heal(t, "bridge", doctor.Error, func() { master.Signal(syscall.SIGSTOP) }) // it hangs
	d.heal(t, "event-bus", doctor.Warning, func() {
		closeListener(t, "/proc/net/unix", func(f []string) (inode string, is bool) {
			return f[6], len(f) == 8 && f[7] == master.EventSocket() && f[3] == "00010000" // __SO_ACCEPTCON
		})
	})
	d.heal(t, "request-port", doctor.Warning, func() {
		closeListener(t, "/proc/net/tcp", func(f []string) (inode string, is bool) {
			return f[9], strings.HasSuffix(f[1], fmt.Sprintf(":%04X", d.lab.RetPort)) && f[3] == "0A" // TCP_LISTEN
		})
	})
}

// closeListener kills the process of a master that listens on a socket, which a table of
// the kernel lists. Its parent is stopped first, and so starts no other in its place.
func closeListener(t *testing.T, table string, ours func(fields []string) (inode string, is bool)) {
	t.Helper()
	text, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	socket := ""
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 6 && !strings.HasPrefix(line, "Num") && fields[0] != "sl" {
			if inode, is := ours(fields); is {
				socket = "socket:[" + inode + "]"
			}
		}
	}
	open, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	killed := 0
	for _, path := range open {
		if link, err := os.Readlink(path); err != nil || link != socket {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(path, "/")[2])
		if err != nil {
			t.Fatal(err)
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		parent, err := strconv.Atoi(strings.Fields(rest)[1])
		if err != nil || parent == os.Getpid() {
			t.Fatalf("the main process %d has %s, %v", pid, socket, err)
		}
		if err := errors.Join(syscall.Kill(parent, syscall.SIGSTOP), syscall.Kill(pid, syscall.SIGKILL)); err != nil {
			t.Fatal(err)
		}
		killed++
	}
	if killed == 0 {
		t.Fatalf("nobody has %q of %s", socket, table)
	}
}

func fixAgent(t *testing.T, d doctorOn, agent *lab.Agent) {
	t.Helper()
	d.does["systemctl start phoenix-agent"] = agent.Start
	d.heal(t, "agent", doctor.Warning, agent.Stop)
	d.heal(t, "agent", doctor.Warning, agent.Kill)
	path := filepath.Join(filepath.Dir(agent.Minion.ConfigPath()), "minion.d", "99-phoenix.conf")
	restarts := agent.Restarts()
	d.heal(t, "drop-in", doctor.Error, func() { write(t, path, "master: [\n") })
	d.lab.Eventually(within, "the agent has restarted the minion with the file that it wrote anew",
		func() (bool, string) {
			return agent.Restarts() > restarts && !agent.Owed(), agent.Tail()
		})
}

func fixMinion(t *testing.T, d doctorOn, minion *lab.Minion) {
	t.Helper()
	d.does["systemctl start salt-minion"] = minion.Start
	d.does["systemctl restart salt-minion"] = minion.Restart
	d.heal(t, "master-key", doctor.Warning,
		func() { write(t, filepath.Join(minion.PKIDir(), "minion_master.pub"), "no key\n") })
	d.heal(t, "salt-minion", doctor.Warning, minion.Stop)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestPrintedFixesOnAWS: the clock and the proof. AWS's clock is set at the wire, since no
// test may set the machine's: after "chronyc makestep" it is right again.
func TestPrintedFixesOnAWS(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	master := l.StartMaster(lab.MasterOptions{Version: lab.Salt3007})
	c := newCloud(t)
	on := c.instance(c.group("salt", 1)[0])
	c.group("web", 0)
	bridge := c.bridge(l, master, on)
	master.Ready()
	bridge.Start()
	bridge.Ready()
	onMaster := newDoctorOn(t, l, bridge.ConfigPath(), on, filepath.Dir(master.ConfigPath()))
	set := func(ahead time.Duration) {
		c.tables.SetClock(ahead)
		c.api.SetClock(ahead)
	}
	step := func() { set(0) }
	onMaster.does["chronyc makestep"], onMaster.does["systemctl restart systemd-timesyncd"] = step, step
	onMaster.heal(t, "clock", doctor.Error, func() { set(10 * time.Minute) }) // no chronyc is here
	onMaster.stands(t, "chronyc")
	onMaster.heal(t, "clock", doctor.Error, func() { set(-10 * time.Minute) })
	if asked := onMaster.asked(); asked != "systemctl restart systemd-timesyncd\nchronyc makestep\n" {
		t.Errorf("asked for %q", asked)
	}

	// The minion's instance is not in the fleet yet, so that its key waits.
	id := c.group("db", 1)[0]
	minion := l.StartMinion(lab.MinionOptions{ID: id, Masters: []*lab.Master{master}})
	agent := l.StartAgent(lab.AgentOptions{Minion: minion, Store: "dynamodb:", Env: c.instance(id),
		Config: map[string]any{
			"admit": "proven", "dynamodb": map[string]any{"endpoint": c.tables.URL}}})
	proven := func() string {
		t.Helper()
		arn := "arn:aws:ec2:" + moto.Region + ":" + account + ":instance/" + id
		proofs, err := c.store.Proofs(t.Context(), []string{arn})
		c.must(err)
		return proofs[arn].KeySHA256
	}
	l.Eventually(within, "the agent has written the proof",
		func() (bool, string) { return proven() == digestOf(t, minion), agent.Tail() })
	onMinion := newDoctorOn(t, l, agent.ConfigPath(), c.instance(id), filepath.Dir(minion.ConfigPath()))
	onMinion.does["systemctl restart phoenix-agent"] = func() {
		agent.Restart()
		l.Eventually(within, "the agent has written the proof anew",
			func() (bool, string) { return proven() == digestOf(t, minion), agent.Tail() })
	}
	onMinion.found(t, "salt-minion", doctor.OK) // it has written its pidfile
	onMinion.heal(t, "proof", doctor.Warning, func() {
		_, err := c.rows.DeleteItem(t.Context(),
			&awsdynamodb.DeleteItemInput{TableName: aws.String("proofs"), Key: map[string]types.AttributeValue{
				"instance_arn": text("arn:aws:ec2:" + moto.Region + ":" + account + ":instance/" + id)}})
		c.must(err)
	})
	onMinion.heal(t, "proof", doctor.Warning, func() {
		other, err := fleet.KeyDigest([]byte(lab.UnknownKey()))
		c.must(err)
		c.proveKey(id, other)
	})
	c.publish(notice("LAUNCH", id, "web"))
	l.Eventually(within, "the minion is accepted by its proof",
		func() (bool, string) { return master.HasAccepted(id), bridge.Tail() })
}
