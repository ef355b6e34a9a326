package dynamo

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"phoenix/bridge/fleet"
)

// Minion implements fleet.Store.
func (s *Store) Minion(ctx context.Context, instanceID string) (fleet.Minion, error) {
	it, err := s.readItem(ctx, s.config.MinionsTable, item{"instanceid": text(instanceID)})
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
	table := s.config.MinionsTable
	found, bad := make(map[string]fleet.Minion, len(instanceIDs)), map[string]error{}
	err := s.readAll(ctx, table, "instanceid", instanceIDs, func(it item) {
		if row, err := minionOf(table, it); err == nil {
			found[row.InstanceID] = row
		} else {
			bad[plainKey(it)] = err
		}
	})
	if err != nil {
		return nil, err
	}
	return found, fleet.BadRows(bad)
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
	bad := map[string]error{}
	for {
		var page []fleet.Minion
		err := s.call(ctx, "list minions of status "+string(status), func(ctx context.Context) error {
			out, err := s.client.Query(ctx, in)
			if err != nil {
				return err
			}
			in.ExclusiveStartKey = out.LastEvaluatedKey
			for _, it := range out.Items {
				if row, err := minionOf(table, it); err == nil {
					page = append(page, row)
				} else {
					bad[plainKey(it)] = err
				}
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
			return fleet.BadRows(bad)
		}
	}
}
