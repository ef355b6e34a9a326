package dynamo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"phoenix/bridge/fleet"
)

// Masters implements fleet.Store. Masters are few, so that a scan is cheap.
func (s *Store) Masters(ctx context.Context) ([]fleet.Master, error) {
	table := s.config.MastersTable
	in := &dynamodb.ScanInput{TableName: &table, ConsistentRead: aws.Bool(!s.config.LaggingMasters)}
	var masters []fleet.Master
	bad := map[string]error{}
	for {
		err := s.call(ctx, "list masters", func(ctx context.Context) error {
			out, err := s.client.Scan(ctx, in)
			if err != nil {
				return err
			}
			in.ExclusiveStartKey = out.LastEvaluatedKey
			for _, it := range out.Items {
				if row, err := masterOf(table, it); err == nil {
					masters = append(masters, row)
				} else {
					bad[plainKey(it)] = err
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if len(in.ExclusiveStartKey) == 0 {
			return masters, fleet.BadRows(bad)
		}
	}
}

// Beat implements fleet.Store. A beat whose answer was lost may count twice:
// observers take any rise for life. A row of its own that cannot be decoded is
// mended: all that decides is written anew.
func (s *Store) Beat(ctx context.Context, b fleet.Beat) (fleet.Master, error) {
	table := s.config.MastersTable
	w, err := beat(b)
	if err != nil {
		return fleet.Master{}, err
	}
	w.sets = append(w.sets, fmt.Sprintf("#heartbeat = if_not_exists(#heartbeat, %s) + %s", w.value(number(0)),
		w.value(number(1))))
	it, done, err := s.update(ctx, table, b.InstanceID, w)
	if invalid(err) {
		it, done, err = s.beatAnew(ctx, b, err)
	}
	if err != nil {
		return fleet.Master{}, err
	}
	row, err := masterOf(table, it)
	if !done { // whatever else is wrong with the row
		err = fmt.Errorf("master %s: %w", b.InstanceID, fleet.ErrTerminated)
	}
	return row, err
}

// beat is the write of all that a beat says but for the counter. What it leaves to
// the row that it finds is draining, since when, and expires, ready where it says so, and a zone
// that it does not know.
func beat(b fleet.Beat) (*write, error) {
	next, err := b.Apply(fleet.Master{}, false)
	if err != nil {
		return nil, fmt.Errorf("master %s: %w", b.InstanceID, err)
	}
	w := &write{}
	w.when("attribute_not_exists(#status) OR #status <> %s", text(string(fleet.Terminate)))
	for name, v := range attributes(&next) {
		switch name {
		case "instanceid", "modified", "expires", "draining", "draining_since", "heartbeat":
		case "ready":
			if !b.KeepReady {
				w.set(name, v.Interface())
			}
		case "zone":
			if b.Zone != "" {
				w.set(name, v.Interface())
			}
		default:
			w.set(name, v.Interface())
		}
	}
	return w, nil
}

// beatAnew begins to count again where the counter is no number, to which nothing
// can be added.
func (s *Store) beatAnew(ctx context.Context, b fleet.Beat, why error) (it item, done bool, err error) {
	if it, err = s.readItem(ctx, s.config.MastersTable, item{"instanceid": text(b.InstanceID)}); err != nil {
		return nil, false, err
	}
	raw, there := it["heartbeat"]
	if _, counts := raw.(*types.AttributeValueMemberN); !there || counts {
		return nil, false, why
	}
	w, err := beat(b)
	if err != nil {
		return nil, false, err
	}
	w.when("#heartbeat = %s", raw)
	w.set("heartbeat", int64(1))
	return s.update(ctx, s.config.MastersTable, b.InstanceID, w)
}

// RetireMaster implements fleet.Store.
func (s *Store) RetireMaster(ctx context.Context, instanceID string) error {
	w := &write{}
	w.when("attribute_not_exists(#status) OR #status <> %s", text(string(fleet.Terminate)))
	retired := fleet.Master{}.Retired(instanceID, s.now())
	w.set("status", retired.Status)
	w.set("ready", retired.Ready)
	w.set("expires", retired.Expires)
	_, _, err := s.update(ctx, s.config.MastersTable, instanceID, w) // not done: it says so already
	return err
}

// DrainMaster implements fleet.Store.
func (s *Store) DrainMaster(ctx context.Context, instanceID string, draining bool) error {
	w := &write{}
	w.living()
	next := fleet.Master{}.Drained(draining, s.now())
	w.set("draining", next.Draining)
	w.set("draining_since", next.DrainingSince)
	if draining { // one that drains already drains since then
		w.when("attribute_not_exists(#draining) OR #draining <> %s OR attribute_not_exists(#draining_since)",
			&types.AttributeValueMemberBOOL{Value: true})
	}
	it, done, err := s.update(ctx, s.config.MastersTable, instanceID, w)
	switch {
	case err != nil || done:
		return err
	case it == nil:
		return fmt.Errorf("master %s: %w", instanceID, fleet.ErrNotFound)
	}
	row, err := masterOf(s.config.MastersTable, it)
	if err == nil && row.Status == fleet.Terminate {
		err = fmt.Errorf("master %s: %w", instanceID, fleet.ErrTerminated)
	}
	return err
}

// newTable is the age up to which a table is a new fleet's, whatever is in it: DynamoDB
// counts its rows every six hours only.
const newTable = 24 * time.Hour

// Since implements fleet.Store: the moment at which the minions table was made. The first
// who asks writes it down, so that it stays when the table is restored from a backup, which
// makes another table.
func (s *Store) Since(ctx context.Context) (time.Time, error) {
	if since := s.since.Load(); since != nil {
		return *since, ctx.Err()
	}
	table := s.config.MinionsTable
	it, err := s.readItem(ctx, table, item{"instanceid": text(sinceItem)})
	if err == nil && it == nil {
		it, err = s.begin(ctx, table)
	}
	if err != nil {
		return time.Time{}, err
	}
	value, _ := plain(it["since"])
	since, err := fleet.ParseTime(value)
	if err != nil {
		return time.Time{}, damaged(table, sinceItem, fmt.Errorf("attribute since: %w", err))
	}
	s.since.Store(&since)
	return since, nil
}

// begin writes when the fleet began. The first bridge may start minutes after the
// instances that one stack launches with its own: they are the fleet's, and are not to be
// taken for such as were there before. A role that may not describe the table has the
// present instead, and so has an old table with rows: another program used it before, and
// not every minion of its time has a row.
func (s *Store) begin(ctx context.Context, table string) (item, error) {
	since := s.now()
	var out *dynamodb.DescribeTableOutput
	err := s.call(ctx, "describe table", func(ctx context.Context) (err error) {
		out, err = s.client.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &table})
		return err
	})
	switch {
	case errors.Is(err, fleet.ErrDenied):
	case err != nil:
		return nil, err
	default:
		// EC2's launch times have whole seconds.
		made := aws.ToTime(out.Table.CreationDateTime).Truncate(time.Second)
		if !made.IsZero() && made.Before(since) && (since.Sub(made) < newTable ||
			aws.ToInt64(out.Table.ItemCount) == 0) {
			since = made
		}
	}
	w := &write{}
	w.when("attribute_not_exists(#instanceid)")
	w.set("since", fleet.FormatTime(since))
	it, _, err := s.update(ctx, table, sinceItem, w) // if not done: another came first
	return it, err
}
