package identity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"

	"phoenix/bridge/fleet"
)

// wire answers as S3 does: with statuses, codes and headers that AWS documents.
// What S3 does with an object is tried on moto.
type wire func(*http.Request) (*http.Response, error)

func (w wire) Do(r *http.Request) (*http.Response, error) { return w(r) }

func says(status int, code, message string, header ...string) wire {
	return func(*http.Request) (*http.Response, error) {
		h := http.Header{"Content-Type": {"application/xml"}}
		for i := 0; i+1 < len(header); i += 2 {
			h.Set(header[i], header[i+1])
		}
		body := "<Error><Code>" + code + "</Code><Message>" + message + "</Message></Error>"
		return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body))}, nil
	}
}

func bucketOn(t *testing.T, w wire) *Bucket {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	b, err := OpenBucket(t.Context(), BucketConfig{Bucket: "b", Key: "k", Region: "us-west-2", HTTP: w, attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Each thing that can be wrong is told apart, with what to do about it, and gives
// the exit code of its kind.
func TestErrorsAreToldApart(t *testing.T) {
	fails := func(err error) wire { return func(*http.Request) (*http.Response, error) { return nil, err } }
	for name, test := range map[string]struct {
		wire wire
		kind error
		want []string
	}{
		"no bucket": {says(404, "NoSuchBucket", "The specified bucket does not exist"), fleet.ErrUnavailable,
			[]string{"no such bucket", "identity.bucket"}},
		"access denied": {says(403, "AccessDenied", "Access Denied"), fleet.ErrDenied,
			[]string{"access denied", "s3:ListBucket"}},
		"KMS denied": {says(403, "AccessDenied", "User: x is not authorized to perform: kms:Decrypt on the resource"),
			fleet.ErrDenied, []string{"KMS denied", "kms:GenerateDataKey"}},
		"KMS key disabled": {says(400, "KMS.DisabledException", "key is disabled"), fleet.ErrUnavailable,
			[]string{"KMS key not usable"}},
		"wrong region, redirected": {says(301, "PermanentRedirect", "use another endpoint",
			"X-Amz-Bucket-Region", "eu-west-1"),
			fleet.ErrUnavailable, []string{"wrong region", "eu-west-1", "identity.region"}},
		"wrong region, signature": {says(400, "AuthorizationHeaderMalformed", "the region is wrong"),
			fleet.ErrUnavailable, []string{"wrong region"}},
		"clock": {says(403, "RequestTimeTooSkewed", "too large"), fleet.ErrDenied, []string{"clock"}},
		"other account": {says(403, "InvalidAccessKeyId", "unknown"), fleet.ErrDenied,
			[]string{"credentials unknown"}},
		"out of order": {says(503, "SlowDown", "reduce"), fleet.ErrUnavailable, []string{"out of order"}},
		"unreachable": {fails(&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}), fleet.ErrUnavailable,
			[]string{"unreachable", "VPC endpoint"}},
		"no such host": {fails(&net.DNSError{Err: "no such host", Name: "s3"}), fleet.ErrUnavailable,
			[]string{"endpoint unknown"}},
		"answer of a proxy": {func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Header: http.Header{},
				Body: io.NopCloser(strings.NewReader("<html>"))}, nil
		}, fleet.ErrCorrupt, []string{"s3://b/k"}},
		"object without end": {func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(zeros{})}, nil
		}, fleet.ErrUnavailable, []string{fmt.Sprintf("over %d bytes", maxObject)}},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := bucketOn(t, test.wire).Get(t.Context())
			if !errors.Is(err, test.kind) || errors.Is(err, ErrNone) {
				t.Errorf("kind of %v", err)
			}
			for _, want := range test.want {
				if !strings.Contains(fmt.Sprint(err), want) {
					t.Errorf("%v: no word of %q", err, want)
				}
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A write that came second is told apart from one that went wrong.
func TestWhoCameSecond(t *testing.T) {
	id := Identity{Pair: newPair(t)}
	for name, test := range map[string]struct {
		wire   wire
		second bool
	}{
		"it is there":       {says(412, "PreconditionFailed", "If-None-Match"), true},
		"at the same time":  {says(409, "ConditionalRequestConflict", "conflict"), true},
		"deleted meanwhile": {says(404, "NoSuchKey", "gone"), true},
		"no bucket":         {says(404, "NoSuchBucket", "none"), false},
		"denied":            {says(403, "AccessDenied", "denied"), false},
		"bucket is emptied": {says(409, "BucketNotEmpty", "other conflict"), false},
	} {
		t.Run(name, func(t *testing.T) {
			err := bucketOn(t, test.wire).Put(t.Context(), id, "")
			if err == nil || errors.Is(err, ErrChanged) != test.second {
				t.Errorf("got %v", err)
			}
		})
	}
}

// The write is encrypted with the key of the configuration and never replaces
// what it did not see.
func TestWritesAreGuarded(t *testing.T) {
	var seen http.Header
	b := bucketOn(t, func(r *http.Request) (*http.Response, error) {
		seen = r.Header
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody}, nil
	})
	b.config.KMSKey = "alias/phoenix"
	id := Identity{Pair: newPair(t)}
	if err := b.Put(t.Context(), id, ""); err != nil {
		t.Fatal(err)
	}
	if seen.Get("X-Amz-Server-Side-Encryption") != "aws:kms" ||
		seen.Get("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id") != "alias/phoenix" ||
		seen.Get("If-None-Match") != "*" || seen.Get("If-Match") != "" {
		t.Errorf("created with %v", seen)
	}
	if err := b.Put(t.Context(), id, `"tag"`); err != nil {
		t.Fatal(err)
	}
	if seen.Get("If-Match") != `"tag"` || seen.Get("If-None-Match") != "" {
		t.Errorf("replaced with %v", seen)
	}
}

