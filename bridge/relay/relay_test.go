package relay

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"phoenix/bridge/event"
	"phoenix/bridge/member"
	"phoenix/bridge/salt"
)

// TestG11_OncePerMaster: each job of each master is published once on each other one,
// also if the publish port tells of it twice, and never comes back.
func TestG11_OncePerMaster(t *testing.T) {
	w := newWorld(t, "m1", "m2", "m3")
	const jobs = 50
	for i := range jobs {
		for n, s := range w.sides {
			for range 2 {
				s.publishes(jobLoad(jid(n*1000 + i)))
			}
		}
	}
	for _, s := range w.sides {
		w.waitFor(s.name+" has published the others' jobs", func() bool { return len(s.seen(&s.published)) >= 2*jobs })
	}
	time.Sleep(100 * time.Millisecond) // for what would come too much
	for n, s := range w.sides {
		got := s.seen(&s.published)
		slices.Sort(got)
		if len(slices.Compact(slices.Clone(got))) != len(got) || len(got) != 2*jobs {
			t.Errorf("%s published %d jobs, not %d", s.name, len(got), 2*jobs)
		}
		own := jid(n * 1000)[:17]
		if slices.ContainsFunc(got, func(j string) bool { return j[:17] == own }) {
			t.Errorf("%s published its own jobs again: %v", s.name, got)
		}
	}
}

// TestReturnsGoToWhoAsked, and to nobody else; what is no answer to a job of another
// master stays.
func TestReturnsGoToWhoAsked(t *testing.T) {
	w := newWorld(t, "m1", "m2", "m3")
	m1, m2, m3 := w.sides[0], w.sides[1], w.sides[2]
	m1.publishes(jobLoad(jid(1)))
	w.waitFor("m2 has published it", func() bool { return len(m2.seen(&m2.published)) == 1 })
	m2.minion(jid(1), "web-1")
	m2.minion(jid(2), "web-1")                   // of a job of m2's
	m2.minion(jid(1), "../web-2")                // no id
	m2.Event(event.Event{Kind: event.KindReturn, // tag and data disagree
		JID: []byte(jid(1)), ID: []byte("web-3"),
		Data: packed(map[string]any{"jid": jid(1), "id": "web-4", "return": 1})})
	w.waitFor("the return is at m1", func() bool { return len(m1.seen(&m1.returned)) > 0 })
	time.Sleep(50 * time.Millisecond)
	if got := m1.seen(&m1.returned); !slices.Equal(got, []string{jid(1) + " web-1"}) {
		t.Errorf("m1 got %v", got)
	}
	if got := m3.seen(&m3.returned); len(got) > 0 {
		t.Errorf("m3 got %v", got)
	}
	job, err := m1.Job(jid(1))
	if err != nil || len(job.Minions) != 1 || job.Minions[0].Master != "m2" || job.Peers[0].State != statePublished {
		t.Errorf("%+v, %v", job, err)
	}
}

// TestAllReturns: with relay.jobs: all each master gets each return once, and none goes
// round.
func TestAllReturns(t *testing.T) {
	w := (&world{t: t, all: true}).with("m1", "m2", "m3")
	for i, s := range w.sides {
		s.minion(jid(7), fmt.Sprint("web-", i+1)) // of a job that nobody published
	}
	w.sides[0].publishes(jobLoad(jid(1)))
	for _, s := range w.sides[1:] {
		w.waitFor(s.name+" has published it", func() bool { return len(s.seen(&s.published)) == 1 })
	}
	for i, s := range w.sides {
		s.minion(jid(1), fmt.Sprint("web-", i+1))
	}
	for _, s := range w.sides {
		w.waitFor(s.name+" has the others' returns", func() bool { return len(s.seen(&s.returned)) >= 2 })
	}
	time.Sleep(100 * time.Millisecond) // for what would come too much
	for i, s := range w.sides {
		got := s.seen(&s.returned)
		slices.Sort(got)
		if len(got) != 2 || !strings.HasPrefix(got[0], jid(1)) ||
			slices.Contains(got, jid(1)+fmt.Sprint(" web-", i+1)) || got[0] == got[1] {
			t.Errorf("%s was handed %v", s.name, got)
		}
	}
}

