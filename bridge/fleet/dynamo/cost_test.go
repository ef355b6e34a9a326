package dynamo

import (
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"phoenix/bridge/fleet"
)

// TestCostOfALife counts what one minion costs from launch to tombstone: six
// writes and two reads, though each step is another process's, which has not
// seen the row before.
func TestCostOfALife(t *testing.T) {
	c := ownTables(t)
	created(t, c)
	var count counter
	c.HTTP = count.seam()
	const id, arn, jid = "i-00000001", "arn:aws:ec2:eu-test-1:1:instance/i-00000001", "20260101000000000001"
	if err := openTest(t, c).PutProof(t.Context(), arn, fleet.Proof{KeySHA256: "k"}); err != nil { // the minion's own
		t.Fatal(err)
	}
	count.take()
	type cost = map[string]int
	write := func(change fleet.Change) func(s *Store) error {
		return func(s *Store) error { _, err := fleet.ApplyOne(t.Context(), s, change); return err }
	}
	total := cost{}
	for _, step := range []struct {
		name string
		do   func(*Store) error
		want cost
	}{
		{"launched", write(fleet.Add{InstanceID: id, Group: "web"}), cost{"UpdateItem": 1}},
		{"knocks", func(s *Store) error { _, err := s.Minion(t.Context(), id); return err }, cost{"GetItem": 1}},
		{"proven", func(s *Store) error { _, err := s.Proofs(t.Context(), []string{arn}); return err },
			cost{"BatchGetItem": 1}},
		{"accepted", write(fleet.Bind{InstanceID: id, KeySHA256: "k", PublicKey: "p"}), cost{"UpdateItem": 1}},
		{"claimed", write(fleet.Claim{InstanceID: id, Owner: "m1", Incarnation: "1", JID: jid, Attempt: 1}),
			cost{"UpdateItem": 1}},
		{"highstated", write(fleet.Finish{InstanceID: id, JID: jid, Outcome: fleet.Succeeded}), cost{"UpdateItem": 1}},
		{"terminated", write(fleet.Retire{InstanceID: id, Group: "web"}), cost{"UpdateItem": 1}},
		{"stripped", write(fleet.Tombstone{InstanceID: id, Expires: 4102444800}), cost{"UpdateItem": 1}},
	} {
		if err := step.do(openTest(t, c)); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		got := count.take()
		if !maps.Equal(got, step.want) {
			t.Errorf("%s: %v, want %v", step.name, got, step.want)
		}
		for op, n := range got {
			total[op] += n
		}
	}
	if total["GetItem"]+total["BatchGetItem"] > 2 || total["UpdateItem"] > 6 || len(total) != 3 {
		t.Errorf("a life costs %v", total)
	}
}

