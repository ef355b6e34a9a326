package dynamo

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"phoenix/bridge/fleet"
)

// put writes an item as another program would.
func put(t *testing.T, s *Store, table string, it item) {
	t.Helper()
	if _, err := s.client.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &table, Item: it}); err != nil {
		t.Fatal(err)
	}
}

func n(value string) types.AttributeValue { return &types.AttributeValueMemberN{Value: value} }
func b(value bool) types.AttributeValue   { return &types.AttributeValueMemberBOOL{Value: value} }

// TestG9TablesOf2015: tables without an index, rows with other types. Create adds
// what is missing, and minions go on from where they are.
func TestG9TablesOf2015(t *testing.T) {
	s := openTest(t, ownTables(t))
	for _, table := range []string{s.config.MinionsTable, s.config.MastersTable} {
		if _, err := s.client.CreateTable(t.Context(),
			&dynamodb.CreateTableInput{TableName: &table, AttributeDefinitions: define("instanceid"),
				KeySchema: keys("instanceid"), BillingMode: types.BillingModePayPerRequest}); err != nil {
			t.Fatal(err)
		}
	}
	none := text(noRunner2015)
	ran, fresh := map[string]types.AttributeValue{}, map[string]types.AttributeValue{}
	for id, v := range map[string]types.AttributeValue{"bool": b(true), "number": n("1"), "text": text("True")} {
		ran["ran-"+id] = v
	}
	for id, v := range map[string]types.AttributeValue{"bool": b(false), "number": n("0"), "text": text("False"),
		"null": &types.AttributeValueMemberNULL{Value: true}} {
		fresh["fresh-"+id] = v
	}
	for id, v := range ran {
		put(t, s, s.config.MinionsTable,
			item{"instanceid": text(id), "status": text("LAUNCH"), "modified": text("2015-10-27 10:11:12.131415"),
				"highstate_ran": v, "highstate_runner": text("i-master")})
	}
	for id, v := range fresh {
		put(t, s, s.config.MinionsTable,
			item{"instanceid": text(id), "status": text("LAUNCH"), "modified": n("1445940672"),
				"highstate_ran": v, "highstate_runner": none})
	}
	put(t, s, s.config.MastersTable,
		item{"instanceid": text("i-master"), "status": text("LAUNCH"), "ipaddr": text(noIP2015),
			"modified": n("1445940672")})
	for range 2 { // what is there already is left alone
		if err := s.Create(t.Context()); err != nil {
			t.Fatal(err)
		}
	}

	for id := range ran {
		want := fleet.Minion{InstanceID: id, Status: fleet.Launch, Modified: "2015-10-27 10:11:12.131415",
			HighstateRan: true, HighstateRunner: "i-master"}
		if row, err := s.Minion(t.Context(), id); err != nil || row != want {
			t.Errorf("%+v, %v", row, err)
		}
		_, err := fleet.ApplyOne(t.Context(), s, fleet.Claim{InstanceID: id, Owner: "m", JID: "j", Attempt: 1})
		if !errors.Is(err, fleet.ErrPrecondition) {
			t.Errorf("%s claimed although its highstate ran: %v", id, err)
		}
	}
	for id := range fresh {
		want := fleet.Minion{InstanceID: id, Status: fleet.Launch, Modified: "1445940672"}
		if row, err := s.Minion(t.Context(), id); err != nil || row != want {
			t.Errorf("%+v, %v", row, err)
		}
		apply(t, s, fleet.Bind{InstanceID: id, KeySHA256: "k"},
			fleet.Claim{InstanceID: id, Owner: "m", JID: "j", Attempt: 1},
			fleet.Finish{InstanceID: id, JID: "j", Outcome: fleet.Succeeded},
			fleet.Retire{InstanceID: id})
		if _, err := s.Minion(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	count := func(status fleet.Status) (rows int) {
		if err := s.ByStatus(t.Context(), status, "",
			func(page []fleet.Minion) error { rows += len(page); return nil }); err != nil {
			t.Error(err)
		}
		return rows
	}
	if launched, gone := count(fleet.Launch), count(fleet.Terminate); launched != len(ran) || gone != len(fresh) {
		t.Errorf("the index has %d LAUNCH and %d TERMINATE, want %d and %d", launched, gone, len(ran), len(fresh))
	}
	masters, err := s.Masters(t.Context())
	if err != nil || len(masters) != 1 || masters[0].IPAddr != "" || masters[0].Status != fleet.Launch {
		t.Errorf("masters %+v, %v", masters, err)
	}
	if row, err := s.Beat(t.Context(), fleet.Beat{InstanceID: "i-master", IPAddr: "127.0.0.1"}); err != nil ||
		row.Heartbeat != 1 || row.IPAddr != "127.0.0.1" {
		t.Errorf("beat %+v, %v", row, err)
	}
}

// TestUnknownAttributesStay, through the whole life of a row.
func TestUnknownAttributesStay(t *testing.T) {
	s := created(t, ownTables(t))
	unknown := item{"owner_team": text("web"),
		"hooks": &types.AttributeValueMemberL{Value: []types.AttributeValue{n("1"), text("x")}},
		"more":  &types.AttributeValueMemberM{Value: item{"status": text("odd")}}}
	row := item{"instanceid": text("i-1"), "status": text("LAUNCH"), "modified": text("2026")}
	for name, v := range unknown {
		row[name] = v
	}
	put(t, s, s.config.MinionsTable, row)
	put(t, s, s.config.MastersTable, row)
	check := func(what, table string) {
		t.Helper()
		it, err := s.readItem(t.Context(), table, item{"instanceid": text("i-1")})
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range unknown {
			if !reflect.DeepEqual(it[name], want) {
				t.Errorf("%s: %s is %v", what, name, it[name])
			}
		}
	}
	for _, c := range []fleet.Change{
		fleet.Add{InstanceID: "i-1", Group: "g"},
		fleet.Bind{InstanceID: "i-1", KeySHA256: "k", PublicKey: "p"},
		fleet.Claim{InstanceID: "i-1", Owner: "m", JID: "j", Attempt: 1},
		fleet.Finish{InstanceID: "i-1", JID: "j", Outcome: fleet.Vanished, From: 1},
		fleet.Bind{InstanceID: "i-1", KeySHA256: "l", PublicKey: "p", Replaces: "k"},
		fleet.Rerun{InstanceID: "i-1"},
		fleet.Retire{InstanceID: "i-1"},
		fleet.Tombstone{InstanceID: "i-1", Expires: 4102444800},
	} {
		apply(t, s, c)
		check(reflect.TypeOf(c).Name(), s.config.MinionsTable)
	}
	if _, err := s.Beat(t.Context(), fleet.Beat{InstanceID: "i-1"}); err != nil {
		t.Error(err)
	}
	check("Beat", s.config.MastersTable)
	if err := s.RetireMaster(t.Context(), "i-1"); err != nil {
		t.Error(err)
	}
	check("RetireMaster", s.config.MastersTable)
}

// TestDamagedRow: what decides about keys and claims is exact or bad. What is no
// number where one is due is not taken for zero.
func TestDamagedRow(t *testing.T) {
	s := created(t, ownTables(t))
	list := &types.AttributeValueMemberL{}
	for name, v := range map[string]types.AttributeValue{
		"claim_version": text("many"), "attempt": n("1.5"), "highstate_ran": text("perhaps"),
		"claim_owner": &types.AttributeValueMemberSS{Value: []string{"m"}},
		"status":      text("launch"), "claim_jid": list, "claim_state": list, "claim_incarnation": list,
		"key_sha256": list,
		"minion_id":  list, "highstate_runner": list,
	} {
		id := "i-" + name
		row := item{"instanceid": text(id), "status": text("LAUNCH"), "modified": text("2026")}
		row[name] = v
		put(t, s, s.config.MinionsTable, row)
		_, read := s.Minion(t.Context(), id)
		_, listed := s.Minions(t.Context(), []string{id})
		_, claimed := fleet.ApplyOne(t.Context(), s,
			fleet.Claim{InstanceID: id, Owner: "m", JID: "j", From: 7, Attempt: 1})
		_, ended := fleet.ApplyOne(t.Context(), s, fleet.Finish{InstanceID: id, JID: "j", Outcome: fleet.Succeeded})
		for _, err := range []error{read, listed, claimed, ended} {
			if !errors.Is(err, fleet.ErrCorrupt) || !strings.Contains(err.Error(), id) ||
				!strings.Contains(err.Error(), name) {
				t.Errorf("%s: %v", id, err)
			}
		}
	}
}

// TestLenientRow: an attribute that decides nothing about keys and claims makes no
// row bad, whatever another program wrote there; and the row can be worked with.
func TestLenientRow(t *testing.T) {
	s := created(t, ownTables(t))
	list := &types.AttributeValueMemberL{}
	for name, v := range map[string]types.AttributeValue{
		"group": list, "expires": n("4102444800.25"), "modified": text("yesterday"), "public_key": list,
		"hook_name": list, "inferred": text("perhaps"), "replaced_sha256": list, "retcode": n("1.5"),
	} {
		id := "i-" + name
		row := item{"instanceid": text(id), "status": text("LAUNCH"), "modified": text("2026")}
		row[name] = v
		put(t, s, s.config.MinionsTable, row)
		got, err := s.Minion(t.Context(), id)
		if err != nil || got.Status != fleet.Launch || name == "expires" && got.Expires != 4102444800 ||
			name == "retcode" && *got.Retcode != 1 {
			t.Errorf("%s: %+v, %v", id, got, err)
		}
		apply(t, s, fleet.Add{InstanceID: id, Group: "web"}, fleet.Bind{InstanceID: id, KeySHA256: "k"},
			fleet.Claim{InstanceID: id, Owner: "m", JID: "j", Attempt: 1})
	}
	row := item{"instanceid": text("i-gone"), "status": text("TERMINATE"), "modified": text("2026"),
		"expires": n("1767225600.25")}
	put(t, s, s.config.MinionsTable, row)
	s.now = func() time.Time { return time.Unix(1767225602, 0) }
	if gone, err := s.Prune(t.Context()); err != nil || gone != 1 {
		t.Errorf("pruned %d, %v", gone, err)
	}
	put(t, s, s.config.MastersTable, item{"instanceid": text("i-m"), "status": text("LAUNCH"), "heartbeat": n("7"),
		"incarnation": text("1"),
		"draining":    list, "draining_since": list, "zone": list, "publish_port": text("many"), "ready": list,
		"ipaddr": list, "expires": n("4102444800.25")})
	masters, err := s.Masters(t.Context())
	if err != nil || len(masters) != 1 ||
		masters[0] != (fleet.Master{InstanceID: "i-m", Status: fleet.Launch, Heartbeat: 7, Incarnation: "1",
			Expires: 4102444800}) {
		t.Errorf("%+v, %v", masters, err)
	}
}

// TestOneBadRequest: an id that can be no key, and a row that one write cannot be
// made of, concern no other.
func TestOneBadRequest(t *testing.T) {
	s := created(t, ownTables(t))
	long := strings.Repeat("i", maxKey+1)
	put(t, s, s.config.MinionsTable,
		item{"instanceid": text("i-1"), "status": text("LAUNCH"), "modified": text("2026")})
	rows, err := s.Minions(t.Context(), []string{"", long, "i-1"})
	if err != nil || len(rows) != 1 {
		t.Errorf("%d rows, %v", len(rows), err)
	}
	results, err := s.Apply(t.Context(), []fleet.Change{fleet.Add{InstanceID: ""}, fleet.Add{InstanceID: long},
		fleet.Add{InstanceID: "i-1", Group: "web"}, fleet.Add{InstanceID: "i-2", Group: strings.Repeat("x", 500<<10)},
		fleet.Add{InstanceID: "i-3"}})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{false, false, true, false, true} {
		if got := results[i].Err == nil; got != want {
			t.Errorf("change %d: %v", i, results[i].Err)
		}
	}
}

// TestPruneGoesOn: a row that cannot be deleted keeps no other from it.
func TestPruneGoesOn(t *testing.T) {
	c := ownTables(t)
	s := created(t, c)
	for i := range 5 {
		put(t, s, s.config.MinionsTable, item{"instanceid": text(fmt.Sprintf("i-%d", i)), "status": text("TERMINATE"),
			"modified": text("2026"), "expires": n("1")})
	}
	c.HTTP = seam(func(r request, send func() (*http.Response, error)) (*http.Response, error) {
		if r.op == "DeleteItem" && r.id == "i-2" {
			return refusal(t, "AccessDeniedException", "not this one")
		}
		return send()
	})
	gone, err := openTest(t, c).Prune(t.Context())
	if !errors.Is(err, fleet.ErrDenied) || gone != 4 {
		t.Errorf("pruned %d, %v", gone, err)
	}
}

func TestProofs(t *testing.T) {
	s := created(t, ownTables(t))
	const arn = "arn:aws:ec2:eu-test-1:1:instance/i-1"
	if got, err := s.Proofs(t.Context(), []string{arn}); err != nil || len(got) > 0 {
		t.Errorf("no proof: %v, %v", got, err)
	}
	for _, digest := range []string{"a", "b"} {
		if err := s.PutProof(t.Context(), arn, fleet.Proof{KeySHA256: digest}); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Proofs(t.Context(), []string{arn, arn + "2"}); err != nil || len(got) != 1 ||
			got[arn].KeySHA256 != digest {
			t.Errorf("%v, %v", got, err)
		}
	}
	for _, c := range []struct {
		key  types.AttributeValue
		want string
	}{{text("PEM"), "PEM"}, {b(true), "true"}, {&types.AttributeValueMemberSS{Value: []string{"PEM"}}, ""}} {
		put(t, s, s.config.ProofsTable, item{"instance_arn": text(arn), "key_sha256": text("c"), "public_key": c.key})
		if got, err := s.Proofs(t.Context(), []string{arn}); err != nil ||
			got[arn] != (fleet.Proof{KeySHA256: "c", PublicKey: c.want}) {
			t.Errorf("public_key %v: %v, %v", c.key, got, err)
		}
	}
}

// TestSinceIsNoRow: it is one moment for all masters, and neither a minion nor a
// master.
func TestSinceIsNoRow(t *testing.T) {
	c := ownTables(t)
	created(t, c)
	times := make(chan time.Time, 8)
	for i := range cap(times) {
		s := openTest(t, c)
		s.now = func() time.Time { return time.Now().Add(time.Duration(i) * time.Hour) }
		go func() {
			since, err := s.Since(t.Context())
			if err != nil {
				t.Error(err)
			}
			times <- since
		}()
	}
	first := <-times
	for range cap(times) - 1 {
		if since := <-times; !since.Equal(first) {
			t.Errorf("the fleet began at %v and at %v", first, since)
		}
	}
	s := openTest(t, c)
	for _, status := range []fleet.Status{fleet.Launch, fleet.Terminate} {
		if err := s.ByStatus(t.Context(), status, "",
			func(page []fleet.Minion) error { return errors.New(page[0].InstanceID) }); err != nil {
			t.Error(err)
		}
	}
	if masters, err := s.Masters(t.Context()); err != nil || len(masters) != 0 {
		t.Errorf("%+v, %v", masters, err)
	}
}
