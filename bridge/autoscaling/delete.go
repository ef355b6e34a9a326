package autoscaling

import (
	"context"
	"strconv"
	"time"

	"phoenix/bridge/retry"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

const (
	// deleteWithin bounds the deletion of a batch, on a context of its own: what is
	// written is worth deleting even while the bridge stops.
	deleteWithin = 5 * time.Second
	// deleteTries: SQS may fail some entries of a batch. What is left comes again.
	deleteTries = 3
	// deletePause between tries.
	deletePause = 200 * time.Millisecond
)

// delete deletes messages. To fail is harmless: they come again, and change nothing.
func (r *Reader) delete(ctx context.Context, url string, messages []types.Message) {
	if len(messages) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteWithin)
	defer cancel()
	entries := make([]types.DeleteMessageBatchRequestEntry, len(messages))
	for i, m := range messages {
		entries[i] = types.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)),
			ReceiptHandle: m.ReceiptHandle}
	}
	why := ""
	for try := 1; len(entries) > 0; try++ {
		out, err := r.sqs.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: &url, Entries: entries})
		if err != nil {
			why = withHint(err).Error()
		} else {
			r.deleted.Add(int64(len(out.Successful)))
			entries, why = r.again(entries, out.Failed)
		}
		if len(entries) > 0 && (try == deleteTries || !retry.Sleep(ctx, deletePause)) {
			r.log.Warn("messages not deleted; they will be received again", "messages", len(entries), "err", why)
			return
		}
	}
}

// again returns the entries that are worth another try.
func (r *Reader) again(entries []types.DeleteMessageBatchRequestEntry,
	failed []types.BatchResultErrorEntry) (left []types.DeleteMessageBatchRequestEntry, why string) {
	for _, f := range failed {
		if f.SenderFault {
			// Its receipt handle expired: the message is on its way again.
			r.log.Debug("message not deleted", "code", aws.ToString(f.Code), "err", aws.ToString(f.Message))
			continue
		}
		for _, e := range entries {
			if aws.ToString(e.Id) == aws.ToString(f.Id) {
				left, why = append(left, e), aws.ToString(f.Code)+": "+aws.ToString(f.Message)
			}
		}
	}
	return left, why
}

// extend keeps messages from coming again while they are worked on, until stop
// is called. To fail is harmless.
func (r *Reader) extend(ctx context.Context, url string, messages []types.Message) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for retry.Sleep(ctx, extendEvery) {
			entries := make([]types.ChangeMessageVisibilityBatchRequestEntry, len(messages))
			for i, m := range messages {
				entries[i] = types.ChangeMessageVisibilityBatchRequestEntry{Id: aws.String(strconv.Itoa(i)),
					ReceiptHandle: m.ReceiptHandle, VisibilityTimeout: int32(visible.Seconds())}
			}
			call, cancel := context.WithTimeout(ctx, extendEvery)
			_, err := r.sqs.ChangeMessageVisibilityBatch(call,
				&sqs.ChangeMessageVisibilityBatchInput{QueueUrl: &url, Entries: entries})
			cancel()
			if err != nil && ctx.Err() == nil {
				r.log.Debug("visibility not extended", "err", err)
			}
		}
	}()
	return func() { cancel(); <-ended }
}
