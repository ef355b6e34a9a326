package dynamo

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"phoenix/bridge/fleet"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

const arn = "arn:aws:ec2:eu-test-1:1:instance/i-1"

// Tables that Create made lack nothing, all that a bridge and an agent do is
// allowed, and after all that there is nothing in them.
func TestInspectionFindsNothingAndLeavesNothing(t *testing.T) {
	s := created(t, ownTables(t))
	for _, r := range s.Inspect(t.Context()) {
		if r.Err != nil || len(r.Faults) > 0 {
			t.Errorf("%+v", r)
		}
	}
	asMinion, wrote := s.TryAsMinion(t.Context(), arn)
	if wrote != "" {
		t.Errorf("a proof is there: %q", wrote)
	}
	for _, tried := range append(s.TryAsMaster(t.Context()), asMinion...) {
		if tried.Denied || tried.Err != nil {
			t.Errorf("%+v", tried)
		}
	}
	for _, table := range []string{s.config.MinionsTable, s.config.MastersTable, s.config.ProofsTable} {
		out, err := s.client.Scan(t.Context(), &dynamodb.ScanInput{TableName: &table})
		if err != nil || out.Count != 0 {
			t.Errorf("%s holds %v, %v", table, out.Items, err)
		}
	}
	if err := s.PutProof(t.Context(), arn, fleet.Proof{KeySHA256: "digest"}); err != nil {
		t.Fatal(err)
	}
	if _, wrote := s.TryAsMinion(t.Context(), arn); wrote != "digest" {
		t.Errorf("the proof is %q", wrote)
	}
	if proofs, err := s.Proofs(t.Context(), []string{arn}); err != nil || proofs[arn].KeySHA256 != "digest" {
		t.Errorf("the proof was changed: %v, %v", proofs, err)
	}
}

// What tables lack is named: an index, TTL, the right key, the table itself.
func TestInspectionFindsWhatIsLacking(t *testing.T) {
	s := openTest(t, ownTables(t))
	if err := s.createTable(t.Context(), s.config.MinionsTable, "instanceid", false); err != nil {
		t.Fatal(err)
	}
	_, err := s.client.CreateTable(t.Context(),
		&dynamodb.CreateTableInput{TableName: &s.config.MastersTable, BillingMode: types.BillingModePayPerRequest,
			AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("instanceid"),
				AttributeType: types.ScalarAttributeTypeN}},
			KeySchema: keys("instanceid")})
	if err != nil {
		t.Fatal(err)
	}
	seen := fmt.Sprint(s.Inspect(t.Context()))
	for _, want := range []string{"there is no index by-status TTL is off",
		"its key is not instanceid, of type S, alone", "table missing"} {
		if !strings.Contains(seen, want) {
			t.Errorf("%q is not in %s", want, seen)
		}
	}
	for _, tried := range s.TryAsMaster(t.Context()) {
		if index := strings.Contains(tried.On, byStatusIndex); index && (tried.Err == nil ||
			!strings.Contains(tried.Err.Error(), "index missing")) {
			t.Errorf("%+v", tried)
		}
	}
}

// What IAM denies is told apart from what else may be in the way. No emulator has
// IAM: its answers stand in for it here.
func TestDeniedCallsAreNamed(t *testing.T) {
	c := ownTables(t)
	created(t, c)
	c.HTTP = seam(func(r request, send func() (*http.Response, error)) (*http.Response, error) {
		switch r.op {
		case "DeleteItem", "DescribeTable":
			return refusal(t, "AccessDeniedException", "is not authorized to perform: dynamodb:"+r.op)
		case "Scan":
			return refusal(t, "InternalServerError", "out of order")
		}
		return send()
	})
	s := openTest(t, c)
	denied := map[string]int{}
	for _, tried := range s.TryAsMaster(t.Context()) {
		switch {
		case tried.Denied:
			denied[tried.Action]++
		case tried.Err != nil && tried.Action != "dynamodb:Scan":
			t.Errorf("%+v", tried)
		case tried.Err == nil && tried.Action == "dynamodb:Scan":
			t.Errorf("%+v", tried)
		}
	}
	if len(denied) != 1 || denied["dynamodb:DeleteItem"] != 2 {
		t.Errorf("denied: %v", denied)
	}
	for _, r := range s.Inspect(t.Context()) {
		if r.Err == nil || !strings.Contains(r.Err.Error(), "access denied") {
			t.Errorf("%+v", r)
		}
	}
}
