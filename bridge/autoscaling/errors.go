package autoscaling

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/aws/smithy-go"
)

const (
	// retryFirst, retryMost: the back-off while AWS or the store do not answer. Of
	// the loops themselves: the SDK's retries share one allowance for all calls,
	// and once that is used up each call fails at its first try.
	retryFirst = time.Second
	retryMost  = time.Minute
)

// backoff is how long to wait after so many failures in a row, jittered so that
// masters that failed together come back apart.
func backoff(failures int) time.Duration {
	d := min(retryFirst<<min(max(failures-1, 0), 10), retryMost)
	return d/2 + rand.N(d/2+1)
}

// sleep waits, and says whether ctx still stands.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// withHint adds the one thing to do about an error of AWS, where there is one.
func withHint(err error) error {
	if h := hint(err); h != "" {
		return fmt.Errorf("%w (%s)", err, h)
	}
	return err
}

func hint(err error) string {
	var api smithy.APIError
	var unreachable *net.OpError
	switch {
	case errors.As(err, &api):
		switch api.ErrorCode() {
		case "AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist":
			return "see sqs.queues, and the region"
		case "AccessDenied", "AccessDeniedException", "UnauthorizedOperation":
			return "the instance's role lacks the permission, see docs/aws.md"
		case "ExpiredToken", "ExpiredTokenException", "RequestExpired":
			return "credentials have expired; see also the host's clock"
		case "InvalidClientTokenId", "UnrecognizedClientException", "AuthFailure", "InvalidSignatureException", "SignatureDoesNotMatch":
			return "credentials are not of this account and region; see also the host's clock"
		}
	case errors.As(err, &unreachable):
		return "the endpoint cannot be reached: see the region, the endpoint and the route to it"
	}
	return ""
}
