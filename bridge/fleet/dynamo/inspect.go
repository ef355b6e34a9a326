package dynamo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// inspectWithin bounds each request of an inspection, which is tried once.
const inspectWithin = 5 * time.Second

// nobody is the key of no item: no id pattern allows its "#", and no ARN has one.
const nobody = "#doctor"

// TableReport is what was seen of one table.
type TableReport struct {
	Name   string
	Err    error    // it could not be looked at
	Faults []string // what it lacks
}

// Inspect looks whether the tables are as Create makes them. It changes nothing.
func (s *Store) Inspect(ctx context.Context) []TableReport {
	c := s.config
	reports := []TableReport{{Name: c.MinionsTable}, {Name: c.MastersTable}, {Name: c.ProofsTable}}
	var wg sync.WaitGroup
	for i, key := range []string{"instanceid", "instanceid", "instance_arn"} {
		wg.Go(func() {
			r := &reports[i]
			r.Faults, r.Err = s.inspect(ctx, r.Name, key, i == 0, i < 2)
		})
	}
	wg.Wait()
	return reports
}

func (s *Store) inspect(ctx context.Context, name, key string, indexed, expiring bool) (faults []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, inspectWithin)
	defer cancel()
	out, err := s.client.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &name})
	if err != nil {
		return nil, s.explain(ctx, "describe table", err)
	}
	if t := out.Table; t.TableStatus != types.TableStatusActive {
		faults = append(faults, fmt.Sprintf("its status is %s", t.TableStatus))
	} else if !keyed(t.KeySchema, t.AttributeDefinitions, key) {
		faults = append(faults, fmt.Sprintf("its key is not %s, of type S, alone", key))
	}
	if indexed {
		switch i := index(out.Table); {
		case i == nil:
			faults = append(faults, "there is no index "+byStatusIndex)
		case !keyed(i.KeySchema, out.Table.AttributeDefinitions, "status", "modified"):
			faults = append(faults, fmt.Sprintf("index %s is not on status and modified, of type S", byStatusIndex))
		case i.Projection == nil || i.Projection.ProjectionType != types.ProjectionTypeAll:
			faults = append(faults, fmt.Sprintf("index %s does not have all attributes", byStatusIndex))
		case i.IndexStatus != "" && i.IndexStatus != types.IndexStatusActive:
			faults = append(faults, fmt.Sprintf("the status of index %s is %s", byStatusIndex, i.IndexStatus))
		}
	}
	if expiring {
		ttl, err := s.client.DescribeTimeToLive(ctx, &dynamodb.DescribeTimeToLiveInput{TableName: &name})
		if err != nil {
			return faults, s.explain(ctx, "describe TTL", err)
		}
		is := ttl.TimeToLiveDescription
		if status := is.TimeToLiveStatus; status != types.TimeToLiveStatusEnabled &&
			status != types.TimeToLiveStatusEnabling {
			faults = append(faults, "TTL is off")
		} else if aws.ToString(is.AttributeName) != expires {
			faults = append(faults, fmt.Sprintf("TTL goes by %s, not %s", aws.ToString(is.AttributeName), expires))
		}
	}
	return faults, nil
}

// keyed reports whether a key is made of these attributes, all of them texts.
func keyed(schema []types.KeySchemaElement, attributes []types.AttributeDefinition, names ...string) bool {
	if len(schema) != len(names) {
		return false
	}
	for i, want := range keys(names...) {
		if *schema[i].AttributeName != *want.AttributeName || schema[i].KeyType != want.KeyType {
			return false
		}
		for _, a := range attributes {
			if *a.AttributeName == names[i] && a.AttributeType != types.ScalarAttributeTypeS {
				return false
			}
		}
	}
	return true
}

// Tried is one action of IAM's, tried so that it changes nothing.
type Tried struct {
	Action string
	On     string // the table
	Denied bool
	Err    error // something else was in the way
}

