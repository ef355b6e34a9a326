package awsproxy

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Call is one call of an API of AWS, as it is seen on its way.
type Call struct {
	Service string // as in IAM: "dynamodb"
	Action  string // as in the API: "UpdateItem"
	On      string // table, index of a table, or object; empty: IAM knows no less than all
	Body    []byte
}

// read tells a call by its protocol: the target of JSON, the form of Query, or
// the method and path of S3.
func read(r *http.Request, body []byte) Call {
	c := Call{Body: body}
	target, action, isJSON := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	switch {
	case isJSON:
		c.Service, c.Action = "dynamodb", action
		if target == "AmazonSQS" {
			c.Service = "sqs"
		}
		c.On = table(body)
	case strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded"):
		form, _ := url.ParseQuery(string(body))
		c.Service, c.Action = scope(r), form.Get("Action")
	default:
		c.Service, c.On = scope(r), strings.TrimPrefix(r.URL.Path, "/")
		c.Action = map[string]string{http.MethodGet: "GetObject", http.MethodHead: "HeadObject",
			http.MethodPut: "PutObject"}[r.Method]
		if r.URL.Query().Has("versions") {
			c.Action = "ListObjectVersions"
		}
	}
	return c
}

// scope is the service that a request was signed for.
func scope(r *http.Request) string {
	parts := strings.Split(r.Header.Get("Authorization"), "/")
	if len(parts) < 4 {
		return "unsigned"
	}
	return parts[3]
}

// table returns the table, and the index, that a call of DynamoDB is about.
func table(body []byte) string {
	var in struct {
		TableName, IndexName string
		RequestItems         map[string]json.RawMessage
	}
	_ = json.Unmarshal(body, &in) // an action that is not DynamoDB's has no table
	if in.IndexName != "" {
		return in.TableName + "/index/" + in.IndexName
	}
	return cmp.Or(in.TableName, strings.Join(slices.Sorted(maps.Keys(in.RequestItems)), ","))
}

// Mentions reports whether the request names an instance.
func (c Call) Mentions(id string) bool { return bytes.Contains(c.Body, []byte(id)) }

// write says an answer in the protocol of the call.
func (c Call) write(w http.ResponseWriter, a Answer) {
	kind, text := "text/xml", fmt.Sprintf(`<%[1]sResponse><%[1]sResult/></%[1]sResponse>`, c.Action)
	switch {
	case c.Service == "dynamodb" || c.Service == "sqs":
		kind, text = "application/x-amz-json-1.0", fmt.Sprintf(`{"__type":%q,"message":"as the test wants it"}`, a.Code)
	case a.Code != "" && c.Service == "ec2":
		text = `<Response><Errors><Error><Code>` + a.Code +
			`</Code><Message>as the test wants it</Message></Error></Errors><RequestID>r</RequestID></Response>`
	case a.Code != "":
		text = `<ErrorResponse><Error><Type>Sender</Type><Code>` + a.Code +
			`</Code><Message>as the test wants it</Message></Error><RequestId>r</RequestId></ErrorResponse>`
	}
	if a.Body != "" {
		text = a.Body
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(a.Status)
	_, _ = w.Write([]byte(text)) // a caller that is gone needs no answer
}
