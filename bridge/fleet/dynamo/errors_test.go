package dynamo

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"phoenix/bridge/fleet"
)

// TestD3Errors: each cause has an error of its own, and a hint. Those that
// waiting does not mend come at once.
func TestD3Errors(t *testing.T) {
	said := map[string]string{}
	for name, c := range map[string]struct {
		code, message string // what AWS says, or
		fails         error  // what the network does
		kind          error
		want, hint    string
		waits         bool
	}{
		"access": {"AccessDeniedException",
			"User: arn:aws:sts::1:assumed-role/web is not authorized to perform: dynamodb:GetItem", nil,
			fleet.ErrDenied, "access denied", "role", false},
		"expired": {"ExpiredTokenException", "The security token included in the request is expired", nil,
			fleet.ErrDenied, "credentials expired", "renew", false},
		"unknown": {"UnrecognizedClientException", "The security token included in the request is invalid.", nil,
			fleet.ErrDenied, "credentials unknown", "account", false},
		"signed for another region": {"InvalidSignatureException",
			"Credential should be scoped to a valid region, not 'eu-test-1'.", nil,
			fleet.ErrDenied, "signature refused", "region eu-test-1", false},
		"table": {"ResourceNotFoundException", "Requested resource not found", nil,
			fleet.ErrUnavailable, "table missing", "region eu-test-1", false},
		"index": {"ValidationException", "The table does not have the specified index: by-status", nil,
			fleet.ErrUnavailable, "index missing", "by-status", false},
		"keys": {"ValidationException", "The provided key element does not match the schema", nil,
			fleet.ErrUnavailable, "request refused", "instanceid", false},
		"throttled": {"ProvisionedThroughputExceededException", "slow down", nil,
			fleet.ErrUnavailable, "throttled", "on-demand", true},
		"server": {"InternalServerError", "oops", nil,
			fleet.ErrUnavailable, "out of order", "again", true},
		"refused": {"", "", &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED},
			fleet.ErrUnavailable, "unreachable", "security groups", true},
		"no such region": {"", "", &net.OpError{Op: "dial", Net: "tcp",
			Err: &net.DNSError{Err: "no such host", Name: "dynamodb.eu-test-1.amazonaws.com", IsNotFound: true}},
			fleet.ErrUnavailable, "endpoint unknown", "region eu-test-1", false},
		"silent": {"", "", nil, fleet.ErrUnavailable, "no answer within", "VPC endpoint", true},
	} {
		t.Run(name, func(t *testing.T) {
			answers := seam(func(r request, _ func() (*http.Response, error)) (*http.Response, error) {
				if c.code != "" {
					return refusal(t, c.code, c.message)
				}
				return nil, c.fails
			})
			synctest.Test(t, func(t *testing.T) {
				var client aws.HTTPClient = answers
				if c.code == "" && c.fails == nil {
					client = silent{}
				}
				s := openTest(t, Config{Region: "eu-test-1", HTTP: client})
				begun := time.Now()
				_, err := s.Minion(t.Context(), "i-1")
				if err == nil || !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) ||
					!strings.Contains(err.Error(), c.hint) ||
					!strings.HasPrefix(err.Error(), "read i-1, dynamodb eu-test-1: ") {
					t.Errorf("%v", err)
				}
				if took := time.Since(begun); took > callLimit || (took > 0) != c.waits {
					t.Errorf("it took %v", took)
				}
			})
			if other := said[c.want]; other != "" {
				t.Errorf("%s is told as %s is", name, other)
			}
			said[c.want] = name
		})
	}
}

// silent is a network that swallows all.
type silent struct{}

func (silent) Do(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// TestCancelled: a caller who gives up is let go at once, from a request as from
// the wait for the next.
func TestCancelled(t *testing.T) {
	throttle := seam(func(request, func() (*http.Response, error)) (*http.Response, error) {
		return refusal(t, "ThrottlingException", "slow down")
	})
	for name, client := range map[string]aws.HTTPClient{"silence": silent{}, "throttling": throttle} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const patience = 1234 * time.Millisecond
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				begun := time.Now()
				_, err := openTest(t, Config{Region: "eu-test-1", HTTP: client}).
					Apply(ctx, []fleet.Change{fleet.Add{InstanceID: "i-1"}, fleet.Add{InstanceID: "i-2"}})
				if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, fleet.ErrUnavailable) ||
					time.Since(begun) != patience {
					t.Errorf("%v after %v", err, time.Since(begun))
				}
			})
		})
	}
}

// TestD3ErrorsOfDynamoDB: what DynamoDB itself says where something is missing.
func TestD3ErrorsOfDynamoDB(t *testing.T) {
	s := openTest(t, ownTables(t))
	check := func(what, want string, err error) {
		t.Helper()
		if !errors.Is(err, fleet.ErrUnavailable) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	all := func() map[string]error {
		_, read := s.Minion(t.Context(), "i-1")
		_, batch := s.Minions(t.Context(), []string{"i-1"})
		_, write := s.Apply(t.Context(), []fleet.Change{fleet.Retire{InstanceID: "i-1"}})
		return map[string]error{"read": read, "batch": batch, "write": write,
			"list": s.ByStatus(t.Context(), fleet.Launch, "", func([]fleet.Minion) error { return nil })}
	}
	for what, err := range all() {
		check(what, "table missing", err)
	}
	_, err := s.Masters(t.Context())
	check("masters", "table missing", err)
	_, err = s.Proofs(t.Context(), []string{"arn"})
	check("proofs", "table missing", err)

	table := s.config.MinionsTable
	if _, err := s.client.CreateTable(t.Context(),
		&dynamodb.CreateTableInput{TableName: &table, BillingMode: "PAY_PER_REQUEST",
			AttributeDefinitions: define("instanceid"), KeySchema: keys("instanceid")}); err != nil {
		t.Fatal(err)
	}
	check("list", "index missing", all()["list"])

	s.config.MinionsTable += "-odd"
	if _, err := s.client.CreateTable(t.Context(),
		&dynamodb.CreateTableInput{TableName: &s.config.MinionsTable, BillingMode: "PAY_PER_REQUEST",
			AttributeDefinitions: define("id"), KeySchema: keys("id")}); err != nil {
		t.Fatal(err)
	}
	for what, err := range all() {
		if what != "list" {
			check(what, "request refused", err)
		}
	}
}

// TestNoCredentials, and no region: before anything is sent.
func TestNoCredentials(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	_, err := openTest(t, Config{Region: "eu-test-1", HTTP: silent{}}).Minion(t.Context(), "i-1")
	if !errors.Is(err, fleet.ErrDenied) || !strings.Contains(err.Error(), "no credentials") ||
		!strings.Contains(err.Error(), "instance profile") {
		t.Errorf("%v", err)
	}
	if _, err := Open(t.Context(), Config{}); err == nil || !strings.Contains(err.Error(), "dynamodb.region") {
		t.Errorf("no region: %v", err)
	}
}