// TestG10_NobodyWithoutTheKey: whoever does not hold the masters' key gets no further
// than TLS, whichever key it has, whatever it sends.
func TestG10_NobodyWithoutTheKey(t *testing.T) {
	w := newWorld(t, "m1")
	m1 := w.sides[0]
	address := m1.Status().Listen
	other, err := tlsConfig(strangers)
	if err != nil {
		t.Fatal(err)
	}
	other.VerifyConnection = nil
	try := func(name string, config *tls.Config) {
		conn, err := tls.Dial("tcp", address, config)
		if err == nil {
			body, _ := message{Kind: kindHello, Instance: "m9", Newest: 1, Oldest: 1}.encode()
			_, _ = conn.Write(appendFrame(nil, body))
			_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			_, err = readFrame(conn, maxHello)
			conn.Close()
		}
		if err == nil {
			t.Errorf("%s: the relay said hello", name)
		}
	}
	try("another key", other)
	try("no key", &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}})
	mine, err := tlsConfig(ours)
	if err != nil {
		t.Fatal(err)
	}
	old := mine.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	try("TLS 1.2", old)
	elsewhere := mine.Clone()
	elsewhere.NextProtos = []string{"h2"}
	try("another protocol", elsewhere)
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Write(bytes.Repeat([]byte("garbage "), 1000))
	conn.Close()
	w.waitFor("five refusals", func() bool { return m1.Status().Refused >= 5 })

	// And nothing is sent to a peer that does not hold it.
	w.add("evil", strangers)
	w.waitFor("m1 has tried", func() bool { p := m1.Status().Peers; return len(p) == 1 && p[0].Error != "" })
	m1.publishes(jobLoad(jid(1)))
	if p := m1.Status().Peers[0]; p.Connected || !strings.Contains(p.Error, errNotMaster.Error()) {
		t.Errorf("%+v", p)
	}
	if got := w.sides[1].seen(&w.sides[1].published); len(got) > 0 {
		t.Errorf("it published %v", got)
	}
}

// fakePeer speaks the protocol by hand, with the masters' key.
func fakePeer(t *testing.T, address, name string) (*link, error) {
	t.Helper()
	config, err := tlsConfig(ours)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return handshake(t.Context(), conn, config, false, message{Instance: name}, time.Now)
}

// TestG11_RefusesWhatItKnowsOrIsLate: the same job once more, from the same master or
// another, one that is late, and what is none.
func TestG11_RefusesWhatItKnowsOrIsLate(t *testing.T) {
	w := newWorld(t, "m1")
	m1 := w.sides[0]
	l, err := fakePeer(t, m1.Status().Listen, "m2")
	if err != nil {
		t.Fatal(err)
	}
	ask := func(m message) message {
		t.Helper()
		if m.At == 0 {
			m = l.stamp(m)
		}
		if err := l.write(m); err != nil {
			t.Fatal(err)
		}
		answer, err := l.read()
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	job := func(n int) message { return message{Kind: kindJob, JID: jid(n), Load: asRaw(jobLoad(jid(n)))} }
	if a := ask(job(1)); a.State != statePublished {
		t.Errorf("a good job: %+v", a)
	}
	for name, m := range map[string]message{
		"once more":     job(1),
		"no jid":        {Kind: kindJob, JID: "../../etc", Load: asRaw(jobLoad(jid(3)))},
		"no function":   {Kind: kindJob, JID: jid(4), Load: nil},
		"6 s ago, late": func() message { m := job(5); m.At = l.clock.at(time.Now()) - 6000; return m }(),
	} {
		if a := ask(m); a.State != stateRefused || a.Why == "" {
			t.Errorf("%s: %+v", name, a)
		}
	}
	m1.fails = errors.New("the master says no")
	if a := ask(job(6)); a.State != stateRefused || !strings.Contains(a.Why, "says no") {
		t.Errorf("a job that the master refuses: %+v", a)
	}
	for n, err := range []error{context.DeadlineExceeded, salt.ErrUnreachable, fmt.Errorf("so: %w", salt.ErrDoubt)} {
		m1.fails = err
		if a := ask(job(20 + n)); a.State != stateUnknown || a.Why == "" {
			t.Errorf("%v: %+v", err, a)
		}
	}
	m1.fails = fmt.Errorf("%w: %w", salt.ErrUnreachable, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED})
	if a := ask(job(25)); a.State != stateRefused || a.Why == "" {
		t.Errorf("a job that was not sent: %+v", a)
	}
	if got := m1.seen(&m1.published); !slices.Equal(got, []string{jid(1)}) {
		t.Errorf("published: %v", got)
	}
	// A master that does not answer is asked no longer than the job may be late.
	m1.fails = errHangs
	late := job(30)
	late.At = l.clock.at(time.Now()) - 4000
	begun := time.Now()
	if a := ask(late); a.State != stateUnknown {
		t.Errorf("a master that hangs: %+v", a)
	}
	if took := time.Since(begun); took > 2500*time.Millisecond {
		t.Errorf("a job that was 4 s late waited for the master for %v", took)
	}
}

