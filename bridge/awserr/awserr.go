// Package awserr sorts the errors of AWS's services by what there is to do about them.
// Services have different codes for the same fault: DynamoDB's AccessDeniedException is
// S3's AccessDenied and EC2's UnauthorizedOperation.
package awserr

import (
	"errors"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"
)

// Class is a kind of error.
type Class int

const (
	Other         Class = iota // none of these, or no answer of AWS at all
	NoCredentials              // the SDK found none, so that no request was sent
	Denied                     // IAM, or a policy of the resource, refuses the action
	Expired                    // the credentials have expired, or this host's clock is wrong
	Unknown                    // the credentials are of no principal of this partition
	Signature                  // the signature does not match: wrong region, wrong secret or wrong clock
	Throttled                  // too many requests
	Faulty                     // the service itself has a fault
)

var classes = map[string]Class{
	"AccessDenied": Denied, "AccessDeniedException": Denied, "UnauthorizedOperation": Denied,
	"AllAccessDisabled": Denied, "AccountProblem": Denied, // S3

	"ExpiredToken": Expired, "ExpiredTokenException": Expired, "RequestExpired": Expired,
	"TokenRefreshRequired": Expired, "RequestTimeTooSkewed": Expired, // S3

	"UnrecognizedClientException": Unknown, "InvalidClientTokenId": Unknown,
	"MissingAuthenticationTokenException": Unknown,
	"NotAuthorized":                       Unknown, "AuthFailure": Unknown,
	"InvalidAccessKeyId": Unknown, "InvalidToken": Unknown, "InvalidSecurity": Unknown, // S3

	"InvalidSignatureException": Signature, "SignatureDoesNotMatch": Signature,
	"IncompleteSignatureException": Signature,

	"ServiceUnavailable": Faulty, "InternalError": Faulty, "RequestTimeout": Faulty, // S3
}

// Of returns the class of an error of the SDK.
func Of(err error) Class {
	var api smithy.APIError
	if !errors.As(err, &api) {
		// The SDK has no type for it.
		if err != nil && strings.Contains(err.Error(), "get credentials: ") {
			return NoCredentials
		}
		return Other
	}
	if class, known := classes[api.ErrorCode()]; known {
		return class
	}
	if _, throttled := retry.DefaultThrottleErrorCodes[api.ErrorCode()]; throttled {
		return Throttled
	}
	if api.ErrorFault() == smithy.FaultServer {
		return Faulty
	}
	return Other
}

// Code returns the code that AWS answered with; empty: AWS did not answer.
func Code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}
