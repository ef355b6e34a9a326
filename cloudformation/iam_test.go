package cloudformation

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"phoenix/lab/iamsim"
	"phoenix/lab/moto"
	"phoenix/lab/stacks"
)

const account = "123456789012" // moto's

// rights are the policies of a fleet, as they were created.
type rights struct {
	region, partition string
	base, fleet       stacks.Stack
	of                map[string][]iamsim.IdentityPolicy // by role: master, minion
	key, identity     json.RawMessage                    // policies of the KMS key and of the bucket
	queue             json.RawMessage
}

// rightsOf creates a base stack and a fleet stack, which has the policies of the
// repositories' secret and of the logs.
func rightsOf(t *testing.T, cfg aws.Config, partition string) rights {
	t.Helper()
	r := rights{region: cfg.Region, partition: partition, base: stacks.CreateBase(t, cfg),
		of: map[string][]iamsim.IdentityPolicy{}}
	more := map[string]string{"RepositoriesSecret": r.secret(), "LogDays": "30"}
	if cfg.Region != moto.Region { // moto knows the zones of its own region alone
		subnets, err := ec2.NewFromConfig(cfg).DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{})
		must(t, err)
		more["Vpc"], more["Subnets"] = *subnets.Subnets[0].VpcId, *subnets.Subnets[0].SubnetId
	}
	r.fleet = stacks.CreateFleet(t, cfg, more)
	for role, output := range map[string]string{"master": "MasterRole", "minion": "MinionRole"} {
		name := r.base.Outputs[output]
		for _, policy := range matches(query(t, cfg, "ListRolePolicies", url.Values{"RoleName": {name}}),
			`<member>(.*?)</member>`) {
			text := matches(query(t, cfg, "GetRolePolicy", url.Values{"RoleName": {name}, "PolicyName": {policy}}),
				`(?s)<PolicyDocument>(.*?)</PolicyDocument>`)
			document, err := url.QueryUnescape(text[0])
			must(t, err)
			document = strings.NewReplacer("&quot;", `"`, "&#34;", `"`, "&amp;", "&").Replace(document)
			if !json.Valid([]byte(document)) {
				t.Fatalf("policy %s of %s: %s", policy, name, document)
			}
			r.of[role] = append(r.of[role], iamsim.IdentityPolicy{Name: policy, Policy: json.RawMessage(document)})
		}
	}
	var key struct{ Policy json.RawMessage } // a text in AWS's answer, an object in moto's
	call(t, cfg, "kms", "TrentService.GetKeyPolicy",
		map[string]string{"KeyId": r.base.Outputs["IdentityKey"], "PolicyName": "default"}, &key)
	bucket, err := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }).GetBucketPolicy(t.Context(),
		&s3.GetBucketPolicyInput{Bucket: aws.String(r.base.Outputs["IdentityBucket"])})
	must(t, err)
	calls := sqs.NewFromConfig(cfg)
	at, err := calls.GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{QueueName: aws.String(r.base.Outputs["Queue"])})
	must(t, err)
	queue, err := calls.GetQueueAttributes(t.Context(),
		&sqs.GetQueueAttributesInput{QueueUrl: at.QueueUrl,
			AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNamePolicy}})
	must(t, err)
	r.key, r.identity, r.queue = key.Policy, json.RawMessage(*bucket.Policy),
		json.RawMessage(queue.Attributes["Policy"])
	return r
}

func (r rights) arn(service, rest string) string {
	return fmt.Sprintf("arn:%s:%s:%s:%s:%s", r.partition, service, r.region, account, rest)
}

func (r rights) table(output string) string {
	return r.arn("dynamodb", "table/"+r.base.Outputs[output])
}

func (r rights) bucket(output string) string {
	return fmt.Sprintf("arn:%s:s3:::%s", r.partition, r.base.Outputs[output])
}

func (r rights) group(name string) string {
	return r.arn("autoscaling", "autoScalingGroup:12345678-1234-1234-1234-123456789012:autoScalingGroupName/"+name)
}

// stream is the stream of an instance in a log group of the fleet stack.
func (r rights) stream(output string) string {
	return r.arn("logs", "log-group:"+r.fleet.Outputs[output]+":log-stream:i-0123456789abcdef0/bootstrap")
}