// TryAsMaster tries what a bridge does. Reads ask for an item that is not there,
// writes have a condition that never holds.
func (s *Store) TryAsMaster(ctx context.Context) []Tried {
	c, id := s.config, item{"instanceid": text(nobody)}
	never, one := aws.String("attribute_exists(instanceid) AND attribute_not_exists(instanceid)"), aws.Int32(1)
	batch := func(table, key string) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := s.client.BatchGetItem(ctx,
				&dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{
					table: {Keys: []map[string]types.AttributeValue{{key: text(nobody)}}}}})
			return err
		}
	}
	update := func(table string) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := s.client.UpdateItem(ctx,
				&dynamodb.UpdateItemInput{TableName: &table, Key: id, ConditionExpression: never})
			return err
		}
	}
	remove := func(table string) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := s.client.DeleteItem(ctx,
				&dynamodb.DeleteItemInput{TableName: &table, Key: id, ConditionExpression: never})
			return err
		}
	}
	return s.try(ctx, []attempt{
		{"GetItem", c.MinionsTable, func(ctx context.Context) error {
			_, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{TableName: &c.MinionsTable, Key: id})
			return err
		}},
		{"BatchGetItem", c.MinionsTable, batch(c.MinionsTable, "instanceid")},
		{"UpdateItem", c.MinionsTable, update(c.MinionsTable)},
		{"DeleteItem", c.MinionsTable, remove(c.MinionsTable)},
		{"Query", c.MinionsTable + "/index/" + byStatusIndex, func(ctx context.Context) error {
			_, err := s.client.Query(ctx, &dynamodb.QueryInput{TableName: &c.MinionsTable,
				IndexName: aws.String(byStatusIndex), Limit: one,
				KeyConditionExpression:    aws.String("#status = :nobody"),
				ExpressionAttributeNames:  map[string]string{"#status": "status"},
				ExpressionAttributeValues: item{":nobody": text(nobody)}})
			return err
		}},
		{"Scan", c.MastersTable, func(ctx context.Context) error {
			_, err := s.client.Scan(ctx, &dynamodb.ScanInput{TableName: &c.MastersTable, Limit: one})
			return err
		}},
		{"UpdateItem", c.MastersTable, update(c.MastersTable)},
		{"DeleteItem", c.MastersTable, remove(c.MastersTable)},
		{"BatchGetItem", c.ProofsTable, batch(c.ProofsTable, "instance_arn")},
	})
}

// TryAsMinion tries what an agent does: reading masters, and, where the instance
// has an ARN, writing its proof. wrote is the digest that stands there.
func (s *Store) TryAsMinion(ctx context.Context, instanceARN string) (tried []Tried, wrote string) {
	c := s.config
	attempts := []attempt{{"Scan", c.MastersTable, func(ctx context.Context) error {
		_, err := s.client.Scan(ctx, &dynamodb.ScanInput{TableName: &c.MastersTable, Limit: aws.Int32(1)})
		return err
	}}}
	if instanceARN != "" {
		attempts = append(attempts, attempt{"PutItem", c.ProofsTable, func(ctx context.Context) error {
			_, err := s.client.PutItem(ctx,
				&dynamodb.PutItemInput{TableName: &c.ProofsTable, Item: item{"instance_arn": text(instanceARN)},
					ConditionExpression:                 aws.String("attribute_exists(instance_arn) AND attribute_not_exists(instance_arn)"),
					ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld})
			if failed := (*types.ConditionalCheckFailedException)(nil); errors.As(err, &failed) {
				wrote, _ = plain(failed.Item["key_sha256"])
			}
			return err
		}})
	}
	return s.try(ctx, attempts), wrote
}

type attempt struct {
	action, on string
	do         func(context.Context) error
}

// try makes all attempts at once, each once.
func (s *Store) try(ctx context.Context, attempts []attempt) []Tried {
	tried := make([]Tried, len(attempts))
	var wg sync.WaitGroup
	for i, a := range attempts {
		wg.Go(func() {
			bounded, cancel := context.WithTimeout(ctx, inspectWithin)
			defer cancel()
			err := a.do(bounded)
			if failed := (*types.ConditionalCheckFailedException)(nil); errors.As(err, &failed) {
				err = nil // it was allowed, and did nothing
			}
			tried[i] = Tried{Action: "dynamodb:" + a.action, On: a.on}
			if err != nil {
				fault := s.classify(ctx, err)
				if tried[i].Denied = fault.what == accessDenied; !tried[i].Denied {
					tried[i].Err = fault
				}
			}
		})
	}
	wg.Wait()
	return tried
}
