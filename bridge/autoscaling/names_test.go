package autoscaling

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"phoenix/lab/moto"
)

// An expression has one group, and matches whole ids.
func TestExpression(t *testing.T) {
	for idFrom, want := range map[string]string{
		"regex:(":                "missing closing",
		"regex:web-.*":           "has 0 groups",
		"regex:(web|db)-(i-.*)":  "has 2 groups",
		"regex:(?:web|db)-(i-.)": "",
	} {
		if _, err := NewNames(idFrom, nil, nil); want == "" && err != nil ||
			want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, not %q", idFrom, err, want)
		}
	}
	n, err := NewNames(`regex:web-(i-[0-9a-f]{8,17})|old-(?:x)`, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := n.Instances(t.Context(), []string{"web-i-01234567", "aweb-i-01234567", "web-i-01234567.x", "old-x",
		"i-01234567"})
	if err != nil || len(got) != 1 || got["web-i-01234567"] != "i-01234567" {
		t.Errorf("%v, %v", got, err)
	}
}

// A minion under a custom domain has not the name that EC2 knows: both are reported, once.
func TestPrivateDNSUnderACustomDomain(t *testing.T) {
	client := ec2.NewFromConfig(moto.Start(t))
	out, err := client.RunInstances(t.Context(), &ec2.RunInstancesInput{MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
		ImageId: aws.String("ami-12c6146b")})
	if err != nil {
		t.Fatal(err)
	}
	name, instance := *out.Instances[0].PrivateDnsName, *out.Instances[0].InstanceId
	host, _, _ := strings.Cut(name, ".")
	var log bytes.Buffer
	n, err := NewNames("private-dns", client, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		clear(n.known) // as after a minute
		got, err := n.Instances(t.Context(), []string{name, host + ".corp.example.org", "web-1.example.org", "web-2"})
		if err != nil || len(got) != 1 || got[name] != instance {
			t.Errorf("%v, %v", got, err)
		}
	}
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, host+".corp.example.org") ||
		!strings.Contains(text, name) || !strings.Contains(text, instance) {
		t.Errorf("log:\n%s", text)
	}
}
