package dynamo

import (
	"context"

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

// Proofs implements fleet.Store.
func (s *Store) Proofs(ctx context.Context, instanceARNs []string) (map[string]fleet.Proof, error) {
	proofs := make(map[string]fleet.Proof, len(instanceARNs))
	err := s.readAll(ctx, s.config.ProofsTable, "instance_arn", instanceARNs, func(it item) {
		arn, _ := plain(it["instance_arn"])
		// A digest that is no text is no proof. A public key that is none leaves
		// the digest as it is: the minion is then let in at its first auth request.
		if digest, _ := plain(it["key_sha256"]); digest != "" {
			key, _ := plain(it["public_key"])
			proofs[arn] = fleet.Proof{KeySHA256: digest, PublicKey: key}
		}
	})
	if err != nil {
		return nil, err
	}
	return proofs, nil
}
