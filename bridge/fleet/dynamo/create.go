package dynamo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

const (
	// createLimit bounds the wait for a table or an index: a new one takes some
	// 10 s, an index on a table that is full its time for each row.
	createLimit = 10 * time.Minute
	// expires is the attribute that DynamoDB's TTL goes by.
	expires = "expires"
)

// Create makes the tables that are missing, and waits for them: on-demand, with
// the index by-status and TTL. One that is there, of the Phoenix of 2015 say, is
// given what it lacks. It is for tests, the demo, and people without
// CloudFormation.
func (s *Store) Create(ctx context.Context) error {
	c := s.config
	for _, table := range []struct {
		name, key     string
		expires, list bool
	}{
		{c.MinionsTable, "instanceid", true, true},
		{c.MastersTable, "instanceid", true, false},
		{c.ProofsTable, "instance_arn", false, false},
	} {
		err := s.createTable(ctx, table.name, table.key, table.list)
		if err == nil && table.list {
			err = s.addIndex(ctx, table.name)
		}
		if err == nil && table.expires {
			err = s.addTTL(ctx, table.name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) createTable(ctx context.Context, name, key string, list bool) error {
	in := &dynamodb.CreateTableInput{TableName: &name, BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: define(key), KeySchema: keys(key)}
	if list {
		in.AttributeDefinitions = define(key, "status", "modified")
		in.GlobalSecondaryIndexes = []types.GlobalSecondaryIndex{{IndexName: aws.String(byStatusIndex),
			KeySchema: keys("status", "modified"), Projection: everything()}}
	}
	err := s.call(ctx, "make table "+name, func(ctx context.Context) error {
		_, err := s.client.CreateTable(ctx, in)
		if inUse := (*types.ResourceInUseException)(nil); errors.As(err, &inUse) {
			return nil // it is there, or somebody else makes it
		}
		return err
	})
	if err != nil {
		return err
	}
	_, err = s.active(ctx, name)
	return err
}

// addIndex gives by-status to a table that lacks it.
func (s *Store) addIndex(ctx context.Context, name string) error {
	table, err := s.active(ctx, name)
	if err != nil || index(table) != nil {
		return err
	}
	add := &types.CreateGlobalSecondaryIndexAction{IndexName: aws.String(byStatusIndex),
		KeySchema: keys("status", "modified"), Projection: everything()}
	if t := table.ProvisionedThroughput; t != nil && aws.ToInt64(t.WriteCapacityUnits) > 0 {
		// An index that takes less than its table throttles the table.
		add.ProvisionedThroughput = &types.ProvisionedThroughput{
			ReadCapacityUnits: t.ReadCapacityUnits, WriteCapacityUnits: t.WriteCapacityUnits}
	}
	err = s.call(ctx, "add index to table "+name, func(ctx context.Context) error {
		_, err := s.client.UpdateTable(ctx, &dynamodb.UpdateTableInput{TableName: &name,
			AttributeDefinitions:        define("instanceid", "status", "modified"),
			GlobalSecondaryIndexUpdates: []types.GlobalSecondaryIndexUpdate{{Create: add}}})
		return err
	})
	if err == nil {
		_, err = s.active(ctx, name)
	}
	return err
}

func (s *Store) addTTL(ctx context.Context, name string) error {
	return s.call(ctx, "set TTL of table "+name, func(ctx context.Context) error {
		is, err := s.client.DescribeTimeToLive(ctx, &dynamodb.DescribeTimeToLiveInput{TableName: &name})
		if err != nil {
			return err
		}
		switch is.TimeToLiveDescription.TimeToLiveStatus {
		case types.TimeToLiveStatusEnabled, types.TimeToLiveStatusEnabling:
			return nil
		}
		_, err = s.client.UpdateTimeToLive(ctx, &dynamodb.UpdateTimeToLiveInput{TableName: &name,
			TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: aws.String(expires),
				Enabled: aws.Bool(true)}})
		return err
	})
}

// errSettling: a table or its index is being made.
var errSettling = errors.New("not ready yet")

// active waits until a table and its index can be used.
func (s *Store) active(ctx context.Context, name string) (table *types.TableDescription, err error) {
	err = s.callWithin(ctx, createLimit, "wait for table "+name, func(ctx context.Context) error {
		out, err := s.client.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &name})
		if err != nil {
			return err
		}
		table = out.Table
		if table.TableStatus != types.TableStatusActive {
			return fmt.Errorf("table is %s: %w", table.TableStatus, errSettling)
		}
		if i := index(table); i != nil && i.IndexStatus != types.IndexStatusActive {
			return fmt.Errorf("index is %s: %w", i.IndexStatus, errSettling)
		}
		return nil
	})
	return table, err
}

func index(table *types.TableDescription) *types.GlobalSecondaryIndexDescription {
	for _, i := range table.GlobalSecondaryIndexes {
		if aws.ToString(i.IndexName) == byStatusIndex {
			return &i
		}
	}
	return nil
}

func everything() *types.Projection {
	return &types.Projection{ProjectionType: types.ProjectionTypeAll}
}

// define says that attributes which are keys are texts.
func define(names ...string) (attributes []types.AttributeDefinition) {
	for _, name := range names {
		attributes = append(attributes,
			types.AttributeDefinition{AttributeName: aws.String(name), AttributeType: types.ScalarAttributeTypeS})
	}
	return attributes
}

func keys(names ...string) (schema []types.KeySchemaElement) {
	kinds := []types.KeyType{types.KeyTypeHash, types.KeyTypeRange}
	for i, name := range names {
		schema = append(schema, types.KeySchemaElement{AttributeName: aws.String(name), KeyType: kinds[i]})
	}
	return schema
}
