package cloudformation

import (
	"bytes"
	"encoding/json"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// call makes one call in AWS's JSON protocol. It is for services that are asked
// once: their clients would be modules for the sake of a test. moto reads from the
// signature only whose call it is.
func call(t *testing.T, cfg aws.Config, service, target string, in, out any) {
	t.Helper()
	body, err := json.Marshal(in)
	must(t, err)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, *cfg.BaseEndpoint, bytes.NewReader(body))
	must(t, err)
	request.Header.Set("Content-Type", "application/x-amz-json-1.1")
	request.Header.Set("X-Amz-Target", target)
	request.Header.Set("Authorization",
		"AWS4-HMAC-SHA256 Credential=test/20260101/"+cfg.Region+"/"+service+
			"/aws4_request, SignedHeaders=host, Signature=none")
	response, err := http.DefaultClient.Do(request)
	must(t, err)
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", target, response.Status)
	}
	must(t, json.NewDecoder(response.Body).Decode(out))
}
