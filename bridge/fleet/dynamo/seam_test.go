package dynamo

import (
	"bytes"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// request is one call of DynamoDB, as it is seen on its way.
type request struct {
	op   string // "UpdateItem"
	id   string // instanceid of its key
	body []byte
}

// seam stands between a store and the network. each decides on every request:
// send carries it out for real, or in a bubble fails the test.
type seam func(r request, send func() (*http.Response, error)) (*http.Response, error)

// Do implements aws.HTTPClient.
func (s seam) Do(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	_, op, _ := strings.Cut(req.Header.Get("X-Amz-Target"), ".")
	var key struct {
		Key struct{ InstanceID struct{ S string } }
	}
	if err := json.Unmarshal(body, &key); err != nil {
		return nil, err
	}
	resp, err := s(request{op, key.Key.InstanceID.S, body}, func() (*http.Response, error) {
		again := req.Clone(req.Context())
		again.Body = io.NopCloser(bytes.NewReader(body))
		return http.DefaultClient.Do(again)
	})
	if err == nil && req.Context().Err() != nil {
		err = req.Context().Err()
	}
	return resp, err
}

// answer is what DynamoDB says.
func answer(t testing.TB, status int, body any) (*http.Response, error) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}},
		Body: io.NopCloser(bytes.NewReader(text))}, nil
}

// refusal is an error as DynamoDB says it.
func refusal(t testing.TB, code, message string) (*http.Response, error) {
	t.Helper()
	status := http.StatusBadRequest
	if code == "InternalServerError" {
		status = http.StatusInternalServerError
	}
	return answer(t, status, map[string]string{"__type": "com.amazonaws.dynamodb.v20120810#" + code,
		"message": message})
}

// lose carries a request out and drops the answer.
func lose(send func() (*http.Response, error)) (*http.Response, error) {
	resp, err := send()
	if err == nil {
		resp.Body.Close()
	}
	return nil, syscall.ECONNRESET
}

// unlucky loses shares of all requests on the way there, and on the way back.
func unlucky(seed uint64, before, after float64) seam {
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(seed, 0))
	return func(r request, send func() (*http.Response, error)) (*http.Response, error) {
		mu.Lock()
		dice := rng.Float64()
		mu.Unlock()
		switch {
		case dice < before:
			return nil, syscall.ECONNRESET
		case dice < before+after:
			return lose(send)
		}
		return send()
	}
}

// counter counts requests by kind.
type counter struct {
	mu  sync.Mutex
	ops map[string]int
}

func (c *counter) seam() seam {
	return func(r request, send func() (*http.Response, error)) (*http.Response, error) {
		c.mu.Lock()
		if c.ops == nil {
			c.ops = map[string]int{}
		}
		c.ops[r.op]++
		c.mu.Unlock()
		return send()
	}
}

// take returns the counts since the last take.
func (c *counter) take() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	ops := c.ops
	c.ops = nil
	return ops
}
