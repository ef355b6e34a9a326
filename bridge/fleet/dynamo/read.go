package dynamo

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"phoenix/bridge/plural"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"golang.org/x/sync/errgroup"
)

// keysPerRead is the most that BatchGetItem takes.
const keysPerRead = 100

// maxKey is the most bytes that DynamoDB takes for a partition key.
const maxKey = 2048

// isKey reports whether there can be an item with that id.
func isKey(id string) bool { return id != "" && len(id) <= maxKey }

// readAll reads the items of a table that have these keys, the newest there are,
// and calls found with each, never twice at a time.
func (s *Store) readAll(ctx context.Context, table, key string, ids []string, found func(item)) error {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	ids = slices.Compact(ids) // BatchGetItem refuses a key that comes twice
	// One id that can be no key would fail the request for all others.
	ids = slices.DeleteFunc(ids, func(id string) bool { return !isKey(id) })
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for chunk := range slices.Chunk(ids, keysPerRead) {
		group.Go(func() error {
			return s.readChunk(ctx, table, key, chunk, func(it item) {
				mu.Lock()
				defer mu.Unlock()
				found(it)
			})
		})
	}
	return group.Wait()
}

// readChunk reads up to keysPerRead items. What DynamoDB leaves unprocessed is
// asked for again, at once if it got round to any, else after a wait.
func (s *Store) readChunk(ctx context.Context, table, key string, ids []string, found func(item)) error {
	left := types.KeysAndAttributes{ConsistentRead: aws.Bool(true)}
	for _, id := range ids {
		left.Keys = append(left.Keys, item{key: text(id)})
	}
	for len(left.Keys) > 0 {
		err := s.call(ctx, fmt.Sprintf("read %s of %s", plural.Of(len(left.Keys), "item"), table),
			func(ctx context.Context) error {
				out, err := s.client.BatchGetItem(ctx,
					&dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{table: left}})
				if err != nil {
					return err
				}
				for _, it := range out.Responses[table] {
					found(it)
				}
				before := len(left.Keys)
				left.Keys = out.UnprocessedKeys[table].Keys
				if len(left.Keys) == before {
					return errUnprocessed
				}
				return nil
			})
		if err != nil {
			return err
		}
	}
	return nil
}
