package awserr

import (
	"errors"
	"fmt"
	"testing"

	"github.com/aws/smithy-go"
)

func TestOf(t *testing.T) {
	code := func(code string, fault smithy.ErrorFault) error {
		return fmt.Errorf("read the table: %w", &smithy.GenericAPIError{Code: code, Fault: fault})
	}
	for _, c := range []struct {
		err  error
		want Class
	}{
		{nil, Other},
		{errors.New("connection refused"), Other},
		{errors.New("operation error DynamoDB: Scan, get identity: get credentials: no EC2 IMDS role found"),
			NoCredentials},
		{code("AccessDeniedException", smithy.FaultClient), Denied},
		{code("UnauthorizedOperation", smithy.FaultUnknown), Denied},
		{code("RequestExpired", smithy.FaultClient), Expired},
		{code("InvalidClientTokenId", smithy.FaultClient), Unknown},
		{code("SignatureDoesNotMatch", smithy.FaultClient), Signature},
		{code("ProvisionedThroughputExceededException", smithy.FaultClient), Throttled},
		{code("SlowDown", smithy.FaultUnknown), Throttled},
		{code("RequestTimeout", smithy.FaultUnknown), Faulty},
		{code("InternalServerError", smithy.FaultServer), Faulty},
		{code("ValidationException", smithy.FaultClient), Other},
	} {
		if got := Of(c.err); got != c.want {
			t.Errorf("%v: class %d, want %d", c.err, got, c.want)
		}
	}
	if got := Code(code("NoSuchKey", smithy.FaultClient)); got != "NoSuchKey" {
		t.Errorf("code %q", got)
	}
	if got := Code(errors.New("connection refused")); got != "" {
		t.Errorf("code %q of no answer", got)
	}
}
