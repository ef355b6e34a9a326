package cli

import (
	"bytes"
	"context"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"phoenix/bridge/fleet/dynamo"
	"phoenix/lab/awsproxy"
	local "phoenix/lab/dynamodb"
	"phoenix/lab/needs"
)

func credentials(context.Context) (aws.Credentials, error) {
	return aws.Credentials{AccessKeyID: "local", SecretAccessKey: "local"}, nil
}

// TestFaultsOfDynamoDB: what can be wrong with the tables, or the way to them, is
// one line that names it, with what to do about it, and its exit code.
func TestFaultsOfDynamoDB(t *testing.T) {
	needs.More(t, "DynamoDB Local, and Java for it")
	server, err := local.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local",
		"AWS_REGION":      "eu-west-1",
		"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
		"AWS_EC2_METADATA_DISABLED": "true"} {
		t.Setenv(name, value)
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	between := awsproxy.Start(t, server.URL)
	says := func(status int, code string) func() {
		return func() {
			between.Answer(func(awsproxy.Call) *awsproxy.Answer { return &awsproxy.Answer{Status: status, Code: code} })
		}
	}
	none := func() { between.Answer(nil) }
	list := []string{"minions", "list"}
	said := map[string]string{}
	waits := false // the next takes long, and says so
	try := func(name string, before func(), args []string, code int, want ...string) {
		t.Helper()
		before()
		var out, errs bytes.Buffer
		args = append(append([]string{"phoenix"}, args...), "--store", "dynamodb:")
		if !strings.Contains(strings.Join(args, " "), "--dynamodb-endpoint") {
			args = append(args, "--dynamodb-endpoint", between.URL)
		}
		got := run(t.Context(), args, &out, &errs)
		t.Logf("%s: exit %d, %s", name, got, errs.String())
		lines := strings.SplitAfter(errs.String(), "\n")
		if waits { // in this test there is no terminal
			lines = slices.DeleteFunc(lines,
				func(line string) bool { return strings.HasPrefix(line, "reading the fleet … ") })
		}
		if notes := len(lines) - 2; notes > 0 && (notes > 1 || !waits || !strings.HasPrefix(lines[0], "note: ") ||
			!strings.Contains(lines[0], "trying on")) || notes == 0 && waits {
			t.Errorf("%s: %q", name, lines)
		}
		if got != code || !strings.Contains(errs.String(), "phoenix: ") || !strings.HasSuffix(errs.String(), ")\n") {
			t.Errorf("%s: exit %d, want %d: %s", name, got, code, errs.String())
		}
		for _, w := range want {
			if !strings.Contains(errs.String(), w) {
				t.Errorf("%s: %s says nothing of %q", name, errs.String(), w)
			}
		}
		if other := said[want[0]]; other != "" {
			t.Errorf("%s is told as %s is", name, other)
		}
		said[want[0]] = name
	}

	try("no tables, or those of another region", none, list, exitStore, "table missing", "region eu-west-1",
		"dynamodb.region")
	client := dynamodb.New(dynamodb.Options{Region: "eu-west-1", BaseEndpoint: &server.URL,
		Credentials: aws.CredentialsProviderFunc(credentials)})
	if _, err := client.CreateTable(t.Context(),
		&dynamodb.CreateTableInput{TableName: aws.String("minions"), BillingMode: types.BillingModePayPerRequest,
			AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("instanceid"),
				AttributeType: types.ScalarAttributeTypeS}},
			KeySchema: []types.KeySchemaElement{{AttributeName: aws.String("instanceid"),
				KeyType: types.KeyTypeHash}}}); err != nil {
		t.Fatal(err)
	}
	try("table without the index", none, list, exitStore, "index missing", "by-status")
	try("access denied", says(400, "AccessDeniedException"), list, exitDenied, "access denied",
		"the role of this machine")
	try("expired", says(400, "ExpiredTokenException"), list, exitDenied, "credentials expired", "renew")
	try("unknown credentials", says(400, "UnrecognizedClientException"), list, exitDenied, "credentials unknown")
	try("signed for another region", says(400, "InvalidSignatureException"), list, exitDenied, "signature refused",
		"region eu-west-1")
	waits = true
	try("nobody listens", none, append(list, "--dynamodb-endpoint", "http://"+closed.Addr().String()), exitStore,
		"endpoint unreachable", "security groups")
	waits = false
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	try("no credentials", none, list, exitDenied, "no credentials", "instance profile")
	t.Setenv("AWS_REGION", "")
	try("no region", none, list, exitUsage, "find region", "AWS_REGION")

	// The index makes it whole.
	t.Setenv("AWS_REGION", "eu-west-1")
	t.Setenv("AWS_ACCESS_KEY_ID", "local")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "local")
	store, err := dynamo.Open(t.Context(), dynamo.Config{Endpoint: server.URL})
	if err == nil {
		err = store.Create(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"phoenix", "minions", "list", "--store", "dynamodb:", "--dynamodb-endpoint",
		between.URL}, &out, &errs); code != exitOK {
		t.Errorf("exit %d: %s", code, errs.String())
	}
}
