// Package imds is a stand-in for the instance metadata service of EC2, version 2,
// which answers on an instance only, at 169.254.169.254. It serves what Phoenix
// and the SDK ask for, on 127.0.0.1, to whoever is told so by
// AWS_EC2_METADATA_SERVICE_ENDPOINT.
//
// As the service does where version 1 is turned off (HttpTokens: required), it
// gives a token for a PUT only, refuses a GET without one, and refuses what came
// by a proxy. The document is not signed: nobody here checks the signature.
package imds

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Instance is what the service says of the instance that it belongs to.
type Instance struct {
	ID        string
	Account   string
	Region    string
	PrivateIP string
	Partition string // aws, aws-cn, aws-us-gov; empty: aws

	// Role has credentials, those of AccessKey; empty: no instance profile.
	Role      string
	AccessKey string
}

// maxTTL is the longest life of a token, in seconds.
const maxTTL = 21600

// credentialsFor is how long the credentials of an instance profile are good.
const credentialsFor = 6 * time.Hour

// Service is one instance's.
type Service struct {
	URL string // for AWS_EC2_METADATA_SERVICE_ENDPOINT

	is Instance

	mu     sync.Mutex
	tokens map[string]bool
	says   map[string]string // see Say
	calls  []string          // "GET /latest/…", those refused included
	v1     int               // calls without a token
}

// Start runs the service of an instance until the test ends.
func Start(t testing.TB, is Instance) *Service {
	t.Helper()
	if is.Partition == "" {
		is.Partition = "aws"
	}
	s := &Service{is: is, tokens: map[string]bool{}, says: map[string]string{}}
	server := httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

// Calls returns what was asked for so far, and how much of it without a token.
func (s *Service) Calls() (all []string, v1 int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.calls...), s.v1
}

// Say lets the service answer with text below /latest/meta-data/, as of now: a spot
// interruption, a recommendation, what AutoScaling is about to do.
func (s *Service) Say(path, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.says["/latest/meta-data/"+path] = text
}

func (s *Service) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, r.Method+" "+r.URL.Path)
	switch {
	case r.Header.Get("X-Forwarded-For") != "":
		http.Error(w, "403 - Forbidden", http.StatusForbidden)
	case r.URL.Path == "/latest/api/token":
		s.token(w, r)
	case !s.tokens[r.Header.Get("X-Aws-Ec2-Metadata-Token")]:
		s.v1++
		http.Error(w, "401 - Unauthorized", http.StatusUnauthorized)
	case r.Method != http.MethodGet:
		http.Error(w, "405 - Method Not Allowed", http.StatusMethodNotAllowed)
	default:
		text, found := s.text(r.URL.Path)
		if !found {
			http.Error(w, "404 - Not Found", http.StatusNotFound)
			return
		}
		_, _ = w.Write([]byte(text)) // who does not listen has no use for it
	}
}

func (s *Service) token(w http.ResponseWriter, r *http.Request) {
	const header = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
	seconds, err := strconv.Atoi(r.Header.Get(header))
	switch {
	case r.Method != http.MethodPut:
		http.Error(w, "405 - Method Not Allowed", http.StatusMethodNotAllowed)
	case err != nil || seconds < 1 || seconds > maxTTL:
		http.Error(w, "400 - Bad Request", http.StatusBadRequest)
	default:
		token := rand.Text()
		s.tokens[token] = true
		w.Header().Set(header, strconv.Itoa(seconds))
		_, _ = w.Write([]byte(token))
	}
}

// text returns what stands at a path.
func (s *Service) text(path string) (text string, found bool) {
	is := s.is
	if text, found := s.says[path]; found {
		return text, true
	}
	switch path {
	case "/latest/dynamic/instance-identity/document":
		return encode(map[string]any{
			"accountId": is.Account, "region": is.Region, "instanceId": is.ID, "privateIp": is.PrivateIP,
			"availabilityZone": is.Region + "a", "architecture": "x86_64", "imageId": "ami-0123456789abcdef0",
			"instanceType": "t3.micro", "pendingTime": "2026-01-01T00:00:00Z", "version": "2017-09-30",
		}), true
	case "/latest/meta-data/instance-id":
		return is.ID, true
	case "/latest/meta-data/services/partition":
		return is.Partition, true
	case "/latest/meta-data/placement/region":
		return is.Region, true
	case "/latest/meta-data/placement/availability-zone":
		return is.Region + "a", true
	case "/latest/meta-data/autoscaling/target-lifecycle-state":
		return "InService", true
	case "/latest/meta-data/iam/security-credentials/":
		return is.Role, is.Role != ""
	case "/latest/meta-data/iam/security-credentials/" + is.Role:
		now := time.Now().UTC()
		return encode(map[string]any{
			"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": now.Format(time.RFC3339),
			"AccessKeyId": is.AccessKey, "SecretAccessKey": "secret", "Token": "token",
			"Expiration": now.Add(credentialsFor).Format(time.RFC3339),
		}), is.Role != ""
	}
	return "", false
}

func encode(document map[string]any) string {
	text, err := json.Marshal(document)
	if err != nil {
		panic(fmt.Sprintf("encode strings: %v", err)) // unreachable
	}
	return string(text)
}
