package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"phoenix/bridge/fleet"
	"phoenix/lab"
	"phoenix/lab/awsproxy"
)

// TestG3_Proven: with admit: proven a key comes in only if the instance itself,
// by its agent, wrote that key under its own ARN; whoever asked first.
func TestG3_Proven(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	master := l.StartMaster(lab.MasterOptions{Version: lab.Salt3007, Workers: 3})
	c := newCloud(t)
	bridge := c.bridge(l, master, c.instance(c.group("salt", 1)[0]))
	master.Ready()
	bridge.Start()
	ids := c.group("web", 3)
	start := func(id string) *lab.Minion {
		return l.StartMinion(lab.MinionOptions{ID: id, Masters: []*lab.Master{master}})
	}
	for _, id := range ids {
		c.publish(notice("LAUNCH", id, "web"))
	}
	master.RequestAuth(ids[1], lab.UnknownKey())
	honest, robbed, mute := start(ids[0]), start(ids[1]), start(ids[2])
	asks := awsproxy.Start(t, c.tables.URL) // what agents are allowed is not what masters are
	var agents []*lab.Agent
	for _, m := range []*lab.Minion{honest, robbed} {
		agents = append(agents, l.StartAgent(lab.AgentOptions{Minion: m, Store: "dynamodb:", Env: c.instance(m.ID),
			Config: map[string]any{"dynamodb": map[string]any{"endpoint": asks.URL}}}))
	}
	bridge.Ready()
	for i, m := range []*lab.Minion{honest, robbed} {
		l.Eventually(within, "the highstate of "+m.ID+" is on record", func() (bool, string) {
			row := bridge.Minions()[m.ID]
			return row.HighstateRan, fmt.Sprintf("%+v; pending %v, denied %v", row, master.Pending(), master.Denied())
		})
		if row := bridge.Minions()[m.ID]; row.KeySHA256 != digestOf(t, m) || m.Runs() != 1 {
			t.Errorf("%s: runs %+v, row %+v", m.ID, m.RunLog(), row)
		}
		if lines := agents[i].Log(); !strings.Contains(lines, "proof of the minion's key written") {
			t.Error(lines)
		}
	}

	// No proof: its key waits, and the reason is there for the asking.
	l.Eventually(within, "a minion without agent waits", func() (bool, string) {
		return slices.Contains(master.Pending(), mute.ID), fmt.Sprint(master.Pending())
	})
	explained(t, bridge, mute.ID, "unproven", "its instance has not written its proof yet (phoenix agent does)")
	// A proof of another key does not let it in.
	other, err := fleet.KeyDigest([]byte(lab.UnknownKey()))
	c.must(err)
	c.proveKey(mute.ID, other)
	l.Eventually(within, "its key is unlinked", func() (bool, string) {
		return len(bridge.Grep("rule=other-proof")) > 0, bridge.Tail()
	})
	l.Never(settle, "a key is let in by the proof of another", func() (bool, string) {
		return master.HasAccepted(mute.ID), fmt.Sprint(master.Accepted())
	})
	// Its own does.
	c.prove(mute)
	l.Eventually(within, "it is accepted", func() (bool, string) { return master.HasAccepted(mute.ID), bridge.Tail() })
	explained(t, bridge, mute.ID, "accepted", "its key is accepted")
	permits(t, "iam-minion.txt", asks)
}

func digestOf(t *testing.T, m *lab.Minion) string {
	t.Helper()
	digest, err := fleet.KeyDigest([]byte(m.PublicKey()))
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

// overSocket has the bridge explain a minion, as the runner does (_runners/phoenix.py).
func overSocket(t *testing.T, b *lab.Bridge, id string) (x struct{ Rule, Reason string }) {
	t.Helper()
	client := http.Client{Timeout: within,
		Transport: &http.Transport{DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(b.Dir, "bridge.sock"))
			}}}
	body, err := json.Marshal(map[string]any{"operation": "minions.explain", "arguments": map[string]string{"id": id}})
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Post("http://bridge/v1/operation", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer := struct{ Answer any }{&x}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("explain %s in the bridge: %s, %v", id, response.Status, err)
	}
	return x
}

// explained checks which rule decides about a minion, as the command tells it.
func explained(t *testing.T, b *lab.Bridge, id, rule, reason string) {
	t.Helper()
	var x struct{ Rule, Reason string }
	b.JSON(&x, "minions", "explain", id)
	if x.Rule != rule || x.Reason != reason {
		t.Errorf("%+v, want %s: %s", x, rule, reason)
	}
	if out := b.Phoenix("minions", "explain", id); !strings.Contains(out, "rule       "+rule) ||
		!strings.Contains(out, reason) {
		t.Error(out)
	}
	// salt-run phoenix.explain asks the bridge, which must know of proofs what the
	// command knows.
	if answer := overSocket(t, b, id); answer.Rule != rule || answer.Reason != reason {
		t.Errorf("the bridge explains %+v, want %s: %s", answer, rule, reason)
	}
}
