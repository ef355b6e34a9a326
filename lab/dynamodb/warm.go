package dynamodb

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// warm asks for what tests ask for first. The JVM loads its classes on the way, for which
// it needs seconds on a busy machine: more than Phoenix gives one request.
func warm(url string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	client := dynamodb.New(dynamodb.Options{Region: "warm-up-1", BaseEndpoint: &url,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "warm", SecretAccessKey: "up"}, nil
		})})
	name, key := aws.String("warm-up"), aws.String("id")
	query := func() error {
		_, err := client.Query(ctx, &dynamodb.QueryInput{TableName: name,
			KeyConditionExpression:    aws.String("id = :id"),
			ExpressionAttributeValues: map[string]types.AttributeValue{":id": &types.AttributeValueMemberS{Value: "-"}}})
		return err
	}
	if err := query(); !errors.As(err, new(*types.ResourceNotFoundException)) {
		return err
	}
	if _, err := client.CreateTable(ctx,
		&dynamodb.CreateTableInput{TableName: name, BillingMode: types.BillingModePayPerRequest,
			AttributeDefinitions: []types.AttributeDefinition{{AttributeName: key,
				AttributeType: types.ScalarAttributeTypeS}},
			KeySchema: []types.KeySchemaElement{{AttributeName: key, KeyType: types.KeyTypeHash}}}); err != nil {
		return err
	}
	_, err := client.UpdateItem(ctx,
		&dynamodb.UpdateItemInput{TableName: name,
			Key:                       map[string]types.AttributeValue{"id": &types.AttributeValueMemberS{Value: "-"}},
			UpdateExpression:          aws.String("SET n = :n"),
			ExpressionAttributeValues: map[string]types.AttributeValue{":n": &types.AttributeValueMemberN{Value: "1"}}})
	err = errors.Join(err, query())
	_, deleted := client.DeleteTable(ctx, &dynamodb.DeleteTableInput{TableName: name})
	return errors.Join(err, deleted)
}
