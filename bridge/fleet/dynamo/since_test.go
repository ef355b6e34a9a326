package dynamo

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"phoenix/bridge/fleet"
)

// TestFleetBeginsWithItsTable: an instance that one stack launched with its tables, minutes
// before a bridge asked for the first time, is not taken for one that was there before.
func TestFleetBeginsWithItsTable(t *testing.T) {
	c := ownTables(t)
	before := time.Now()
	s := created(t, c)
	launched := time.Now()
	later := launched.Add(10 * time.Minute)
	s.now = func() time.Time { return later }
	since, err := s.Since(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// DynamoDB's times of tables have milliseconds.
	if since.Before(before.Truncate(time.Second)) || since.After(launched) {
		t.Errorf("the fleet began at %v, its table was made between %v and %v", since, before, launched)
	}

	// Another store reads what was written.
	s = openTest(t, c)
	if again, err := s.Since(t.Context()); err != nil || !again.Equal(since) {
		t.Errorf("began at %v, then at %v (%v)", since, again, err)
	}
}

// TestFleetBeginsWithoutDescribeTable: a role that may not describe the table is no reason
// to fail; one that cannot be reached is.
func TestFleetBeginsWithoutDescribeTable(t *testing.T) {
	c := ownTables(t)
	created(t, c)
	answer := "InternalServerError"
	c.HTTP = seam(func(r request, send func() (*http.Response, error)) (*http.Response, error) {
		if r.op == "DescribeTable" {
			return refusal(t, answer, "as the test wants it")
		}
		return send()
	})
	s := openTest(t, c)
	asked := time.Now()
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if since, err := s.Since(short); err == nil {
		t.Errorf("the fleet began at %v, though its table was not described", since)
	}
	answer = "AccessDeniedException"
	since, err := s.Since(t.Context())
	if err != nil || since.Before(asked.Truncate(time.Millisecond)) {
		t.Errorf("the fleet began at %v (%v), asked at %v", since, err, asked)
	}
	if row, err := fleet.ApplyOne(t.Context(), s, fleet.Add{InstanceID: "i-1"}); err != nil || row.Adopted() {
		t.Errorf("%+v %v", row, err)
	}
}

// TestOldTable: in an old table of another program not every minion has a row, and those
// without are not new. One that is empty waited for its fleet.
func TestOldTable(t *testing.T) {
	for _, empty := range []bool{true, false} {
		c := ownTables(t)
		c.MinionsTable += fmt.Sprint(empty)
		c.MastersTable += fmt.Sprint(empty)
		c.ProofsTable += fmt.Sprint(empty)
		s := created(t, c)
		if !empty {
			if _, err := fleet.ApplyOne(t.Context(), s, fleet.Add{InstanceID: "i-1"}); err != nil {
				t.Fatal(err)
			}
		}
		later := time.Now().Add(2 * newTable).Truncate(time.Millisecond)
		s.now = func() time.Time { return later }
		if since, err := s.Since(t.Context()); err != nil || since.Equal(later) == empty {
			t.Errorf("empty %v: the fleet began at %v (%v), asked at %v", empty, since, err, later)
		}
	}
}
