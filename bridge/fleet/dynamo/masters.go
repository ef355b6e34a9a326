package dynamo

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"phoenix/bridge/fleet"
)

// Masters implements fleet.Store. Masters are few, so that a scan is cheap.
func (s *Store) Masters(ctx context.Context) ([]fleet.Master, error) {
	table := s.config.MastersTable
	in := &dynamodb.ScanInput{TableName: &table, ConsistentRead: aws.Bool(!s.config.LaggingMasters)}
	var masters []fleet.Master
	for {
		err := s.call(ctx, "list masters", func(ctx context.Context) error {
			out, err := s.client.Scan(ctx, in)
			if err != nil {
				return err
			}
			in.ExclusiveStartKey = out.LastEvaluatedKey
			for _, it := range out.Items {
				row, err := masterOf(table, it)
				if err != nil {
					return err
				}
				masters = append(masters, row)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if len(in.ExclusiveStartKey) == 0 {
			return masters, nil
		}
	}
}

// Beat implements fleet.Store. A beat whose answer was lost may count twice:
// observers take any rise for life.
func (s *Store) Beat(ctx context.Context, b fleet.Beat) (fleet.Master, error) {
	// What a beat leaves to the row that it finds is the heartbeat alone.
	next, err := b.Apply(fleet.Master{}, false)
	if err != nil {
		return fleet.Master{}, fmt.Errorf("master %s: %w", b.InstanceID, err)
	}
	w := &write{}
	w.when("attribute_not_exists(#status) OR #status <> %s", text(string(fleet.Terminate)))
	for name, v := range attributes(&next) {
		switch name {
		case "instanceid", "modified", "expires", "draining":
		case "heartbeat":
			w.sets = append(w.sets, fmt.Sprintf("#heartbeat = if_not_exists(#heartbeat, %s) + %s",
				w.value(number(0)), w.value(number(next.Heartbeat))))
		default:
			w.set(name, v.Interface())
		}
	}
	it, done, err := s.update(ctx, s.config.MastersTable, b.InstanceID, w)
	if err != nil {
		return fleet.Master{}, err
	}
	row, err := masterOf(s.config.MastersTable, it)
	if err == nil && !done {
		err = fmt.Errorf("master %s: %w", b.InstanceID, fleet.ErrTerminated)
	}
	return row, err
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
	w.set("draining", draining)
	it, done, err := s.update(ctx, s.config.MastersTable, instanceID, w)
	switch {
	case err != nil || done:
		return err
	case it == nil:
		return fmt.Errorf("master %s: %w", instanceID, fleet.ErrNotFound)
	}
	return fmt.Errorf("master %s: %w", instanceID, fleet.ErrTerminated)
}

// Since implements fleet.Store: the first who asks sets it.
func (s *Store) Since(ctx context.Context) (time.Time, error) {
	if since := s.since.Load(); since != nil {
		return *since, ctx.Err()
	}
	table := s.config.MinionsTable
	it, err := s.look(ctx, table, item{"instanceid": text(sinceItem)})
	if err == nil && it == nil {
		w := &write{}
		w.when("attribute_not_exists(#instanceid)")
		w.set("since", fleet.FormatTime(s.now()))
		it, _, err = s.update(ctx, table, sinceItem, w) // not done: another came first
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
