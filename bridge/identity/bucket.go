package identity

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"phoenix/bridge/awserr"
	"phoenix/bridge/files"
)

const (
	// callLimit bounds one read or write with its repetitions. A machine that has
	// just booted may need that long for its route to S3, and nothing but the
	// start of its Salt waits.
	callLimit = time.Minute
	// maxAttempts, longestWait: some six tries within callLimit.
	maxAttempts = 6
	longestWait = 10 * time.Second
)

// BucketConfig says where the shared identity lies. The zero values of all but
// Bucket and Key take what the environment says.
type BucketConfig struct {
	Bucket   string
	Key      string
	KMSKey   string // empty: AWS's own key for S3 (aws/s3)
	Region   string
	Endpoint string // empty: AWS's own for the region

	// HTTP sends the requests; nil: the SDK's own client. Tests answer here.
	HTTP aws.HTTPClient

	attempts int // maxAttempts if 0
}

// Bucket is the object in S3.
type Bucket struct {
	client *s3.Client
	config BucketConfig
}

var _ bucket = (*Bucket)(nil)

// OpenBucket sends nothing yet.
func OpenBucket(ctx context.Context, c BucketConfig) (*Bucket, error) {
	if c.Bucket == "" || c.Key == "" {
		return nil, errors.New("open identity: no bucket is named (identity.bucket, identity.key)")
	}
	loaded, err := config.LoadDefaultConfig(ctx, config.WithRegion(c.Region),
		config.WithRetryer(func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) {
				o.MaxAttempts, o.MaxBackoff = cmp.Or(c.attempts, maxAttempts), longestWait
				o.RateLimiter = ratelimit.None // one object: there is no crowd to hold back
			})
		}))
	if err != nil {
		return nil, fmt.Errorf("open identity: %w", err)
	}
	if c.Region = loaded.Region; c.Region == "" {
		return nil, errors.New("open identity: region not known (set identity.region or AWS_REGION)")
	}
	client := s3.NewFromConfig(loaded, func(o *s3.Options) {
		// Stores that are not AWS's know neither the checksums that the SDK adds
		// nor names of buckets as names of hosts.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		if c.Endpoint != "" {
			o.BaseEndpoint, o.UsePathStyle = &c.Endpoint, true
		}
		if c.HTTP != nil {
			o.HTTPClient = c.HTTP
		}
	})
	return &Bucket{client, c}, nil
}

// String names the object.
func (b *Bucket) String() string { return "s3://" + b.config.Bucket + "/" + b.config.Key }

// Get reads the object. ErrNone if it is not there.
func (b *Bucket) Get(ctx context.Context) (Identity, string, error) {
	bounded, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	out, err := b.client.GetObject(bounded, &s3.GetObjectInput{Bucket: &b.config.Bucket, Key: &b.config.Key})
	if missing := (*types.NoSuchKey)(nil); errors.As(err, &missing) {
		return Identity{}, "", fmt.Errorf("read %s: %w", b, ErrNone)
	}
	if err != nil {
		return Identity{}, "", b.explain(ctx, "read", err)
	}
	defer out.Body.Close()
	text, err := files.ReadAll(out.Body, maxObject)
	if err != nil {
		return Identity{}, "", b.explain(ctx, "read", err)
	}
	id, err := decode(text)
	if err != nil {
		return Identity{}, "", fmt.Errorf("read %s: %w (an earlier version of the object may be whole)", b, err)
	}
	return id, aws.ToString(out.ETag), nil
}

// Deleted looks at the versions of the object: one that was written, or a mark that
// it was deleted. Without versioning there is nothing to look at; a store that is
// not AWS's may know no versions.
func (b *Bucket) Deleted(ctx context.Context) (bool, error) {
	bounded, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	// Names that begin with this one come after it.
	out, err := b.client.ListObjectVersions(bounded,
		&s3.ListObjectVersionsInput{Bucket: &b.config.Bucket, Prefix: &b.config.Key, MaxKeys: aws.Int32(1)})
	if awserr.Code(err) == "NotImplemented" {
		return false, nil
	}
	if err != nil {
		return false, b.explain(ctx, "list versions of", err)
	}
	for _, v := range out.Versions {
		if aws.ToString(v.Key) == b.config.Key {
			return true, nil
		}
	}
	for _, m := range out.DeleteMarkers {
		if aws.ToString(m.Key) == b.config.Key {
			return true, nil
		}
	}
	return false, nil
}

// Put writes the object, encrypted with KMS, if it still is as tag says. A write
// whose answer was lost is tried again and may so fail with ErrChanged, by what
// it wrote itself.
func (b *Bucket) Put(ctx context.Context, id Identity, tag string) error {
	text, err := encode(id)
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	in := &s3.PutObjectInput{
		Bucket: &b.config.Bucket, Key: &b.config.Key, Body: bytes.NewReader(text),
		ContentType:          aws.String("application/json"),
		ServerSideEncryption: types.ServerSideEncryptionAwsKms,
	}
	if b.config.KMSKey != "" {
		in.SSEKMSKeyId = &b.config.KMSKey
	}
	if tag == "" {
		in.IfNoneMatch = aws.String("*")
	} else {
		in.IfMatch = &tag
	}
	_, err = b.client.PutObject(bounded, in)
	if err == nil {
		return nil
	}
	if cameSecond(err) {
		return fmt.Errorf("write %s: %w", b, ErrChanged)
	}
	return b.explain(ctx, "write", err)
}

// cameSecond reports whether another write was first: it is there (412), or is under
// way at the same time (409), or what should be replaced was deleted (404).
func cameSecond(err error) bool {
	var response *smithyhttp.ResponseError
	if !errors.As(err, &response) {
		return false
	}
	switch response.HTTPStatusCode() {
	case http.StatusPreconditionFailed:
		return awserr.Code(err) != ""
	case http.StatusConflict:
		return awserr.Code(err) == "ConditionalRequestConflict" || awserr.Code(err) == "OperationAborted"
	case http.StatusNotFound:
		return awserr.Code(err) == "NoSuchKey"
	}
	return false
}
