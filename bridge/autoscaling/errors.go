package autoscaling

import (
	"errors"
	"fmt"
	"net"
	"time"

	"phoenix/bridge/awserr"
	"phoenix/bridge/retry"
)

// retryMost bounds the waits while AWS or the store do not answer. The loops wait by
// themselves, because the SDK's retries share one allowance for all calls: once that is
// used up, each call fails at its first try.
const retryMost = time.Minute

// backoff returns how long to wait after so many failures in a row.
func backoff(failures int) time.Duration {
	return retry.Jitter(retry.Backoff{First: time.Second, Most: retryMost}.After(failures))
}

// withHint adds the one thing to do about an error of AWS, where there is one.
func withHint(err error) error {
	if h := hint(err); h != "" {
		return fmt.Errorf("%w (%s)", err, h)
	}
	return err
}

func hint(err error) string {
	switch awserr.Of(err) {
	case awserr.Denied:
		return "the instance's role lacks the permission, see docs/aws.md"
	case awserr.Expired:
		return "credentials have expired; see also the host's clock"
	case awserr.Unknown, awserr.Signature:
		return "credentials are not of this account and region; see also the host's clock"
	}
	switch awserr.Code(err) {
	case "AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist":
		return "see sqs.queues, and the region"
	}
	var unreachable *net.OpError
	if errors.As(err, &unreachable) {
		return "the endpoint cannot be reached: see the region, the endpoint and the route to it"
	}
	return ""
}
