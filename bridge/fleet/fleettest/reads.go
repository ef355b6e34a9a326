package fleettest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"phoenix/bridge/fleet"
)

// more rows than any store returns in one page.
const many = 2300

// lag is how long an index may stay behind; DynamoDB's is "usually" under a second.
const lag = 20 * time.Second

func addMany(t *testing.T, ctx context.Context, s fleet.Store) []string {
	t.Helper()
	ids := make([]string, many)
	changes := make([]fleet.Change, many)
	for i := range ids {
		ids[i] = fmt.Sprintf("i-%08x", i)
		changes[i] = fleet.Add{InstanceID: ids[i]}
	}
	apply(t, ctx, s, changes...)
	return ids
}

func manyRows(t *testing.T, ctx context.Context, s fleet.Store) {
	ids := addMany(t, ctx, s)
	rows, err := s.Minions(ctx, append([]string{ids[0], "i-none", ids[0]}, ids...)) // twice the same, and one unknown
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != len(ids) {
		t.Errorf("%d rows of %d", len(rows), len(ids))
	}
	for _, id := range ids {
		if rows[id].InstanceID != id {
			t.Fatalf("row of %s is %s", id, Text(rows[id]))
		}
	}
}

// values: a store gives back what it was given, byte for byte.
func values(t *testing.T, ctx context.Context, s fleet.Store) {
	model := Model{}
	var batch []fleet.Change
	for i, v := range []string{"x", "%_'\"\\", "a\x00b", "ключ", "\r\n\r", "null", "0", "1e9",
		string(make([]byte, 8<<10))} {
		id := fmt.Sprintf("i-%d", i)
		batch = append(batch, fleet.Add{InstanceID: id, MinionID: v, Group: v},
			fleet.Bind{InstanceID: id, KeySHA256: keyA, PublicKey: v})
	}
	batch = append(batch,
		fleet.Claim{InstanceID: "i-0", Owner: "m", Incarnation: "m", JID: "j", Attempt: 1},
		fleet.Finish{InstanceID: "i-0", JID: "j", Outcome: fleet.Erred, Retcode: -9},
		fleet.Claim{InstanceID: "i-1", Owner: "m", Incarnation: "m", JID: "j", Attempt: 1},
		fleet.Finish{InstanceID: "i-1", JID: "j", Outcome: fleet.Succeeded, Retcode: 0})
	names := make([]string, len(batch))
	for i, c := range batch {
		names[i] = fmt.Sprintf("%T %s", c, c.Instance())
	}
	agree(t, ctx, s, model, batch, names)
	for id, want := range model {
		if row, err := s.Minion(ctx, id); err != nil || Text(row) != Text(want) {
			t.Errorf("read %s: %v\n got %s\nwant %s", id, err, Text(row), Text(want))
		}
	}
}

func byStatus(t *testing.T, ctx context.Context, s fleet.Store) {
	ids := addMany(t, ctx, s)
	gone := map[string]bool{}
	var retire []fleet.Change
	for _, id := range ids[:many/2] {
		gone[id] = true
		retire = append(retire, fleet.Retire{InstanceID: id})
	}
	apply(t, ctx, s, retire...)
	eventually(t, ctx, "rows by status", func() error {
		return errors.Join(
			listed(ctx, s, fleet.Launch, many-len(gone), func(id string) bool { return !gone[id] }),
			listed(ctx, s, fleet.Terminate, len(gone), func(id string) bool { return gone[id] }))
	})

	stop := errors.New("stop")
	calls := 0
	err := s.ByStatus(ctx, fleet.Launch, "", func([]fleet.Minion) error { calls++; return stop })
	if !errors.Is(err, stop) || calls != 1 {
		t.Errorf("fn failed at once: %d calls, error %v", calls, err)
	}
	err = s.ByStatus(ctx, fleet.Launch, fleet.FormatTime(time.Now().Add(time.Hour)),
		func(page []fleet.Minion) error { return fmt.Errorf("%d rows from the future", len(page)) })
	if err != nil {
		t.Error(err)
	}
}

// listed checks that ByStatus gives count rows that belong, each once, in order.
func listed(ctx context.Context, s fleet.Store, status fleet.Status, count int, belongs func(id string) bool) error {
	seen, last := map[string]bool{}, ""
	err := s.ByStatus(ctx, status, "", func(page []fleet.Minion) error {
		for _, row := range page {
			if row.Status != status || !belongs(row.InstanceID) || seen[row.InstanceID] || row.Modified < last {
				return fmt.Errorf("%s (seen %v) after %s", Text(row), seen[row.InstanceID], last)
			}
			seen[row.InstanceID], last = true, row.Modified
		}
		return nil
	})
	if err == nil && len(seen) != count {
		err = fmt.Errorf("%d rows of status %s, want %d", len(seen), status, count)
	}
	return err
}

// watermark: who reads from the newest Modified that it saw sees each later change.
func watermark(t *testing.T, ctx context.Context, s fleet.Store) {
	since := ""
	for i := range 20 {
		id := fmt.Sprintf("i-%d", i)
		apply(t, ctx, s, fleet.Retire{InstanceID: id})
		eventually(t, ctx, "the change of "+id, func() error {
			newest, found := since, false
			err := s.ByStatus(ctx, fleet.Terminate, since, func(page []fleet.Minion) error {
				for _, row := range page {
					found = found || row.InstanceID == id
					newest = max(newest, row.Modified)
					if row.Modified < since {
						return fmt.Errorf("row of %s, asked since %s", row.Modified, since)
					}
				}
				return nil
			})
			if err == nil && !found {
				err = errors.New("not there")
			}
			if err == nil {
				since = newest
			}
			return err
		})
	}
}

