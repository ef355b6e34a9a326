//go:build packages

package packages

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// The credentials that the lab's metadata gives to roles.
const (
	accessKey = "ASIALAB"
	secretKey = "secret"
)

// front stands before moto, which looks at no signature. It holds those of the scripts
// to what AWS's own signer makes of the same request, and notes what they called.
type front struct {
	URL string
	t   *testing.T

	mu   sync.Mutex
	seen map[string]bool
}

func newFront(t *testing.T, endpoint string) *front {
	t.Helper()
	to, err := url.Parse(endpoint)
	must(t, err)
	f := &front{t: t, seen: map[string]bool{}}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme,
			r.Out.URL.Host = to.Scheme, to.Host
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.UserAgent(), "curl/") {
			if err := f.check(r); err != nil {
				f.t.Errorf("%s %s: %v", r.Method, r.URL, err)
				http.Error(w, err.Error(), http.StatusForbidden)
				return
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		server.CloseClientConnections() // long polls of bridges that were killed
		server.Close()
	})
	f.URL = server.URL
	return f
}

// check holds a script's request to its signature.
func (f *front) check(r *http.Request) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	given := r.Header.Get("Authorization")
	_, scope, _ := strings.Cut(given, "Credential="+accessKey+"/")
	parts := strings.Split(scope, "/") // date, region, service
	_, signed, _ := strings.Cut(given, "SignedHeaders=")
	signed, _, _ = strings.Cut(signed, ",")
	if len(parts) < 4 || signed == "" {
		return fmt.Errorf("signed as %q", given)
	}
	names := strings.Split(signed, ";")
	again := &http.Request{Method: r.Method,
		URL: &url.URL{Scheme: "http", Host: r.Host, Path: r.URL.Path, RawPath: r.URL.RawPath}, Host: r.Host,
		Header: http.Header{}}
	for name, value := range r.Header {
		lower := strings.ToLower(name)
		if slices.Contains(names, lower) {
			again.Header[name] = value
		} else if strings.HasPrefix(lower, "x-amz-") { // S3 refuses such a request
			return fmt.Errorf("%s is not signed", name)
		}
	}
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil {
		return err
	}
	hash := r.Header.Get("X-Amz-Content-Sha256")
	if hash == "" {
		hash = digest(body)
	}
	credentials := aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: secretKey}
	err = v4.NewSigner().SignHTTP(context.Background(), credentials, again, hash, parts[2], parts[1], at,
		func(o *v4.SignerOptions) { o.DisableURIPathEscaping = parts[2] == "s3" })
	if err != nil {
		return err
	}
	_, want, _ := strings.Cut(again.Header.Get("Authorization"), "Signature=")
	if _, got, _ := strings.Cut(given, "Signature="); got != want || r.Header.Get("X-Amz-Security-Token") == "" {
		return fmt.Errorf("signed %q, AWS's own signer says %q", given, again.Header.Get("Authorization"))
	}
	f.note(parts[2], r)
	return nil
}

func (f *front) note(service string, r *http.Request) {
	need := service + ":" + r.Method
	switch {
	case service == "s3" && r.Method == http.MethodGet:
		need = "s3:GetObject packages"
	case service == "secretsmanager":
		need = r.Header.Get("X-Amz-Target") + " repositories"
		need = strings.Replace(need, ".", ":", 1)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen[need] = true
}

// needs returns what IAM must allow for the calls of scripts so far, sorted.
func (f *front) needs() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.seen))
}

// makeSecret makes a secret, and gives its ARN.
func (f *front) makeSecret(region, text string) string {
	f.t.Helper()
	body, err := json.Marshal(map[string]string{"Name": "repositories", "SecretString": text})
	must(f.t, err)
	r, err := http.NewRequestWithContext(f.t.Context(), http.MethodPost, f.URL, bytes.NewReader(body))
	must(f.t, err)
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "secretsmanager.CreateSecret")
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=test/20260101/"+region+
		"/secretsmanager/aws4_request, SignedHeaders=host, Signature=none")
	answer, err := http.DefaultClient.Do(r)
	must(f.t, err)
	defer answer.Body.Close()
	var made struct{ ARN string }
	must(f.t, json.NewDecoder(answer.Body).Decode(&made))
	return made.ARN
}
