package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"phoenix/bridge/files"
)

// callWithin bounds a call: the bridge answers from memory.
const callWithin = 5 * time.Second

const (
	// maxAnswer bounds what a call reads.
	maxAnswer = 4 << 20
	// maxStatus is more than a status with all problems: a bridge remembers 10,000 of each
	// of seven kinds, each of some 300 bytes.
	maxStatus = 32 << 20
)

// Client speaks to a bridge on this machine.
type Client struct {
	path string
	http http.Client
}

// NewClient makes a client; nothing is connected yet.
func NewClient(path string) *Client {
	return &Client{path: path, http: http.Client{Timeout: callWithin, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}}}
}

// Invalidate notifies the bridge that rows were changed.
func (c *Client) Invalidate(ctx context.Context, ids []string) error {
	body, err := json.Marshal(map[string][]string{"ids": ids})
	if err != nil {
		return fmt.Errorf("notify bridge: %w", err)
	}
	if err := c.call(ctx, http.MethodPost, "/v1/look", body, nil); err != nil {
		return fmt.Errorf("notify bridge: %w", err)
	}
	return nil
}

// Release retires the terminations that the bridge holds, and returns them.
func (c *Client) Release(ctx context.Context) ([]string, error) {
	var out struct {
		IDs []string `json:"ids"`
	}
	if err := c.call(ctx, http.MethodPost, "/v1/release", nil, &out); err != nil {
		return nil, fmt.Errorf("ask bridge: %w", err)
	}
	return out.IDs, nil
}

// Jobs fills out with the jobs that the relay carried; jid: with that one.
func (c *Client) Jobs(ctx context.Context, jid string, out any) error {
	path := "/v1/jobs"
	if jid != "" {
		path += "?jid=" + url.QueryEscape(jid)
	}
	if err := c.call(ctx, http.MethodGet, path, nil, out); err != nil {
		return fmt.Errorf("ask bridge: %w", err)
	}
	return nil
}

// Runs fills out with the last state run of a minion, or with a page of those that sort
// after an id.
func (c *Client) Runs(ctx context.Context, of, after string, out any) error {
	query := url.Values{}
	if of != "" {
		query.Set("minion", of)
	} else {
		query.Set("after", after)
	}
	if err := c.call(ctx, http.MethodGet, "/v1/runs?"+query.Encode(), nil, out); err != nil {
		return fmt.Errorf("ask bridge: %w", err)
	}
	return nil
}

// Restore asks the bridge to write known keys again that were deleted by hand.
func (c *Client) Restore(ctx context.Context, ids []string) error {
	body, err := json.Marshal(map[string][]string{"ids": ids})
	if err == nil {
		err = c.call(ctx, http.MethodPost, "/v1/restore", body, nil)
	}
	if err != nil {
		return fmt.Errorf("ask bridge: %w", err)
	}
	return nil
}

// Status fills out with what the bridge says of itself, and the first problems of each kind.
func (c *Client) Status(ctx context.Context, out any) error {
	if err := c.call(ctx, http.MethodGet, "/v1/status", nil, out); err != nil {
		return fmt.Errorf("ask bridge: %w", err)
	}
	return nil
}

// FullStatus is Status with all problems.
func (c *Client) FullStatus(ctx context.Context, out any) error {
	if err := c.callFor(ctx, http.MethodGet, "/v1/status?problems=all", nil, out, maxStatus); err != nil {
		return fmt.Errorf("ask bridge: %w", err)
	}
	return nil
}

func (c *Client) call(ctx context.Context, method, path string, body []byte, out any) error {
	return c.callFor(ctx, method, path, body, out, maxAnswer)
}

// callFor is call for an answer of at most so many bytes.
func (c *Client) callFor(ctx context.Context, method, path string, body []byte, out any, most int64) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://bridge"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if failed, ok := errors.AsType[*url.Error](err); ok {
		err := failed.Err // the URL is ours alone; the cause has the socket's path
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
			err = fmt.Errorf("%w (is phoenix-bridge running?)", err)
		}
		return err
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := files.ReadAll(resp.Body, most)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(answer))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}