// TestCostOfTheRest: what is told again, refused or raced costs one request more
// at most, and lists cost what their pages do.
func TestCostOfTheRest(t *testing.T) {
	c := ownTables(t)
	created(t, c)
	var count counter
	c.HTTP = count.seam()
	s := openTest(t, c)
	const id, jid = "i-00000001", "20260101000000000001"
	type cost = map[string]int
	for _, step := range []struct {
		name    string
		change  fleet.Change
		refused error
		want    cost
	}{
		{"launch", fleet.Add{InstanceID: id}, nil, cost{"UpdateItem": 1}},
		{"told again", fleet.Add{InstanceID: id}, nil, cost{"UpdateItem": 1}},
		{"told more", fleet.Add{InstanceID: id, Group: "web"}, nil, cost{"UpdateItem": 2}},
		{"bound", fleet.Bind{InstanceID: id, KeySHA256: "k"}, nil, cost{"UpdateItem": 1}},
		{"another key", fleet.Bind{InstanceID: id, KeySHA256: "l"}, fleet.ErrOtherKey, cost{"UpdateItem": 1}},
		{"claimed", fleet.Claim{InstanceID: id, Owner: "m1", JID: jid, Attempt: 1}, nil, cost{"UpdateItem": 1}},
		{"lost", fleet.Claim{InstanceID: id, Owner: "m2", JID: "j2", Attempt: 1}, fleet.ErrConflict,
			cost{"UpdateItem": 1}},
		{"taken over", fleet.Claim{InstanceID: id, From: 1, Owner: "m2", JID: jid, Attempt: 1}, nil,
			cost{"UpdateItem": 1}},
		{"busy", fleet.Finish{InstanceID: id, JID: jid, Outcome: fleet.Busy}, nil, cost{"GetItem": 1, "UpdateItem": 1}},
		{"claimed anew", fleet.Claim{InstanceID: id, From: 3, Owner: "m2", JID: "j3", Attempt: 1}, nil,
			cost{"UpdateItem": 1}},
		{"failed", fleet.Finish{InstanceID: id, JID: "j3", Outcome: fleet.Erred, Retcode: 2}, nil,
			cost{"UpdateItem": 1}},
		{"second try", fleet.Claim{InstanceID: id, From: 5, Owner: "m2", JID: "j4", Attempt: 2}, nil,
			cost{"UpdateItem": 1}},
		{"asked for", fleet.Rerun{InstanceID: id, Force: true}, nil, cost{"GetItem": 1, "UpdateItem": 1}},
		{"terminated", fleet.Retire{InstanceID: id}, nil, cost{"UpdateItem": 1}},
		{"told again", fleet.Retire{InstanceID: id}, nil, cost{"UpdateItem": 1}},
		{"late launch", fleet.Add{InstanceID: id}, fleet.ErrTerminated, cost{"UpdateItem": 1}},
	} {
		if _, err := fleet.ApplyOne(t.Context(), s, step.change); !errors.Is(err, step.refused) {
			t.Fatalf("%s: %v, want %v", step.name, err, step.refused)
		}
		if got := count.take(); !maps.Equal(got, step.want) {
			t.Errorf("%s: %v, want %v", step.name, got, step.want)
		}
	}

	var ids []string
	for i := range 1000 {
		ids = append(ids, fmt.Sprintf("i-%08x", i))
	}
	for name, step := range map[string]struct {
		do   func() error
		want cost
	}{
		"compare 1,000": {func() error { _, err := s.Minions(t.Context(), ids); return err }, cost{"BatchGetItem": 10}},
		"terminations": {func() error {
			return s.ByStatus(t.Context(), fleet.Terminate, "", func([]fleet.Minion) error { return nil })
		}, cost{"Query": 1}},
		"masters": {func() error { _, err := s.Masters(t.Context()); return err }, cost{"Scan": 1}},
		"beat": {func() error { _, err := s.Beat(t.Context(), fleet.Beat{InstanceID: "m"}); return err },
			cost{"UpdateItem": 1}},
		"since": {func() error { _, err := s.Since(t.Context()); return err },
			cost{"DescribeTable": 1, "GetItem": 1, "UpdateItem": 1}},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := count.take(); !maps.Equal(got, step.want) {
			t.Errorf("%s: %v, want %v", name, got, step.want)
		}
	}
	if _, err := s.Since(t.Context()); err != nil || len(count.take()) > 0 {
		t.Errorf("since is asked for twice (%v)", err)
	}
}

// TestPruneCounts what it deletes itself.
func TestPruneCounts(t *testing.T) {
	s := created(t, ownTables(t))
	// DynamoDB Local's TTL comes within a second or so, AWS's within days.
	if _, err := s.client.UpdateTimeToLive(t.Context(),
		&dynamodb.UpdateTimeToLiveInput{TableName: &s.config.MinionsTable,
			TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: aws.String(expires),
				Enabled: aws.Bool(false)}}); err != nil {
		t.Fatal(err)
	}
	const n = 40
	var changes []fleet.Change
	for i := range n {
		id := fmt.Sprintf("i-%08x", i)
		changes = append(changes, fleet.Retire{InstanceID: id},
			fleet.Tombstone{InstanceID: id, Expires: time.Now().Unix() - 1})
	}
	if _, err := s.Apply(t.Context(), changes); err != nil {
		t.Fatal(err)
	}
	if pruned, err := s.Prune(t.Context()); err != nil || pruned != n {
		t.Errorf("pruned %d, %v", pruned, err)
	}
}
