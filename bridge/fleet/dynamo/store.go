// Package dynamo keeps the fleet in DynamoDB, which the masters of a fleet share.
//
// The tables minions and masters are keyed by instanceid, proofs by instance_arn.
// Attributes are the json tags of fleet.Minion and fleet.Master; one that is
// empty, zero or false is left out. Attributes that this package does not know
// are never touched. One item of minions is no minion: "#fleet" holds when the
// fleet began. It has no status, so that the index leaves it out.
//
// A change of one row is one conditional UpdateItem, most often without a read
// before it (see unread). When its condition fails, DynamoDB sends the row along:
// that shows whether the change was carried out before (an answer that was lost),
// does not apply, or has to be tried on the row as it is now.
//
// Rows of the Phoenix of 2015 are read and carried on: highstate_ran may be a
// number or a text, highstate_runner "no-highstate-runner", ipaddr "no-ip-yet",
// and modified in a format of its own until the row is written again.
//
// # Caveats
//
// Modified comes from the clock of the host that writes, and may go back when
// another host writes the row: readers of ByStatus overlap what they read.
// Expired rows stay for up to two days.
package dynamo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"phoenix/bridge/fleet"
)

const (
	// The tables' names, unless the configuration has others.
	defaultMinions = "minions"
	defaultMasters = "masters"
	defaultProofs  = "proofs"

	// byStatusIndex is the index of minions on status and modified.
	byStatusIndex = "by-status"
	// sinceItem is the key of the item that says when the fleet began. No id
	// pattern allows its "#".
	sinceItem = "#fleet"

	// parallel is how many requests one call has under way. At some 5 ms each
	// that is 3,000 rows a second, less than a new on-demand table takes (4,000).
	parallel = 16
)

// Config says where the tables are. The zero Config takes what the environment
// and the instance say, and the usual names.
type Config struct {
	Region   string // empty: as the AWS command line finds it
	Endpoint string // empty: AWS's own for the region

	MinionsTable string // "minions" if empty
	MastersTable string // "masters" if empty
	ProofsTable  string // "proofs" if empty

	// LaggingMasters lets Masters miss the last second's beats, for half the
	// price: for agents, which are many and only ask who is there.
	LaggingMasters bool

	// Waits is called with the error of a request that has failed for slow and is tried
	// again, once a request: for people who wait. May be nil.
	Waits func(error)

	// HTTP sends the requests; nil: the SDK's own client. Tests count and break
	// requests here.
	HTTP aws.HTTPClient
}

// Store is a fleet.Store in DynamoDB.
type Store struct {
	client *dynamodb.Client
	config Config
	now    func() time.Time

	since atomic.Pointer[time.Time] // once known
}

var _ fleet.Store = (*Store)(nil)

// Open makes a store. It sends nothing: whether the tables are there shows when
// they are first used.
func Open(ctx context.Context, c Config) (*Store, error) {
	c.MinionsTable = cmp.Or(c.MinionsTable, defaultMinions)
	c.MastersTable = cmp.Or(c.MastersTable, defaultMasters)
	c.ProofsTable = cmp.Or(c.ProofsTable, defaultProofs)
	loaded, err := config.LoadDefaultConfig(ctx,
		config.WithRegion(c.Region),
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConnsPerHost = parallel // or a batch makes its connections anew each time
		})),
		// The SDK's retries share a quota that runs out after some 50 failures;
		// then it gives up at once, for all callers. See call.
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }))
	if err != nil {
		return nil, fmt.Errorf("open store dynamodb: %w", err)
	}
	if c.Region = loaded.Region; c.Region == "" {
		return nil, errors.New("open store dynamodb: region not known (set dynamodb.region or AWS_REGION)")
	}
	client := dynamodb.NewFromConfig(loaded, func(o *dynamodb.Options) {
		// All that a wrong checksum does is a warning on stderr, and one that
		// is missing counts as wrong (aws-sdk-go-v2 issue 3545). There is TLS.
		o.DisableValidateResponseChecksum = true
		if c.HTTP != nil {
			o.HTTPClient = c.HTTP
		}
		if c.Endpoint != "" {
			o.BaseEndpoint = &c.Endpoint
		}
	})
	return &Store{client: client, config: c, now: time.Now}, nil
}

// Close implements fleet.Store. There is nothing to let go of.
func (s *Store) Close() error { return nil }

// where names the store in errors.
func (s *Store) where() string { return "dynamodb " + cmp.Or(s.config.Endpoint, s.config.Region) }
