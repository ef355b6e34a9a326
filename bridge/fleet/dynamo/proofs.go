package dynamo

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"phoenix/bridge/fleet"
)

// PutProof writes an instance's own word on its key. IAM lets an instance write
// under its own ARN only (dynamodb:LeadingKeys).
func (s *Store) PutProof(ctx context.Context, instanceARN string, p fleet.Proof) error {
	it := item{
		"instance_arn": text(instanceARN),
		"key_sha256":   text(p.KeySHA256),
		"modified":     text(fleet.FormatTime(s.now())),
	}
	if p.PublicKey != "" {
		it["public_key"] = text(p.PublicKey)
	}
	return s.call(ctx, "write proof "+instanceARN, func(ctx context.Context) error {
		_, err := s.client.PutItem(ctx, &dynamodb.PutItemInput{TableName: &s.config.ProofsTable, Item: it})
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
