package dynamo

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"phoenix/bridge/fleet"
)

// PutProof writes an instance's own word on its key. IAM lets an instance write
// under its own ARN only (dynamodb:LeadingKeys).
func (s *Store) PutProof(ctx context.Context, instanceARN, keySHA256 string) error {
	return s.call(ctx, "write proof "+instanceARN, func(ctx context.Context) error {
		_, err := s.client.PutItem(ctx, &dynamodb.PutItemInput{TableName: &s.config.ProofsTable, Item: item{
			"instance_arn": text(instanceARN),
			"key_sha256":   text(keySHA256),
			"modified":     text(fleet.FormatTime(s.now())),
		}})
		return err
	})
}

// Proof gives the digest of the key that the instance says is its own.
// ErrNotFound if it has said nothing.
func (s *Store) Proof(ctx context.Context, instanceARN string) (keySHA256 string, err error) {
	it, err := s.look(ctx, s.config.ProofsTable, item{"instance_arn": text(instanceARN)})
	if err != nil {
		return "", err
	}
	digest, _ := plain(it["key_sha256"])
	if digest == "" {
		return "", fmt.Errorf("read proof %s: %w", instanceARN, fleet.ErrNotFound)
	}
	return digest, nil
}