// TestG11_LateFromTheStart: how late a job is counts from when it was read on its own
// master, and one that waited there for too long is not offered.
func TestG11_LateFromTheStart(t *testing.T) {
	w := newWorld(t, "m1", "m2")
	m1, m2 := w.sides[0], w.sides[1]
	m1.publishHandler.Job(jobLoad(jid(1)), time.Now().Add(-6*time.Second))
	if c := m1.Status(); c.Skipped != 1 || c.Carried != 0 || !c.Hears || c.Error == "" {
		t.Errorf("%+v", c)
	}
	read := time.Now().Add(-4 * time.Second)
	m1.publishHandler.Job(jobLoad(jid(2)), read)
	w.waitFor("m2 has the other", func() bool { return len(m2.seen(&m2.published)) == 1 })
	p := m1.peers["m2"]
	p.mu.Lock()
	link := p.link
	p.jobs = make(chan message, 1) // nobody sends it
	p.mu.Unlock()
	p.offer(message{Kind: kindJob, JID: jid(3)}, read)
	late := <-p.jobs
	// Both readings are rounded, and the clocks agree to milliseconds.
	if age := link.clock.at(time.Now()) - late.At; age < 3990 {
		t.Errorf("it is stamped %d ms ago", age)
	}
}

// TestUnsignedIsSaid: a master that does not sign leaves its relay deaf, and status
// says why; one publish that cannot be read does not.
func TestUnsignedIsSaid(t *testing.T) {
	w := newWorld(t, "m1")
	m1 := w.sides[0]
	m1.publishHandler.Skipped(member.ErrUnsigned)
	if s := m1.Status(); s.Hears || !strings.Contains(s.Error, "needs sign_pub_messages") || s.Skipped != 1 {
		t.Errorf("%+v", s)
	}
	m1.publishes(jobLoad(jid(1)))
	if s := m1.Status(); !s.Hears || s.Error != "" {
		t.Errorf("%+v", s)
	}
	m1.publishHandler.Skipped(errors.New("nonsense"))
	if s := m1.Status(); !s.Hears || s.Error != "nonsense" || s.Skipped != 2 {
		t.Errorf("%+v", s)
	}
}

// TestPhoenixsOwnJobsStay: the bridge's own questions are no commands.
func TestPhoenixsOwnJobsStay(t *testing.T) {
	w := newWorld(t, "m1", "m2")
	w.sides[0].Note(jid(1))
	w.sides[0].publishes(jobLoad(jid(1)))
	w.sides[0].publishes(jobLoad(jid(2)))
	w.waitFor("the other job is there", func() bool { return len(w.sides[1].seen(&w.sides[1].published)) > 0 })
	if got := w.sides[1].seen(&w.sides[1].published); !slices.Equal(got, []string{jid(2)}) {
		t.Errorf("m2 published %v", got)
	}
}

