package dynamo

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"golang.org/x/sync/errgroup"

	"phoenix/bridge/fleet"
)

// keysPerRead is the most that BatchGetItem takes.
const keysPerRead = 100

// Minion implements fleet.Store.
func (s *Store) Minion(ctx context.Context, instanceID string) (fleet.Minion, error) {
	it, err := s.look(ctx, s.config.MinionsTable, item{"instanceid": text(instanceID)})
	if err == nil && it == nil {
		err = fmt.Errorf("read minion %s: %w", instanceID, fleet.ErrNotFound)
	}
	if err != nil {
		return fleet.Minion{}, err
	}
	return minionOf(s.config.MinionsTable, it)
}

// Minions implements fleet.Store.
func (s *Store) Minions(ctx context.Context, instanceIDs []string) (map[string]fleet.Minion, error) {
	ids := slices.Clone(instanceIDs)
	slices.Sort(ids)
	ids = slices.Compact(ids) // BatchGetItem refuses a key that comes twice
	found := make(map[string]fleet.Minion, len(ids))
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for chunk := range slices.Chunk(ids, keysPerRead) {
		group.Go(func() error {
			return s.readChunk(ctx, chunk, func(row fleet.Minion) {
				mu.Lock()
				defer mu.Unlock()
				found[row.InstanceID] = row
			})
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return found, nil
}

// readChunk reads up to keysPerRead rows. What DynamoDB leaves unprocessed is
// asked for again, at once if it got round to any, else after a wait.
func (s *Store) readChunk(ctx context.Context, ids []string, found func(fleet.Minion)) error {
	table := s.config.MinionsTable
	left := types.KeysAndAttributes{ConsistentRead: aws.Bool(true)}
	for _, id := range ids {
		left.Keys = append(left.Keys, item{"instanceid": text(id)})
	}
	for len(left.Keys) > 0 {
		err := s.call(ctx, fmt.Sprintf("read %d minions", len(left.Keys)), func(ctx context.Context) error {
			out, err := s.client.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{table: left}})
			if err != nil {
				return err
			}
			for _, it := range out.Responses[table] {
				row, err := minionOf(table, it)
				if err != nil {
					return err
				}
				found(row)
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

// ByStatus implements fleet.Store. A row that changes meanwhile may come twice.
func (s *Store) ByStatus(ctx context.Context, status fleet.Status, since string, fn func([]fleet.Minion) error) error {
	table := s.config.MinionsTable
	in := &dynamodb.QueryInput{
		TableName: &table, IndexName: aws.String(byStatusIndex),
		KeyConditionExpression:    aws.String("#status = :status"),
		ExpressionAttributeNames:  map[string]string{"#status": "status"},
		ExpressionAttributeValues: item{":status": text(string(status))},
	}
	if since != "" { // no key of an index is compared with an empty text
		*in.KeyConditionExpression += " AND #modified >= :since"
		in.ExpressionAttributeNames["#modified"] = "modified"
		in.ExpressionAttributeValues[":since"] = text(since)
	}
	for {
		var page []fleet.Minion
		err := s.call(ctx, "list minions of status "+string(status), func(ctx context.Context) error {
			out, err := s.client.Query(ctx, in)
			if err != nil {
				return err
			}
			in.ExclusiveStartKey = out.LastEvaluatedKey
			for _, it := range out.Items {
				row, err := minionOf(table, it)
				if err != nil {
					return err
				}
				page = append(page, row)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if len(page) > 0 { // an empty page is no end
			if err := fn(page); err != nil {
				return err
			}
		}
		if len(in.ExclusiveStartKey) == 0 {
			return nil
		}
	}
}
