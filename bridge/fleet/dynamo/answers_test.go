package dynamo

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"phoenix/bridge/fleet"
)

// A bubble has a clock of its own: the real store and the real SDK wait for
// minutes in no time. AWS's side is what the test says.
func inBubble(t *testing.T, answers seam, test func(t *testing.T, s *Store)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		test(t, openTest(t, Config{Region: "eu-test-1", HTTP: answers}))
	})
}

// TestD1TenMinutesOfThrottling: a bridge that beats and claims all the while.
func TestD1TenMinutesOfThrottling(t *testing.T) {
	const outage, interval = 10 * time.Minute, 5 * time.Second
	var start time.Time
	var sent []time.Time
	answers := seam(func(r request, _ func() (*http.Response, error)) (*http.Response, error) {
		sent = append(sent, time.Now())
		if time.Since(start) < outage {
			codes := []string{"ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded",
				"InternalServerError"}
			return refusal(t, codes[rand.IntN(len(codes))],
				"the level of configured provisioned throughput for the table was exceeded")
		}
		return answer(t, http.StatusOK, map[string]any{"Attributes": map[string]any{
			"instanceid": map[string]string{"S": "m"}, "status": map[string]string{"S": "LAUNCH"},
			"heartbeat": map[string]string{"N": "1"}}})
	})
	inBubble(t, answers, func(t *testing.T, s *Store) {
		start = time.Now()
		failures := 0
		for {
			begun := time.Now()
			before := len(sent)
			row, err := s.Beat(t.Context(), fleet.Beat{InstanceID: "m"})
			if took := time.Since(begun); took > callLimit {
				t.Errorf("a call took %v", took)
			}
			if err == nil {
				if row.Heartbeat != 1 || time.Since(start) > outage+callLimit {
					t.Errorf("%+v after %v", row, time.Since(start))
				}
				break
			}
			failures++
			if !errors.Is(err, fleet.ErrUnavailable) {
				t.Errorf("beat: %v", err)
			}
			tries := sent[before:]
			for i := 2; i < len(tries); i++ { // half a wait at least, a whole one at most
				if last, next := tries[i-1].Sub(tries[i-2]),
					tries[i].Sub(tries[i-1]); next < last && next < longestWait/2 {
					t.Errorf("waited %v and then %v", last, next)
				}
			}
			if len(tries) < 7 || len(tries) > 14 {
				t.Errorf("%d tries in a call of %v", len(tries), callLimit)
			}
			if time.Sleep(interval); time.Since(start) > 2*outage {
				t.Fatal("it does not come back")
			}
		}
		if failures < 20 {
			t.Errorf("%d calls failed in %v", failures, outage)
		}
	})
}

// TestD2UnprocessedKeys: DynamoDB answers with a part, with nothing, and in the
// end with the rest.
func TestD2UnprocessedKeys(t *testing.T) {
	type keys struct {
		Keys           []map[string]map[string]string
		ConsistentRead bool
	}
	calls, most := 0, 0
	answers := seam(func(r request, _ func() (*http.Response, error)) (*http.Response, error) {
		calls++
		var in struct{ RequestItems map[string]keys }
		if err := json.Unmarshal(r.body, &in); err != nil {
			t.Error(err)
		}
		asked := in.RequestItems["minions"]
		most = max(most, len(asked.Keys))
		if !asked.ConsistentRead {
			t.Error("the read is not consistent")
		}
		given := len(asked.Keys) / 3 // in the end 0 of 2
		if calls%4 == 0 {
			given = len(asked.Keys)
		}
		var rows []map[string]map[string]string
		for _, key := range asked.Keys[:given] {
			rows = append(rows, map[string]map[string]string{"instanceid": key["instanceid"],
				"status": {"S": "LAUNCH"}})
		}
		return answer(t, http.StatusOK, map[string]any{
			"Responses":       map[string]any{"minions": rows},
			"UnprocessedKeys": map[string]any{"minions": keys{asked.Keys[given:], true}}})
	})
	var ids []string
	for i := range 250 {
		ids = append(ids, fmt.Sprintf("i-%d", i))
	}
	inBubble(t, answers, func(t *testing.T, s *Store) {
		for chunk := range slices.Chunk(ids, keysPerRead) { // one after the other: calls are counted
			rows, err := s.Minions(t.Context(), chunk)
			if err != nil || len(rows) != len(chunk) {
				t.Errorf("%d rows of %d, %v", len(rows), len(chunk), err)
			}
		}
	})
	if most != keysPerRead {
		t.Errorf("%d keys were asked for at once", most)
	}
	none := seam(func(r request, _ func() (*http.Response, error)) (*http.Response, error) {
		var in struct{ RequestItems map[string]keys }
		if err := json.Unmarshal(r.body, &in); err != nil {
			t.Error(err)
		}
		return answer(t, http.StatusOK, map[string]any{"UnprocessedKeys": in.RequestItems})
	})
	inBubble(t, none, func(t *testing.T, s *Store) {
		begun := time.Now()
		rows, err := s.Minions(t.Context(), ids)
		if !errors.Is(err, fleet.ErrUnavailable) || rows != nil || time.Since(begun) > callLimit {
			t.Errorf("%d rows, %v after %v", len(rows), err, time.Since(begun))
		}
	})
}