// TestMissingIsNamed: a peer that is gone costs the job nothing, and the minions that
// were seen there are named.
func TestMissingIsNamed(t *testing.T) {
	w := newWorld(t, "m1", "m2")
	m1, m2 := w.sides[0], w.sides[1]
	m1.publishes(jobLoad(jid(1)))
	w.waitFor("m2 has it", func() bool { return len(m2.seen(&m2.published)) == 1 })
	m2.minion(jid(1), "web-2")
	m1.minion(jid(1), "web-1")
	w.waitFor("the return is at m1", func() bool { return len(m1.seen(&m1.returned)) == 1 })
	w.cancel[1]()
	w.waitFor("m1 notices", func() bool { return !m1.Status().Peers[0].Connected })
	m1.Event(event.Event{Tag: []byte("salt/job/" + jid(2) + "/new"),
		Data: packed(map[string]any{"jid": jid(2), "minions": []string{"web-1", "web-2"}})})
	begun := time.Now()
	m1.publishes(jobLoad(jid(2)))
	if took := time.Since(begun); took > 100*time.Millisecond {
		t.Errorf("the job took %v", took)
	}
	m1.minion(jid(2), "web-1")
	job, err := m1.Job(jid(2))
	if err != nil || len(job.Missing) != 1 || job.Missing[0].Minion != "web-2" || job.Missing[0].Master != "m2" ||
		!strings.Contains(job.Missing[0].Why, stateUnreachable) {
		t.Fatalf("%+v, %v", job, err)
	}
	w.waitFor("an event says so", func() bool { return len(m1.seen(&m1.fired)) == 1 })
	if got, want := m1.seen(&m1.fired)[0], fmt.Sprintf("phoenix/relay/%s/missing m2 [web-2]", jid(2)); got != want {
		t.Errorf("event %q, not %q", got, want)
	}
	if list := m1.Jobs(); len(list) != 2 || list[0].JID != jid(2) {
		t.Errorf("%+v", list)
	}
}

// TestHungPeer: a peer that takes connections and then says nothing delays nothing,
// is called unreachable, and holds nobody else up.
func TestHungPeer(t *testing.T) {
	w := newWorld(t, "m1", "m2")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w.mu.Lock()
	w.rows = append(w.rows, row("hung", l.Addr().String()))
	w.mu.Unlock()
	m1, m2 := w.sides[0], w.sides[1]
	w.waitFor("m1 has tried it", func() bool { return len(m1.Status().Peers) == 2 })
	m1.publishes(jobLoad(jid(1)))
	w.waitFor("m2 has the job", func() bool { return len(m2.seen(&m2.published)) == 1 })
	job, err := m1.Job(jid(1))
	if err != nil || job.Peers[0].Master != "hung" || job.Peers[0].State != stateUnreachable {
		t.Errorf("%+v, %v", job, err)
	}
}

// TestAnotherVersion: a peer that speaks no version of ours is left out, and named.
func TestAnotherVersion(t *testing.T) {
	w := newWorld(t, "m1")
	m1 := w.sides[0]
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	config, err := tlsConfig(ours)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			secure := tls.Server(conn, config)
			body, _ := message{Kind: kindHello, Instance: "future", Oldest: 7, Newest: 9}.encode()
			_, _ = secure.Write(appendFrame(nil, body))
			_, _ = readFrame(secure, maxHello)
			conn.Close()
		}
	}()
	w.mu.Lock()
	w.rows = append(w.rows, row("future", l.Addr().String()))
	w.mu.Unlock()
	w.waitFor("m1 says why", func() bool {
		p := m1.Status().Peers
		return len(p) == 1 && !p[0].Connected && strings.Contains(p[0].Error, "versions 7 to 9")
	})
	m1.publishes(jobLoad(jid(1)))
	if job, err := m1.Job(jid(1)); err != nil || !strings.Contains(job.Peers[0].Why, "versions") {
		t.Errorf("%+v, %v", job, err)
	}
}

