package e2e_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsdynamodb "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"phoenix/lab"
	"phoenix/lab/moto"
)

// saltWaits is how long a minion sleeps while its key is pending, by Salt's default. The
// lab's minions sleep for a second.
const saltWaits = 10

// TestAcceptAhead: the agent of a new instance makes the minion's key before the minion
// first starts, and writes it as proof; a master lays it down as accepted, and the
// minion's first auth request finds it. How long is it from the start of the minion's
// process to its highstate, against a minion whose key waits, and against Salt alone
// with auto_accept?
func TestAcceptAhead(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	open := l.StartMaster(lab.MasterOptions{Version: lab.Salt3007, Extra: map[string]any{"auto_accept": true}})
	master := l.StartMaster(lab.MasterOptions{Version: lab.Salt3007})
	c := newCloud(t)
	bridge := c.bridge(l, master, c.instance(c.group("salt", 1)[0]))
	master.Ready()
	open.Ready()
	bridge.Start()
	bridge.Ready()
	ids := c.group("web", 2)
	for _, id := range ids {
		c.publish(notice("LAUNCH", id, "web"))
	}
	l.Eventually(within, "both are expected",
		func() (bool, string) { return len(bridge.Minions()) == 2, fmt.Sprint(bridge.Minions()) })

	extra := map[string]any{"acceptance_wait_time": saltWaits}
	alone := maps.Clone(extra)
	alone["startup_states"] = "highstate"
	times := map[string]time.Duration{}
	begins := func(how string, m *lab.Minion, started time.Time) {
		l.Eventually(within, "the highstate of "+m.ID+" begins",
			func() (bool, string) { return m.Runs() > 0, m.Tail() })
		times[how] = time.Since(started)
	}
	m := l.StartMinion(lab.MinionOptions{ID: "alone", Masters: []*lab.Master{open}, Extra: alone})
	begins("auto_accept and startup_states", m, time.Now())

	// As it was: the minion has made its own key, and its agent writes the proof then.
	m = l.StartMinion(lab.MinionOptions{ID: ids[0], Masters: []*lab.Master{master}, Extra: extra})
	started := time.Now()
	m.PublicKey()
	c.agent(l, m)
	begins("its key waits", m, started)

	m = l.NewMinion(lab.MinionOptions{ID: ids[1], Masters: []*lab.Master{master}, Extra: extra})
	a := c.agent(l, m)
	l.Eventually(within, "the agent starts the minion", func() (bool, string) { return m.Alive(), a.Tail() })
	started = time.Now()
	key, proof := m.PublicKey(), c.proof(ids[1])
	begins("accept ahead", m, started)
	if m.PublicKey() != key || proof != strings.TrimSpace(key) {
		t.Errorf("the minion has the key %q, and had %q; the proof is %q", m.PublicKey(), key, proof)
	}
	if pending := pendings(master, ids[1]); len(pending) > 0 {
		t.Errorf("its key was pending: %v", pending)
	}
	if pending := pendings(master, ids[0]); len(pending) == 0 {
		t.Error("the key of the one whose key waits was not pending: the figure says nothing")
	}
	for _, how := range []string{"auto_accept and startup_states", "its key waits", "accept ahead"} {
		t.Logf("Salt %s, %s: %.1f s from the start of the minion to its highstate", lab.Salt3007, how,
			times[how].Seconds())
	}
	if times["accept ahead"] >= times["its key waits"] {
		t.Errorf("accept ahead is no faster: %v", times)
	}
}

// agent starts an agent as on an instance.
func (c *cloud) agent(l *lab.Lab, m *lab.Minion) *lab.Agent {
	c.t.Helper()
	return l.StartAgent(lab.AgentOptions{Minion: m, Store: "dynamodb:", Env: c.instance(m.ID),
		Config: map[string]any{"dynamodb": map[string]any{"endpoint": c.tables.URL}}})
}

// proof is the public key that an instance's proof has.
func (c *cloud) proof(id string) string {
	c.t.Helper()
	arn := "arn:aws:ec2:" + moto.Region + ":" + account + ":instance/" + id
	out, err := c.rows.GetItem(c.t.Context(), &awsdynamodb.GetItemInput{TableName: aws.String("proofs"),
		Key: map[string]types.AttributeValue{"instance_arn": text(arn)}})
	c.must(err)
	key, _ := out.Item["public_key"].(*types.AttributeValueMemberS)
	if key == nil {
		c.t.Fatalf("the proof of %s is %v", id, out.Item)
	}
	return key.Value
}

// pendings are the lines in which a master says that a key is pending.
func pendings(m *lab.Master, id string) []string {
	var found []string
	for _, line := range m.Grep("pending") {
		if strings.Contains(line, id) {
			found = append(found, line)
		}
	}
	return found
}
