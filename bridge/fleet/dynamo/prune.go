package dynamo

import (
	"context"
	"errors"
	"maps"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"golang.org/x/sync/errgroup"

	"phoenix/bridge/fleet"
)

// Prune implements fleet.Store. The tables' TTL does the same for nothing, within
// two days. A row that cannot be deleted keeps no other from it.
func (s *Store) Prune(ctx context.Context) (int, error) {
	now := s.now().Unix()
	var mu sync.Mutex
	n, bad, faults := 0, map[string]error{}, []error(nil)
	var group errgroup.Group
	group.SetLimit(parallel)
	drop := func(table, id string, expires int64) {
		if expires == 0 || expires >= now {
			return
		}
		group.Go(func() error {
			gone, err := s.drop(ctx, table, id, expires)
			mu.Lock()
			defer mu.Unlock()
			if gone {
				n++
			}
			if err != nil && len(faults) < maxFaults {
				faults = append(faults, err)
			}
			return nil
		})
	}
	// took keeps what one listing said, so that the other is read all the same.
	took := func(err error) {
		rows, err := fleet.WithoutBadRows(err)
		mu.Lock()
		defer mu.Unlock()
		maps.Copy(bad, rows)
		if err != nil {
			faults = append(faults, err)
		}
	}
	took(s.ByStatus(ctx, fleet.Terminate, "", func(page []fleet.Minion) error {
		for _, row := range page {
			drop(s.config.MinionsTable, row.InstanceID, row.Expires)
		}
		return nil
	}))
	masters, err := s.Masters(ctx)
	took(err)
	for _, row := range masters {
		drop(s.config.MastersTable, row.InstanceID, row.Expires)
	}
	_ = group.Wait() // its errors are in faults
	if err := errors.Join(faults...); err != nil {
		return n, err
	}
	return n, fleet.BadRows(bad)
}

// maxFaults bounds how many rows that could not be deleted one error names.
const maxFaults = 10

// drop deletes an item whose expiry is still the one that was seen, but for the
// fraction that was cut off.
func (s *Store) drop(ctx context.Context, table, id string, expires int64) (gone bool, err error) {
	err = s.call(ctx, "delete "+id, func(ctx context.Context) error {
		condition := "#expires >= :expires AND #expires < :next"
		_, err := s.client.DeleteItem(ctx,
			&dynamodb.DeleteItemInput{TableName: &table, Key: item{"instanceid": text(id)},
				ConditionExpression: &condition, ExpressionAttributeNames: map[string]string{"#expires": "expires"},
				ExpressionAttributeValues: item{":expires": number(expires), ":next": number(expires + 1)}})
		if changed := (*types.ConditionalCheckFailedException)(nil); errors.As(err, &changed) {
			return nil
		}
		gone = err == nil
		return err
	})
	return gone, err
}
