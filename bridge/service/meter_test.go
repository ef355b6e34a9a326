package service

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"phoenix/bridge/fleet/dynamo"
	local "phoenix/lab/dynamodb"
	skip "phoenix/lab/needs"
)

// bill is what was asked of DynamoDB: requests by kind, and the units of capacity
// that DynamoDB itself says they took.
type bill struct {
	requests map[string]int
	read     float64 // units
	write    float64
}

// reads and writes count requests.
func (b bill) reads() int {
	return b.requests["GetItem"] + b.requests["BatchGetItem"] + b.requests["Query"] + b.requests["Scan"]
}
func (b bill) writes() int {
	return b.requests["UpdateItem"] + b.requests["PutItem"] + b.requests["DeleteItem"]
}

func (b bill) String() string {
	var words []string
	for _, op := range slices.Sorted(maps.Keys(b.requests)) {
		words = append(words, fmt.Sprintf("%d %s", b.requests[op], op))
	}
	return strings.Join(words, ", ")
}

// meter stands between a store and DynamoDB, and adds up.
type meter struct {
	endpoint string

	mu  sync.Mutex
	sum bill
}

// take returns the bill since the last take.
func (m *meter) take() bill {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.sum
	m.sum = bill{}
	return b
}

// Do implements aws.HTTPClient. It asks for what DynamoDB will charge, which the
// answer then holds.
func (m *meter) Do(r *http.Request) (*http.Response, error) {
	in := map[string]any{}
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(body, &in)
	}
	if err != nil {
		return nil, err
	}
	_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	in["ReturnConsumedCapacity"] = "TOTAL"
	if body, err = json.Marshal(in); err != nil {
		return nil, err
	}
	asked := r.Clone(r.Context())
	asked.Body, asked.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	response, err := http.DefaultClient.Do(asked)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	m.note(op, body, text)
	response.Body = io.NopCloser(bytes.NewReader(text))
	return response, nil
}

// missing counts the items that a BatchGetItem asked for and did not find. AWS
// charges for each as for a small one, DynamoDB Local for none.
func missing(request, answer []byte) (n int) {
	var in struct {
		RequestItems map[string]struct{ Keys []json.RawMessage }
	}
	var out struct{ Responses map[string][]json.RawMessage }
	_, _ = json.Unmarshal(request, &in), json.Unmarshal(answer, &out)
	for table, asked := range in.RequestItems {
		n += len(asked.Keys) - len(out.Responses[table])
	}
	return n
}

// leastQuery is what AWS charges for a Query that finds nothing; DynamoDB Local
// says 0.
const leastQuery = 0.5

func (m *meter) note(op string, request, answer []byte) {
	var out struct{ ConsumedCapacity json.RawMessage }
	_ = json.Unmarshal(answer, &out) // an error has none
	type consumed struct{ CapacityUnits float64 }
	var one consumed
	var many []consumed
	if json.Unmarshal(out.ConsumedCapacity, &many) != nil && json.Unmarshal(out.ConsumedCapacity, &one) == nil {
		many = []consumed{one}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sum.requests == nil {
		m.sum.requests = map[string]int{}
	}
	m.sum.requests[op]++
	if op == "BatchGetItem" {
		m.sum.read += float64(missing(request, answer))
	}
	for _, c := range many {
		if op == "Query" {
			c.CapacityUnits = max(c.CapacityUnits, leastQuery)
		}
		switch op {
		case "UpdateItem", "PutItem", "DeleteItem":
			m.sum.write += c.CapacityUnits
		default:
			m.sum.read += c.CapacityUnits
		}
	}
}

// metered runs DynamoDB Local with tables, and gives a store on them whose
// requests are counted.
func metered(t *testing.T) (*dynamo.Store, *meter) {
	t.Helper()
	skip.More(t, "DynamoDB Local, and Java for it")
	server, err := local.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local",
		"AWS_CONFIG_FILE": "/dev/null"} {
		t.Setenv(name, value)
	}
	m := &meter{endpoint: server.URL}
	store := m.open(t, false)
	if err := store.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.take()
	return store, m
}

// open opens the tables as a bridge does, or as an agent does, whose reads of the
// masters may lag.
func (m *meter) open(t *testing.T, lagging bool) *dynamo.Store {
	t.Helper()
	store, err := dynamo.Open(t.Context(),
		dynamo.Config{Region: "us-east-1", Endpoint: m.endpoint, LaggingMasters: lagging, HTTP: m})
	if err != nil {
		t.Fatal(err)
	}
	return store
}