// drainingSince reads since when a master drains.
func drainingSince(t *testing.T, ctx context.Context, s fleet.Store, id string) string {
	t.Helper()
	rows, err := s.Masters(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if row.InstanceID == id {
			return row.DrainingSince
		}
	}
	return ""
}

func masters(t *testing.T, ctx context.Context, s fleet.Store) {
	beat := fleet.Beat{InstanceID: "i-m1", IPAddr: "127.0.0.1", Incarnation: "a", MasterKeySHA256: keyA,
		Zone: "eu-west-1a", PublishPort: 4505, RetPort: 4506, Relay: "127.0.0.1:4507", Minions: 7,
		Connected: 5, Queued: 3}
	if err := s.DrainMaster(ctx, "i-m1", true); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("drain of a master that is not there: %v", err)
	}
	want, found := fleet.Master{}, false
	for i := range 4 {
		beat.Ready = i > 0
		if i == 2 {
			for range 2 { // twice: it is so already
				if err := s.DrainMaster(ctx, "i-m1", true); err != nil {
					t.Fatal(err)
				}
				since := drainingSince(t, ctx, s, "i-m1")
				if at, err := fleet.ParseTime(since); err != nil || time.Since(at).Abs() > time.Minute ||
					want.DrainingSince != "" && since != want.DrainingSince {
					t.Errorf("draining since %q, before %q: %v", since, want.DrainingSince, err)
				}
				want.DrainingSince = since
				<-time.After(2 * time.Millisecond) // times have milliseconds
			}
			want.Draining = true
		}
		if i == 3 {
			if err := s.DrainMaster(ctx, "i-m1", false); err != nil {
				t.Fatal(err)
			}
			want.Draining, want.DrainingSince = false, ""
			beat.Incarnation, beat.IPAddr, beat.Zone = "b", "127.0.0.2", "" // not known yet
		}
		if want, _ = beat.Apply(want, found); want.Zone != "eu-west-1a" {
			t.Errorf("beat %d: zone %q", i, want.Zone)
		}
		found = true
		got, err := s.Beat(ctx, beat)
		if err != nil {
			t.Fatal(err)
		}
		if got.Modified == "" {
			t.Error("master without modified")
		}
		if got.Modified = ""; got != want {
			t.Errorf("beat %d: %+v, want %+v", i, got, want)
		}
	}
	for _, id := range []string{"i-m1", "i-m1", "i-m2"} { // twice, and one that was not there
		if err := s.RetireMaster(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Beat(ctx, beat); !errors.Is(err, fleet.ErrTerminated) {
		t.Errorf("beat of a terminated master: %v", err)
	}
	if err := s.DrainMaster(ctx, "i-m1", true); !errors.Is(err, fleet.ErrTerminated) {
		t.Errorf("drain of a terminated master: %v", err)
	}
	rows, err := s.Masters(ctx)
	if err != nil {
		t.Fatal(err)
	}
	byID := map[string]fleet.Master{}
	for _, row := range rows {
		if time.Until(time.Unix(row.Expires, 0)) < fleet.TombstoneFor-time.Hour {
			t.Errorf("%s expires at %d", row.InstanceID, row.Expires)
		}
		row.Modified, row.Expires = "", 0
		byID[row.InstanceID] = row
	}
	want.Status, want.Ready = fleet.Terminate, false
	if len(rows) != 2 || byID["i-m1"] != want ||
		byID["i-m2"] != (fleet.Master{InstanceID: "i-m2", Status: fleet.Terminate}) {
		t.Errorf("masters: %+v", rows)
	}
}

// eventually asks until f is content. A store may lag behind (see ByStatus).
func eventually(t *testing.T, ctx context.Context, what string, f func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, lag)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// prune deletes what has expired, and nothing that has not.
func prune(t *testing.T, ctx context.Context, s fleet.Store) {
	const past, gone, kept = 1, "i-00000001", "i-00000002"
	apply(t, ctx, s, fleet.Retire{InstanceID: gone}, fleet.Retire{InstanceID: kept},
		fleet.Retire{InstanceID: "i-00000003"})
	apply(t, ctx, s, fleet.Tombstone{InstanceID: gone, Expires: past},
		fleet.Tombstone{InstanceID: kept, Expires: time.Now().Add(fleet.TombstoneFor).Unix()})
	if err := s.RetireMaster(ctx, "i-m1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, ctx, "what has expired is gone", func() error {
		n, err := s.Prune(ctx) // an index may lag
		if err != nil || n > 1 {
			t.Fatalf("pruned %d: %v", n, err)
		}
		rows, err := s.Minions(ctx, []string{gone, kept, "i-00000003"})
		if _, there := rows[gone]; err != nil || there || len(rows) != 2 {
			return fmt.Errorf("%d rows, %s there: %v; %w", len(rows), gone, there, err)
		}
		return nil
	})
	masters, err := s.Masters(ctx)
	if err != nil || len(masters) != 1 || masters[0].Expires < time.Now().Add(fleet.TombstoneFor/2).Unix() {
		t.Errorf("masters %+v, %v: want the retired one, to expire in a month", masters, err)
	}
}