// TestReturnsOutliveAConnection: what minions return while the master that asked is
// away comes when its bridge is back.
func TestReturnsOutliveAConnection(t *testing.T) {
	w := newWorld(t, "m1")
	m1 := w.sides[0]
	l, err := fakePeer(t, m1.Status().Listen, "m2")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.send(message{Kind: kindJob, JID: jid(1), Load: asRaw(jobLoad(jid(1)))}); err != nil {
		t.Fatal(err)
	}
	if a, err := l.read(); err != nil || a.State != statePublished {
		t.Fatalf("%+v, %v", a, err)
	}
	l.conn.Close()
	w.waitFor("m1 knows that m2 is away", func() bool {
		m1.Relay.mu.Lock()
		defer m1.Relay.mu.Unlock()
		return m1.askers["m2"].link == nil
	})
	m1.minion(jid(1), "web-1")
	if l, err = fakePeer(t, m1.Status().Listen, "m2"); err != nil {
		t.Fatal(err)
	}
	if m, err := l.read(); err != nil || m.Kind != kindReturn || m.ID != "web-1" || m.JID != jid(1) {
		t.Errorf("%+v, %v", m, err)
	}
}

// TestG7_OutboxIsBounded: an asker that is away costs no more than a bound.
func TestG7_OutboxIsBounded(t *testing.T) {
	o := newOutbox(time.Now)
	big := message{Kind: kindReturn, JID: jid(1), ID: "web-1",
		Values: asRaw(map[string][]byte{"return": make([]byte, 1<<20)})}
	kept := 0
	for range 100 {
		if o.put(big) {
			kept++
		}
	}
	if kept == 0 || kept > maxOutbox>>20 || o.dropped != uint64(100-kept) {
		t.Errorf("%d kept, %d dropped", kept, o.dropped)
	}
	in := newInbox()
	for range 100 {
		in.put(big)
	}
	if in.bytes > maxWaiting {
		t.Errorf("%d bytes wait", in.bytes)
	}
	if n := len(in.take()); n != 1 {
		t.Errorf("%d of 1 MiB in one request", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	(&Relay{inject: newInbox()}).passReturns(ctx)
}

// TestG10_EventsAreNotBelieved: what a minion can put on the bus carries no job.
func TestG10_EventsAreNotBelieved(t *testing.T) {
	w := newWorld(t, "m1", "m2")
	m1, m2 := w.sides[0], w.sides[1]
	forged := map[string]any{"jid": jid(1), "fun": "cmd.run", "arg": []any{"id"}, "tgt": "*", "tgt_type": "glob",
		"user": "root", "minions": []string{"web-1"}}
	for _, tag := range []string{"salt/job/" + jid(1) + "/new", "salt/job/" + jid(1) + "/publish", jid(1),
		"phoenix/relay/" + jid(1)} {
		m1.Event(event.Event{Tag: []byte(tag), Data: packed(forged)})
	}
	m1.minion(jid(1), "web-1")
	m1.publishes(jobLoad(jid(2))) // one that comes after them
	w.waitFor("the job after them is there", func() bool { return len(m2.seen(&m2.published)) > 0 })
	if got := m2.seen(&m2.published); !slices.Equal(got, []string{jid(2)}) {
		t.Errorf("m2 published %v", got)
	}
	if got := m2.seen(&m2.returned); len(got) > 0 {
		t.Errorf("m2 was handed %v", got)
	}
}

// BenchmarkCarry: from hearing a job to another master's publish of it, on loopback;
// what that publish itself takes is not in it.
func BenchmarkCarry(b *testing.B) {
	w := newWorld(b, "m1", "m2")
	m1, m2 := w.sides[0], w.sides[1]
	m2.told = make(chan string, 1)
	n := 0
	for b.Loop() {
		n++
		m1.publishes(jobLoad(jid(n)))
		<-m2.told
	}
}

// BenchmarkReturn: from a return on one master's bus to the other's request channel.
func BenchmarkReturn(b *testing.B) {
	w := newWorld(b, "m1", "m2")
	m1, m2 := w.sides[0], w.sides[1]
	m2.told = make(chan string, 1)
	m1.publishes(jobLoad(jid(1)))
	<-m2.told
	m1.told = make(chan string, 1)
	n := 0
	for b.Loop() {
		n++
		m2.minion(jid(1), fmt.Sprint("web-", n))
		<-m1.told
	}
}