func (r rights) secret() string { return r.arn("secretsmanager", "secret:repositories-AbCdEf") }

func (r rights) role(output string) string {
	return fmt.Sprintf("arn:%s:iam::%s:role/%s", r.partition, account, r.base.Outputs[output])
}

// The instance whose role is used, and another.
const self, other = "instance/i-0123456789abcdef0", "instance/i-0fedcba9876543210"

// domain is that of the services of a partition.
func (r rights) domain() string {
	if r.partition == "aws-cn" {
		return "amazonaws.com.cn"
	}
	return "amazonaws.com"
}

// ask is one request of a role.
type ask struct {
	who, action, on string
	with            map[string]any
}

func (r rights) simulation(a ask) iamsim.Simulation {
	context := map[string]any{}
	if !slices.Contains([]string{"admin", "events"}, a.who) {
		context["ec2:SourceInstanceARN"] = r.arn("ec2", self)
	}
	for k, v := range a.with {
		context[k] = v
	}
	s := iamsim.Simulation{Identity: r.of[a.who],
		Request: iamsim.Request{Action: a.action, Context: context,
			Resource: iamsim.Resource{ARN: a.on, Account: account}}}
	switch a.who {
	case "admin": // of the account
		s.Request.Principal = fmt.Sprintf("arn:%s:iam::%s:role/Admin", r.partition, account)
		s.Identity = []iamsim.IdentityPolicy{{Name: "all",
			Policy: json.RawMessage(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`)}}
	case "events":
		s.Request.Principal = "events.amazonaws.com"
	default:
		s.Request.Principal = r.role(map[string]string{"master": "MasterRole", "minion": "MinionRole"}[a.who])
	}
	if s.Identity == nil {
		s.Identity = []iamsim.IdentityPolicy{}
	}
	switch service, _, _ := strings.Cut(a.action, ":"); service {
	case "kms":
		if a.on == r.base.Outputs["IdentityKey"] { // else it is another key, with another policy
			s.ResourcePolicy = r.key
		}
	case "sqs":
		s.ResourcePolicy = r.queue
	case "s3":
		if strings.HasPrefix(a.on, r.bucket("IdentityBucket")) {
			s.ResourcePolicy = r.identity
		}
	}
	return s
}

// needed are the requests that the recorded permissions stand for.
func (r rights) needed(t *testing.T, who string, lines []string) (asks []ask) {
	t.Helper()
	identity := map[string]any{"aws:SecureTransport": "true"}
	for _, line := range lines {
		action, word, _ := strings.Cut(line, " ")
		a := ask{who: who, action: action}
		switch word {
		case "minions", "masters", "proofs":
			a.on = r.table(map[string]string{"minions": "MinionsTable", "masters": "MastersTable",
				"proofs": "ProofsTable"}[word])
			if action == "dynamodb:PutItem" {
				a.with = map[string]any{"dynamodb:LeadingKeys": []string{r.arn("ec2", self)}}
			}
		case "minions/index/by-status":
			a.on = r.table("MinionsTable") + "/index/by-status"
		case "messages":
			a.on = r.arn("sqs", r.base.Outputs["Queue"])
		case "groups":
			a.on, a.with = r.group(stacks.Base+"-minions"),
				map[string]any{"autoscaling:ResourceTag/phoenix": stacks.Base}
			if action == "autoscaling:SetInstanceHealth" { // a master's of itself
				a.on = r.group(stacks.Base + "-masters")
			}
		case "identity":
			a.on, a.with = r.bucket("IdentityBucket")+"/phoenix/identity", identity
			switch action {
			case "s3:ListBucket", "s3:ListBucketVersions":
				a.on = r.bucket("IdentityBucket")
			case "s3:PutObject":
				a.with = map[string]any{"aws:SecureTransport": "true",
					"s3:x-amz-server-side-encryption-aws-kms-key-id": r.base.Outputs["IdentityKey"]}
			case "kms:Decrypt", "kms:GenerateDataKey":
				a.on, a.with = r.base.Outputs["IdentityKey"],
					map[string]any{"kms:ViaService": "s3." + r.region + "." + r.domain()}
			}
		case "packages":
			a.on = r.bucket("PackagesBucket") + "/phoenix.deb"
		case "instance":
			a.on = r.arn("ec2", self)
		case "repositories":
			a.on = r.secret()
		case "masterlogs", "auditlogs", "minionlogs":
			a.on = r.stream(map[string]string{"masterlogs": "MasterLogs", "auditlogs": "AuditLogs",
				"minionlogs": "MinionLogs"}[word])
		case "*":
			a.on = "*"
			if action == "cloudwatch:PutMetricData" {
				a.with = map[string]any{"cloudwatch:namespace": "Phoenix/" + stacks.Base}
			}
		default:
			t.Fatalf("%s: no resource %q", line, word)
		}
		asks = append(asks, a)
	}
	return asks
}

// forbidden are requests that each role must not be able to make: what somebody with
// its credentials would try.
func (r rights) forbidden() (asks []ask) {
	own, others := r.arn("ec2", self), r.arn("ec2", other)
	proofs, minions, masters := r.table("ProofsTable"), r.table("MinionsTable"), r.table("MastersTable")
	prod := r.arn("dynamodb", "table/phoenix-prod-Minions-ABCDEFGHIJKL")
	identity, key := r.bucket("IdentityBucket")+"/phoenix/identity", r.base.Outputs["IdentityKey"]
	queue := r.arn("sqs", r.base.Outputs["Queue"])
	via := func(service string) map[string]any {
		return map[string]any{"kms:ViaService": service + "." + r.region + "." + r.domain()}
	}
	leading := func(keys ...string) map[string]any { return map[string]any{"dynamodb:LeadingKeys": keys} }
	for _, who := range []string{"master", "minion"} {
		asks = append(asks,
			ask{who, "dynamodb:PutItem", proofs, leading(others)},
			ask{who, "dynamodb:PutItem", proofs, leading(own, others)},
			ask{who, "dynamodb:PutItem", proofs, nil},
			ask{who, "dynamodb:UpdateItem", proofs, leading(own)},
			ask{who, "dynamodb:DeleteItem", proofs, leading(own)},
			ask{who, "dynamodb:BatchWriteItem", proofs, leading(own)},
			ask{who, "dynamodb:PutItem", minions, leading("i-0123456789abcdef0")},
			ask{who, "dynamodb:DeleteTable", minions, nil},
			ask{who, "dynamodb:UpdateItem", prod, nil},
			ask{who, "dynamodb:Scan", minions, nil},
			ask{who, "s3:PutObject", r.bucket("PackagesBucket") + "/phoenix.deb", nil},
			ask{who, "s3:DeleteObject", identity, nil},
			ask{who, "s3:DeleteObjectVersion", identity, nil},
			ask{who, "s3:GetObject", fmt.Sprintf("arn:%s:s3:::phoenix-prod-identity-abcdefghijkl/phoenix/identity",
				r.partition), nil},
			ask{who, "kms:Decrypt", key, nil},
			ask{who, "kms:Decrypt", key, via("ec2")},
			ask{who, "kms:Decrypt", r.arn("kms", "key/00000000-0000-0000-0000-000000000000"), via("s3")},
			ask{who, "sqs:SendMessage", queue, nil},
			ask{who, "sqs:PurgeQueue", queue, nil},
			ask{who, "autoscaling:CompleteLifecycleAction", r.group("phoenix-prod-masters"),
				map[string]any{"autoscaling:ResourceTag/phoenix": "phoenix-prod"}},
			ask{who, "autoscaling:SetInstanceHealth", r.group("phoenix-prod-masters"),
				map[string]any{"autoscaling:ResourceTag/phoenix": "phoenix-prod"}},
			ask{who, "autoscaling:CompleteLifecycleAction", r.group("web"),
				map[string]any{"autoscaling:ResourceTag/phoenix": stacks.Base}},
			ask{who, "autoscaling:SetInstanceHealth", r.group(stacks.Base + "-web"), nil},
			ask{who, "autoscaling:UpdateAutoScalingGroup", r.group(stacks.Base + "-masters"),
				map[string]any{"autoscaling:ResourceTag/phoenix": stacks.Base}},
			ask{who, "autoscaling:TerminateInstanceInAutoScalingGroup", r.group(stacks.Base + "-masters"),
				map[string]any{"autoscaling:ResourceTag/phoenix": stacks.Base}},
			ask{who, "cloudwatch:PutMetricData", "*", map[string]any{"cloudwatch:namespace": "Phoenix/phoenix-prod"}},
			ask{who, "ec2:TerminateInstances", r.arn("ec2", other), nil},
			ask{who, "ec2:CreateTags", r.arn("ec2", self), nil},
			ask{who, "ssm:GetParameter", r.arn("ssm", "parameter/secret"), nil},
			ask{who, "ssm:SendCommand", r.arn("ec2", other), nil},
			ask{who, "secretsmanager:GetSecretValue", r.arn("secretsmanager", "secret:other-AbCdEf"), nil},
			ask{who, "logs:PutLogEvents", r.arn("logs",
				"log-group:phoenix-prod-fleet-AuditLogs-ABCDEFGHIJKL:log-stream:i-0123456789abcdef0"), nil},
			ask{who, "logs:DeleteLogStream", r.stream("AuditLogs"), nil},
			ask{who, "logs:GetLogEvents", r.stream("MasterLogs"), nil},
		)
	}
	for _, action := range []string{"GetItem", "BatchGetItem", "UpdateItem", "DeleteItem", "Query"} {
		asks = append(asks, ask{"minion", "dynamodb:" + action, minions, nil})
	}
	return append(asks,
		ask{"master", "autoscaling:SetInstanceHealth", r.group(stacks.Base + "-minions"),
			map[string]any{"autoscaling:ResourceTag/phoenix": stacks.Base}},
		ask{"master", "autoscaling:SetInstanceHealth", r.group(stacks.Base + "-masters"), nil},
		ask{"minion", "autoscaling:SetInstanceHealth", r.group(stacks.Base + "-masters"),
			map[string]any{"autoscaling:ResourceTag/phoenix": stacks.Base}},
		ask{"minion", "dynamodb:UpdateItem", masters, nil},
		ask{"minion", "logs:PutLogEvents", r.stream("MasterLogs"), nil},
		ask{"minion", "logs:PutLogEvents", r.stream("AuditLogs"), nil},
		ask{"minion", "logs:CreateLogStream", r.stream("AuditLogs"), nil},
		ask{"master", "logs:PutLogEvents", r.stream("MinionLogs"), nil},
		ask{"minion", "dynamodb:BatchGetItem", proofs, leading(own)},
		ask{"minion", "s3:GetObject", identity, map[string]any{"aws:SecureTransport": "true"}},
		ask{"minion", "kms:Decrypt", key, via("s3")},
		ask{"minion", "sqs:ReceiveMessage", queue, nil},
		ask{"minion", "autoscaling:CompleteLifecycleAction", r.group(stacks.Base + "-minions"),
			map[string]any{"autoscaling:ResourceTag/phoenix": stacks.Base}},
		ask{"minion", "secretsmanager:GetSecretValue", r.secret(), nil},
		ask{"minion", "cloudwatch:PutMetricData", "*",
			map[string]any{"cloudwatch:namespace": "Phoenix/" + stacks.Base}},
		// Who may do everything in the account still cannot decrypt the masters' key as
		// themselves: they need the masters' role for it, or another policy of the key.
		ask{"admin", "kms:Decrypt", key, via("s3")},
		ask{"master", "s3:GetObject", identity, map[string]any{"aws:SecureTransport": "false"}},
		ask{"admin", "s3:PutObject", identity, map[string]any{"aws:SecureTransport": "true"}},
		ask{"admin", "s3:PutObject", identity,
			map[string]any{"aws:SecureTransport": "true",
				"s3:x-amz-server-side-encryption-aws-kms-key-id": r.arn("kms",
					"key/00000000-0000-0000-0000-000000000000")}},
		ask{"events", "sqs:SendMessage", queue, map[string]any{"aws:SourceArn": r.arn("events", "rule/another")}},
		ask{"events", "sqs:SendMessage", queue, nil},
	)
}

// TestPolicies: each recorded call of bridge, agent, bootstrap and doctor is allowed by
// the policies that the stacks create, with its resource and its context, and each
// forbidden one is denied; in all partitions.
func TestPolicies(t *testing.T) {
	cfg := moto.Start(t)
	for partition, region := range map[string]string{"aws": moto.Region, "aws-cn": "cn-north-1",
		"aws-us-gov": "us-gov-west-1"} {
		t.Run(partition, func(t *testing.T) {
			cfg := cfg.Copy()
			cfg.Region = region
			r := rightsOf(t, cfg, partition)
			asks := slices.Concat(
				r.needed(t, "master", recorded(t, "iam-master.txt", "iam-heal.txt", "iam-metrics.txt", "iam-doctor.txt",
					"iam-session.txt", "iam-minion.txt", "iam-bootstrap-master.txt", "iam-bootstrap-minion.txt",
					"iam-logs-master.txt")),
				r.needed(t, "minion", recorded(t, "iam-minion.txt", "iam-session.txt", "iam-bootstrap-minion.txt",
					"iam-logs-minion.txt")))
			rule := map[string]any{"aws:SourceArn": r.arn("events", "rule/"+r.base.Resources["Rule"])}
			if strings.HasPrefix(r.base.Resources["Rule"], "arn:") {
				rule = map[string]any{"aws:SourceArn": r.base.Resources["Rule"]}
			}
			asks = append(asks, ask{"events", "sqs:SendMessage", r.arn("sqs", r.base.Outputs["Queue"]), rule})
			allowed := len(asks)
			asks = append(asks, r.forbidden()...)
			var simulations []iamsim.Simulation
			for _, a := range asks {
				simulations = append(simulations, r.simulation(a))
			}
			results, err := iamsim.Run(simulations)
			must(t, err)
			for i, got := range results {
				denied := got == iamsim.ImplicitlyDenied || got == iamsim.ExplicitlyDenied
				if i < allowed && got != iamsim.Allowed || i >= allowed && !denied {
					t.Errorf("%s: %s on %s with %v: %s", asks[i].who, asks[i].action, asks[i].on, asks[i].with, got)
				}
			}
			t.Logf("%d calls allowed, %d denied", allowed, len(asks)-allowed)
		})
	}
}

// TestNothingSpare: the roles allow no action that no recorded call needs.
func TestNothingSpare(t *testing.T) {
	base, fleet := parse(t, "base.yaml"), parse(t, "fleet.yaml")
	all := []string{"iam-minion.txt", "iam-session.txt", "iam-bootstrap-minion.txt"}
	for role, c := range map[string]struct {
		statements []statement
		lists      []string
	}{
		"master": {slices.Concat(base.statements("MasterPolicy"), base.statements("SessionManagerPolicy"),
			fleet.statements("RepositoriesPolicy"), fleet.statements("MasterLogsPolicy")),
			append(all, "iam-logs-master.txt", "iam-master.txt", "iam-heal.txt", "iam-metrics.txt", "iam-doctor.txt",
				"iam-bootstrap-master.txt")},
		"minion": {slices.Concat(base.statements("MinionPolicy"), base.statements("SessionManagerPolicy"),
			fleet.statements("MinionLogsPolicy")), append(all, "iam-logs-minion.txt")},
	} {
		var needed []string
		for _, line := range recorded(t, c.lists...) {
			action, _, _ := strings.Cut(line, " ")
			needed = append(needed, action)
		}
		for _, s := range c.statements {
			for _, action := range s.Actions {
				if !slices.Contains(needed, action) {
					t.Errorf("%s: nothing needs %s", role, action)
				}
			}
		}
	}
}

// query makes one call of IAM's, in AWS's Query protocol.
func query(t *testing.T, cfg aws.Config, action string, form url.Values) string {
	t.Helper()
	form.Set("Action", action)
	form.Set("Version", "2010-05-08")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, *cfg.BaseEndpoint,
		strings.NewReader(form.Encode()))
	must(t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=test/20260101/"+cfg.Region+
		"/iam/aws4_request, SignedHeaders=host, Signature=none")
	answer, err := http.DefaultClient.Do(r)
	must(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	must(t, err)
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s\n%s", action, answer.Status, text)
	}
	return string(text)
}

func matches(text, pattern string) (all []string) {
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	return all
}