// TestD2EmptyPages: a page without rows, or the end of one, is no end of the list.
func TestD2EmptyPages(t *testing.T) {
	row := func(id string) map[string]any {
		return map[string]any{"instanceid": map[string]string{"S": id}, "status": map[string]string{"S": "LAUNCH"}}
	}
	pages := [][]map[string]any{{}, {row("i-1"), row("i-2")}, {}, {}, {row("i-3")}, {}}
	next := 0
	answers := seam(func(r request, _ func() (*http.Response, error)) (*http.Response, error) {
		var in struct {
			ExclusiveStartKey map[string]map[string]string
		}
		if err := json.Unmarshal(r.body, &in); err != nil {
			t.Error(err)
		}
		want := fmt.Sprint(next)
		if next == 0 {
			want = ""
		}
		if got := in.ExclusiveStartKey["instanceid"]["S"]; got != want {
			t.Errorf("page %d asked from %q", next, got)
		}
		body := map[string]any{"Items": pages[next]}
		if next++; next < len(pages) {
			body["LastEvaluatedKey"] = map[string]any{"instanceid": map[string]string{"S": fmt.Sprint(next)}}
		}
		return answer(t, http.StatusOK, body)
	})
	want := []string{"i-1", "i-2", "i-3"}
	inBubble(t, answers, func(t *testing.T, s *Store) {
		var ids []string
		err := s.ByStatus(t.Context(), fleet.Launch, "", func(page []fleet.Minion) error {
			if len(page) == 0 {
				t.Error("called without rows")
			}
			for _, row := range page {
				ids = append(ids, row.InstanceID)
			}
			return nil
		})
		if err != nil || !slices.Equal(ids, want) {
			t.Errorf("minions %v, %v", ids, err)
		}
		next, ids = 0, nil
		masters, err := s.Masters(t.Context())
		for _, row := range masters {
			ids = append(ids, row.InstanceID)
		}
		if err != nil || !slices.Equal(ids, want) {
			t.Errorf("masters %v, %v", ids, err)
		}
	})
}

// TestLaggingMasters: agents are many, and read at half the price.
func TestLaggingMasters(t *testing.T) {
	for _, lagging := range []bool{false, true} {
		s := openTest(t, Config{Region: "eu-test-1", LaggingMasters: lagging,
			HTTP: seam(func(r request, _ func() (*http.Response, error)) (*http.Response, error) {
				var in struct{ ConsistentRead bool }
				if err := json.Unmarshal(r.body, &in); err != nil || in.ConsistentRead == lagging {
					t.Errorf("consistent %v of lagging %v (%v)", in.ConsistentRead, lagging, err)
				}
				return answer(t, http.StatusOK, map[string]any{})
			})})
		if _, err := s.Masters(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
