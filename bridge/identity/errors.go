package identity

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"phoenix/bridge/awserr"
	"phoenix/bridge/fleet"
)

// explain turns what the SDK, the network or a context said into an error that
// knows its kind and what there is to do. ctx is the caller's.
func (b *Bucket) explain(ctx context.Context, verb string, err error) error {
	d := b.classify(ctx, err)
	return fmt.Errorf("%s %s: %w: %s: %w (%s)", verb, b, d.kind, d.what, err, d.hint)
}

// diagnosis is what is wrong, and what there is to do about it.
type diagnosis struct {
	kind       error // of package fleet
	what, hint string
}

func (b *Bucket) classify(ctx context.Context, err error) diagnosis {
	var api smithy.APIError
	var response *smithyhttp.ResponseError
	var dns *net.DNSError
	var send *smithyhttp.RequestSendError
	switch {
	case ctx.Err() != nil:
		return diagnosis{fleet.ErrUnavailable, "given up", "the caller waits no longer"}
	case errors.As(err, &response) && elsewhere(response, err):
		return diagnosis{fleet.ErrUnavailable, "wrong region", b.regionHint(response)}
	case errors.As(err, &api):
		return b.classifyCode(api)
	case awserr.Of(err) == awserr.NoCredentials:
		return diagnosis{fleet.ErrDenied, "no credentials",
			"attach an instance profile to this machine, or set AWS_PROFILE or AWS_ACCESS_KEY_ID"}
	case errors.As(err, &dns):
		return diagnosis{fleet.ErrUnavailable, "endpoint unknown",
			fmt.Sprintf("is there a region %s? See identity.region and identity.endpoint, and this machine's DNS",
				b.config.Region)}
	case errors.As(err, &send), errors.Is(err, context.DeadlineExceeded):
		return diagnosis{fleet.ErrUnavailable, "endpoint unreachable",
			"look at routes, security groups and the VPC endpoint for S3; identity.endpoint if it is set"}
	}
	return diagnosis{fleet.ErrUnavailable, "request failed", "try again"}
}

// elsewhere: S3 answers for a bucket of another region with a redirection, or
// finds the signature made for the wrong one.
func elsewhere(r *smithyhttp.ResponseError, err error) bool {
	if r.HTTPStatusCode() == http.StatusMovedPermanently {
		return true
	}
	switch awserr.Code(err) {
	case "PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "TemporaryRedirect":
		return true
	}
	return false
}

func (b *Bucket) regionHint(r *smithyhttp.ResponseError) string {
	if region := r.Response.Header.Get("X-Amz-Bucket-Region"); region != "" {
		return fmt.Sprintf("the bucket is in %s, not in %s: set identity.region", region, b.config.Region)
	}
	return fmt.Sprintf("the bucket is not in %s: set identity.region", b.config.Region)
}

// classifyCode goes by the code that S3 answered with.
func (b *Bucket) classifyCode(api smithy.APIError) diagnosis {
	code, message := api.ErrorCode(), api.ErrorMessage()
	switch {
	case code == "NoSuchBucket":
		return diagnosis{fleet.ErrUnavailable, "no such bucket",
			"make it, or see identity.bucket, and the account that this machine's role belongs to"}
	case strings.Contains(message, "kms:"), strings.HasPrefix(code, "KMS.AccessDenied"):
		// S3 passes on what KMS said, under a code of its own.
		return diagnosis{fleet.ErrDenied, "KMS denied",
			"the role of this machine must allow kms:Decrypt and kms:GenerateDataKey on the key " +
				"(identity.kms_key), and the key's policy must let it"}
	case strings.HasPrefix(code, "KMS."):
		return diagnosis{fleet.ErrUnavailable, "KMS key not usable",
			"is the key of identity.kms_key enabled, and in this region?"}
	}
	switch awserr.Of(api) {
	case awserr.Denied:
		// Without s3:ListBucket S3 says so of an object that is not there, too.
		return diagnosis{fleet.ErrDenied, "access denied",
			"the role of this machine must allow s3:GetObject and s3:PutObject on the object " +
				"and s3:ListBucket and s3:ListBucketVersions on the bucket; the bucket's own policy and its endpoint's must let it"}
	case awserr.Expired:
		return diagnosis{fleet.ErrDenied, "credentials expired", "renew them; is this machine's clock right?"}
	case awserr.Unknown, awserr.Signature:
		return diagnosis{fleet.ErrDenied, "credentials unknown to S3",
			"are they of another partition or account, or deleted? Does identity.endpoint belong to the region?"}
	case awserr.Throttled, awserr.Faulty:
		return diagnosis{fleet.ErrUnavailable, "S3 is out of order", "try again"}
	}
	return diagnosis{fleet.ErrUnavailable, "request refused", "see identity.bucket, identity.key and identity.endpoint"}
}
