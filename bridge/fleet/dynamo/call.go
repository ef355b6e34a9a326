package dynamo

import (
	"context"
	"errors"
	"fmt"
	"time"

	awsretry "github.com/aws/aws-sdk-go-v2/aws/retry"

	"phoenix/bridge/retry"
)

const (
	// callLimit bounds every request with its repetitions. Well under
	// highstate.lease, so that an owner learns in time that it cannot write.
	callLimit = 20 * time.Second
	// attemptLimit is for one try: DynamoDB answers within milliseconds, so that
	// a request without an answer for so long was lost. The first try of all may
	// have to fetch credentials before.
	attemptLimit = 5 * time.Second
	// slow is when a person begins to wonder.
	slow = time.Second
	// The waits between tries double from firstWait to longestWait: some ten
	// tries within callLimit.
	firstWait   = 50 * time.Millisecond
	longestWait = 4 * time.Second
)

// errUnprocessed: DynamoDB answered, but did not get round to all of it.
var errUnprocessed = errors.New("throttled: keys were left unprocessed")

// call carries out one request: f is repeated, with growing waits, until it
// succeeds, fails for good, or the time is up. What f did may have taken effect
// although it failed.
func (s *Store) call(ctx context.Context, verb string, f func(context.Context) error) error {
	return s.callWithin(ctx, callLimit, verb, f)
}

func (s *Store) callWithin(ctx context.Context, limit time.Duration, verb string, f func(context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cause := bounded.Err()
	begun, reported := time.Now(), s.config.Waits == nil
	for failures := 1; bounded.Err() == nil; failures++ {
		err := try(bounded, f)
		if err == nil {
			return nil
		}
		if bounded.Err() == nil || cause == nil {
			cause = err // a try that was cut short knows less than the one before
		}
		if !transient(err) {
			break
		}
		if !reported && time.Since(begun) > slow && bounded.Err() == nil {
			reported = true
			s.config.Waits(s.explain(ctx, verb, cause))
		}
		retry.Sleep(bounded, retry.Jitter(retry.Backoff{First: firstWait, Most: longestWait}.After(failures)))
	}
	return s.explain(ctx, verb, cause)
}

// errSilent: a try ended without an answer.
var errSilent = errors.New("no answer within " + attemptLimit.String())

func try(ctx context.Context, f func(context.Context) error) error {
	attempt, cancel := context.WithTimeoutCause(ctx, attemptLimit, errSilent)
	defer cancel()
	err := f(attempt)
	if err != nil && context.Cause(attempt) == errSilent {
		return fmt.Errorf("%w: %w", errSilent, err)
	}
	return err
}

// transient reports whether the same request may succeed later. The SDK knows what
// of AWS's answers and of the network's errors are so.
func transient(err error) bool {
	return errors.Is(err, errUnprocessed) || errors.Is(err, errSilent) || errors.Is(err, errSettling) ||
		awsretry.NewStandard().IsErrorRetryable(err)
}
