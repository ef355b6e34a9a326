package dynamo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"phoenix/bridge/awserr"
	"phoenix/bridge/fleet"
)

// accessDenied is what a fault is of whom IAM turned away.
const accessDenied = "access denied"

// fault is an error that knows its kind and what there is to do.
type fault struct {
	kind  error // fleet.ErrUnavailable, ErrCorrupt or ErrDenied
	what  string
	cause error
	hint  string
}

func (f *fault) Error() string {
	return fmt.Sprintf("%v: %s: %s (%s)", f.kind, f.what, brief(f.cause), f.hint)
}
func (f *fault) Unwrap() []error { return []error{f.kind, f.cause} }

// brief leaves out the layers that the SDK's errors repeat.
func brief(err error) string {
	var api smithy.APIError
	var send *smithyhttp.RequestSendError
	switch {
	case errors.As(err, &api):
		return api.ErrorCode() + ": " + api.ErrorMessage()
	case errors.As(err, &send):
		return send.Err.Error()
	}
	_, last, found := strings.Cut(err.Error(), "get credentials: ")
	if found {
		return last
	}
	return err.Error()
}

// damaged is a fault of one item, which names it.
func damaged(table, id string, cause error) error {
	return &fault{fleet.ErrCorrupt, "item " + id + " of table " + table, cause,
		"correct the attribute, or delete the item"}
}

// invalid reports whether DynamoDB refused a request for what is in it or in the item
// that it is about, as "an operand has an incorrect data type".
func invalid(err error) bool {
	return awserr.Code(err) == "ValidationException"
}

// explain turns what the SDK, the network or a context said into the errors of
// fleet.Store. ctx is the caller's.
func (s *Store) explain(ctx context.Context, verb string, err error) error {
	return fmt.Errorf("%s, %s: %w", verb, s.where(), s.classify(ctx, err))
}

func (s *Store) classify(ctx context.Context, err error) *fault {
	var known *fault
	var api smithy.APIError
	var dns *net.DNSError
	var send *smithyhttp.RequestSendError
	switch {
	case errors.As(err, &known):
		return known
	case ctx.Err() != nil:
		return &fault{fleet.ErrUnavailable, "given up", ctx.Err(), "the caller waits no longer"}
	case errors.Is(err, errUnprocessed):
		return s.throttled(err)
	case errors.As(err, &api):
		return s.classifyCode(err, api)
	case awserr.Of(err) == awserr.NoCredentials:
		return &fault{fleet.ErrDenied, "no credentials", err,
			"attach an instance profile to this machine, or set AWS_PROFILE or AWS_ACCESS_KEY_ID"}
	case errors.As(err, &dns):
		return &fault{fleet.ErrUnavailable, "endpoint unknown", err,
			fmt.Sprintf("is there a region %s? See dynamodb.region and dynamodb.endpoint, and this machine's DNS",
				s.config.Region)}
	case errors.Is(err, errSilent), errors.As(err, &send):
		return &fault{fleet.ErrUnavailable, "endpoint unreachable", err,
			"look at routes, security groups and the VPC endpoint for DynamoDB; dynamodb.endpoint if it is set"}
	}
	return &fault{fleet.ErrUnavailable, "request failed", err, "it is tried again"}
}

// classifyCode goes by the code that AWS answered with.
func (s *Store) classifyCode(err error, api smithy.APIError) *fault {
	switch api.ErrorCode() {
	case "ResourceNotFoundException":
		return &fault{fleet.ErrUnavailable, "table missing", err,
			fmt.Sprintf("there must be tables %s, %s and %s in region %s, "+
				"of the account that this machine's role belongs to: see dynamodb.region and dynamodb.minions_table",
				s.config.MinionsTable, s.config.MastersTable, s.config.ProofsTable, s.config.Region)}
	case "ValidationException":
		if strings.Contains(api.ErrorMessage(), "specified index") {
			return &fault{fleet.ErrUnavailable, "index missing", err, fmt.Sprintf(
				"table %s needs an index %s on status and modified, with all attributes", s.config.MinionsTable,
				byStatusIndex)}
		}
		return &fault{fleet.ErrUnavailable, "request refused", err,
			"are the tables' keys instanceid, instanceid and instance_arn, all of type S?"}
	}
	switch awserr.Of(err) {
	case awserr.Denied:
		return &fault{fleet.ErrDenied, accessDenied, err,
			"the role of this machine must allow the action that is named, on the table and its index"}
	case awserr.Expired:
		return &fault{fleet.ErrDenied, "credentials expired", err,
			"renew them; those of an instance profile renew themselves, unless this machine's clock is wrong"}
	case awserr.Unknown:
		return &fault{fleet.ErrDenied, "credentials unknown to AWS", err,
			"are they of another partition or account, or deleted?"}
	case awserr.Signature:
		return &fault{fleet.ErrDenied, "signature refused", err, fmt.Sprintf(
			"does dynamodb.endpoint belong to region %s? Is this machine's clock right?", s.config.Region)}
	case awserr.Throttled:
		return s.throttled(err)
	case awserr.Faulty:
		return &fault{fleet.ErrUnavailable, "AWS is out of order", err, "it is tried again"}
	}
	return &fault{fleet.ErrUnavailable, "request refused", err, "it is tried again"}
}

func (s *Store) throttled(err error) *fault {
	return &fault{fleet.ErrUnavailable, "throttled", err, fmt.Sprintf(
		"it is tried again; if it lasts, set table %s to on-demand or give it and its index more capacity",
		s.config.MinionsTable)}
}
