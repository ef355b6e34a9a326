package awsproxy

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

// permissions are those that IAM knows by another name than the API.
var permissions = map[string]string{
	"sqs:DeleteMessageBatch":           "sqs:DeleteMessage",
	"sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
	"s3:ListObjectVersions":            "s3:ListBucketVersions",
	"s3:HeadObject":                    "s3:GetObject",
}

// resources are what the actions of a service are allowed on, in the words of
// cloudformation/testdata; DynamoDB's are tables.
var resources = map[string]string{
	"sqs":         "messages",
	"s3":          "identity",
	"autoscaling": "groups",
}

// needs returns what IAM must allow for a call: "dynamodb:UpdateItem minions".
func (c Call) needs(r *http.Request) []string {
	action := c.Service + ":" + c.Action
	if name, other := permissions[action]; other {
		action = name
	}
	on := resources[c.Service]
	switch {
	case c.Service == "dynamodb":
		on = c.On
	case strings.HasPrefix(c.Action, "Describe"):
		on = "*" // AutoScaling and EC2 allow it on all or on nothing
	}
	needs := []string{action + " " + on}
	// S3 calls KMS by the caller's own permission.
	if r.Header.Get("X-Amz-Server-Side-Encryption") == "aws:kms" {
		needs = append(needs, "kms:GenerateDataKey "+on)
	}
	return needs
}

// needsByAnswer returns what shows in the answer alone.
func (c Call) needsByAnswer(r *http.Response) []string {
	if c.Service != "s3" || c.Action != "GetObject" {
		return nil
	}
	switch {
	case r.StatusCode == http.StatusNotFound:
		// To those who may not list, S3 denies what is not there.
		return []string{"s3:ListBucket identity"}
	case r.Header.Get("X-Amz-Server-Side-Encryption") == "aws:kms":
		return []string{"kms:Decrypt identity"}
	}
	return nil
}

// Needs returns what IAM must allow for all calls so far, sorted.
func (p *Proxy) Needs() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.needs))
}
