package dynamo

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"golang.org/x/sync/errgroup"

	"phoenix/bridge/fleet"
)

// Prune implements fleet.Store. The tables' TTL does the same for nothing, within
// two days.
func (s *Store) Prune(ctx context.Context) (int, error) {
	now := s.now().Unix()
	var n atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	drop := func(table, id string, expires int64) {
		if expires == 0 || expires >= now {
			return
		}
		group.Go(func() error {
			gone, err := s.drop(ctx, table, id, expires)
			if gone {
				n.Add(1)
			}
			return err
		})
	}
	err := s.ByStatus(ctx, fleet.Terminate, "", func(page []fleet.Minion) error {
		for _, row := range page {
			drop(s.config.MinionsTable, row.InstanceID, row.Expires)
		}
		return nil
	})
	if err == nil {
		var masters []fleet.Master
		masters, err = s.Masters(ctx)
		for _, row := range masters {
			drop(s.config.MastersTable, row.InstanceID, row.Expires)
		}
	}
	err = errors.Join(err, group.Wait())
	return int(n.Load()), err
}

// drop deletes an item whose expiry is still the one that was seen.
func (s *Store) drop(ctx context.Context, table, id string, expires int64) (gone bool, err error) {
	err = s.call(ctx, "delete "+id, func(ctx context.Context) error {
		condition := "#expires = :expires"
		_, err := s.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: &table, Key: item{"instanceid": text(id)},
			ConditionExpression: &condition, ExpressionAttributeNames: map[string]string{"#expires": "expires"},
			ExpressionAttributeValues: item{":expires": number(expires)}})
		if changed := (*types.ConditionalCheckFailedException)(nil); errors.As(err, &changed) {
			return nil
		}
		gone = err == nil
		return err
	})
	return gone, err
}