// A passing fault is tried again, and so many times only.
func TestRetriesAreBounded(t *testing.T) {
	var mu sync.Mutex
	tries := 0
	bucketOn(t, nil) // sets credentials
	b, err := OpenBucket(t.Context(), BucketConfig{Bucket: "b", Key: "k", Region: "us-west-2", attempts: 2,
		HTTP: wire(func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			tries++
			return says(500, "InternalError", "again")(r)
		})})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Get(t.Context()); err == nil || tries != 2 {
		t.Errorf("%d tries, %v", tries, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := b.Get(ctx); !errors.Is(err, fleet.ErrUnavailable) || !strings.Contains(err.Error(), "given up") {
		t.Errorf("cancelled: %v", err)
	}
}

// A master that has its key starts without S3 and without KMS, and says so; one that
// has none does not make one.
func TestInstallWithoutTheBucket(t *testing.T) {
	for name, w := range map[string]wire{
		"unreachable": func(*http.Request) (*http.Response, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		},
		"S3 out of order": says(503, "ServiceUnavailable", "try again"),
		"denied":          says(403, "AccessDenied", "Access Denied"),
		"KMS disabled":    says(400, "KMS.DisabledException", "key is disabled"),
	} {
		t.Run(name, func(t *testing.T) {
			b, has, fresh := bucketOn(t, w), newPlace(t), newPlace(t)
			own := newPair(t)
			put(t, own.Private, 0o400, has.path("master.pem"))
			before := inodes(t, has.dir)
			r, err := Install(t.Context(), b, has, Options{})
			if err != nil || r.Action != Kept || r.Fault == nil || r.Pair.Digest != own.Digest ||
				inodes(t, has.dir) != before {
				t.Errorf("%+v, %v", r.Action, err)
			}
			if r, err := Install(t.Context(), b, fresh, Options{}); err == nil {
				t.Errorf("a new master: %v", r.Action)
			}
			if _, err := fresh.Pair(); !errors.Is(err, ErrNone) {
				t.Errorf("a new master has a key: %v", err)
			}
			listed := newPlace(t, "master_sign.pem")
			put(t, own.Private, 0o400, listed.path("master.pem"))
			if r, err := Install(t.Context(), b, listed, Options{}); err == nil {
				t.Errorf("without a file of identity.files: %v", r.Action)
			}
		})
	}
}
