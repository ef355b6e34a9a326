//go:build packages

package packages

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"golang.org/x/sync/errgroup"

	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/dynamo"
	"phoenix/lab"
	"phoenix/lab/debian"
	"phoenix/lab/dynamodb"
	"phoenix/lab/imds"
	"phoenix/lab/moto"
	"phoenix/lab/stacks"
)

const (
	saltVersion = "3007.15"
	// servedWithin bounds the way from a machine that is set up to its first highstate.
	servedWithin = 5 * time.Minute
	// key is the package's in the bucket; versions between tags have a + in them.
	key = "test/phoenix_0.2+1_amd64.deb"
	// secret is what the masters open their repositories with.
	secret = "https://git:s3cret@git.example.org"
)

// TestBootstrap: the user data of both launch templates, run on a Debian each, makes a
// master and a minion, up to the minion's first highstate. The stacks are moto's, the
// tables DynamoDB Local's under the names that the stack gave, the metadata the lab's;
// Salt comes from PyPI, the states from a git repository. AutoScaling's messages are
// sent in the form that EventBridge gives them: moto sends none.
func TestBootstrap(t *testing.T) {
	deb, _ := built(t, newer, "amd64")
	cfg := moto.Start(t)
	front := newFront(t, *cfg.BaseEndpoint)
	base := stacks.CreateBase(t, cfg)
	text, err := os.ReadFile(deb)
	must(t, err)
	_, err = s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }).PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: aws.String(base.Outputs["PackagesBucket"]), Key: aws.String(key), Body: strings.NewReader(string(text))})
	must(t, err)
	arn := front.makeSecret(cfg.Region, secret)
	tables, err := dynamodb.Start()
	must(t, err)
	t.Cleanup(tables.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	store, err := dynamo.Open(t.Context(), dynamo.Config{Region: cfg.Region, Endpoint: tables.URL,
		MinionsTable: base.Outputs["MinionsTable"], MastersTable: base.Outputs["MastersTable"], ProofsTable: base.Outputs["ProofsTable"]})
	must(t, err)
	must(t, store.Create(t.Context()))
	_, err = store.Since(t.Context()) // what is launched from now on is not adopted
	must(t, err)
	made := stacks.CreateFleet(t, cfg, map[string]string{"PhoenixPackage": key, "PhoenixSHA256": sum(t, deb), "SaltVersion": saltVersion, "SaltRepository": "pypi",
		"StatesRepository": "file:///srv/states.git", "RepositoriesSecret": arn, "Masters": "1"})

	ids := map[string]string{}
	groups, err := autoscaling.NewFromConfig(cfg).DescribeAutoScalingGroups(t.Context(), &autoscaling.DescribeAutoScalingGroupsInput{})
	must(t, err)
	for _, g := range groups.AutoScalingGroups {
		ids[*g.AutoScalingGroupName] = *g.Instances[0].InstanceId
	}
	address := fmt.Sprintf("127.77.%d.1", 1+rand.IntN(250))
	cache := pipCache(t)
	machine := func(role, group, template string) (*debian.Root, func() error) {
		r := debian.Start(t, cache)
		metadata := imds.Start(t, imds.Instance{ID: ids[group], Account: "123456789012", Region: cfg.Region, PrivateIP: address, Role: role, AccessKey: accessKey})
		env := []string{"AWS_EC2_METADATA_SERVICE_ENDPOINT=" + metadata.URL, "AWS_ENDPOINT_URL=" + front.URL, "AWS_ENDPOINT_URL_S3=" + front.URL,
			"AWS_ENDPOINT_URL_SECRETS_MANAGER=" + front.URL, "AWS_ENDPOINT_URL_DYNAMODB=" + tables.URL,
			"PIP_CACHE_DIR=" + cache, "PIP_CONSTRAINT=/srv/constraints.txt"}
		likeHere(t, r)
		// What an image that a minion was baked into brings along.
		r.Put("/etc/salt/minion_id", "baked")
		r.Put("/etc/salt/pki/minion/minion.pem", "baked")
		r.Put("/var/lib/cloud/user-data", userData(t, cfg, made.Resources[template]))
		return r, func() error {
			begun := time.Now()
			out, code := r.Try("bash /var/lib/cloud/user-data", env...)
			if code != 0 {
				return fmt.Errorf("%s: exit %d\n%s", role, code, out)
			}
			t.Logf("the %s was set up in %.0f s, most of it for installing Salt from PyPI", role, time.Since(begun).Seconds())
			return nil
		}
	}

	master, setUpMaster := machine("master", stacks.Base+"-masters", "MasterTemplate")
	master.Put("/etc/salt/master.d/10-lab.conf", "interface: "+address+"\n")
	states(t, master)
	minion, setUpMinion := machine("minion", stacks.Base+"-minions", "MinionTemplate")
	var both errgroup.Group
	both.Go(setUpMaster)
	both.Go(setUpMinion)
	must(t, both.Wait())

	calls := sqs.NewFromConfig(cfg)
	queue, err := calls.GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{QueueName: aws.String(base.Outputs["Queue"])})
	must(t, err)
	begun := time.Now()
	for group, id := range ids {
		_, err := calls.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: queue.QueueUrl, MessageBody: aws.String(launched(group, id, cfg.Region))})
		must(t, err)
	}
	ran := func(group string) func() (bool, string) {
		return func() (bool, string) {
			row, err := store.Minion(t.Context(), ids[group])
			out, _ := master.Try("phoenix minions explain " + ids[group] + "; phoenix masters list; journalctl -u phoenix-bridge -n 5 --no-pager -o cat")
			return err == nil && row.HighstateRan, fmt.Sprintf("%+v %v\n%s", row, err, out)
		}
	}
	lab.Eventually(t, servedWithin, "the minion's first highstate is on record", ran(stacks.Base+"-minions"))
	t.Logf("served, and its first highstate on record, %.0f s after the message of its launch", time.Since(begun).Seconds())
	lab.Eventually(t, servedWithin, "so is that of the master's own minion", ran(stacks.Base+"-masters"))
	for name, r := range map[string]*debian.Root{"master": master, "minion": minion} {
		if out := r.Run("cat /srv/ran"); out != "ran\n" {
			t.Errorf("%s: its highstate ran as %q", name, out)
		}
		if out := r.Run("systemctl is-enabled phoenix-agent salt-minion; tail -n 1 /var/log/phoenix-bootstrap.log; test ! -e /etc/salt/minion_id"); strings.Count(out, "enabled") != 2 || !strings.Contains(out, "is set up") {
			t.Errorf("%s: %s", name, out)
		}
	}
	if out := master.Run("cat /etc/salt/git/credentials; stat -c '%a %U' /etc/salt/git/credentials; git config --system credential.helper"); out != secret+"\n600 root\nstore --file /etc/salt/git/credentials\n" {
		t.Errorf("the masters' way into their repositories: %q", out)
	}
	row, err := store.Minion(t.Context(), ids[stacks.Base+"-minions"])
	must(t, err)

	// Run again, both are what they were: the same key, and no second highstate.
	for name, r := range map[string]*debian.Root{"master": master, "minion": minion} {
		pid := r.Run("systemctl show --value -p MainPID salt-minion")
		r.Run("/usr/lib/phoenix/bootstrap", "PIP_CACHE_DIR="+cache, "PIP_CONSTRAINT=/srv/constraints.txt")
		if now := r.Run("systemctl show --value -p MainPID salt-minion"); name == "minion" && now != pid {
			t.Errorf("%s: salt-minion was restarted", name)
		}
	}
	lab.Eventually(t, servedWithin, "the master answers again, and the minion it", func() (bool, string) {
		out, code := master.Try("salt --out=txt -t 10 " + row.InstanceID + " test.ping")
		return code == 0 && strings.Contains(out, "True"), out
	})
	after, err := store.Minion(t.Context(), row.InstanceID)
	must(t, err)
	if after.KeySHA256 != row.KeySHA256 || after.ClaimVersion != row.ClaimVersion || minion.Run("cat /srv/ran") != "ran\n" {
		t.Errorf("after it was run again: %+v, was %+v", after, row)
	}

	// What the scripts called themselves is what their lists of permissions say.
	needed := map[string]bool{}
	for _, file := range []string{"iam-bootstrap-master.txt", "iam-bootstrap-minion.txt"} {
		text, err := os.ReadFile("../../cloudformation/testdata/" + file)
		must(t, err)
		for line := range strings.Lines(string(text)) {
			needed[strings.TrimSpace(line)] = true
		}
	}
	if seen := front.needs(); !slices.Equal(seen, slices.Sorted(maps.Keys(needed))) {
		t.Errorf("the scripts needed %q, the lists say %q", seen, slices.Sorted(maps.Keys(needed)))
	}
}

// userData is what a launch template gives to its machines.
func userData(t *testing.T, cfg aws.Config, template string) string {
	t.Helper()
	out, err := ec2.NewFromConfig(cfg).DescribeLaunchTemplateVersions(t.Context(), &ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: &template})
	must(t, err)
	text, err := base64.StdEncoding.DecodeString(*out.LaunchTemplateVersions[0].LaunchTemplateData.UserData)
	must(t, err)
	return string(text)
}

// launched is EventBridge's message of a launch, as bridge/autoscaling/testdata has it.
func launched(group, id, region string) string {
	text, err := json.Marshal(map[string]any{"version": "0", "id": "12345678-1234-1234-1234-123456789012",
		"detail-type": "EC2 Instance Launch Successful", "source": "aws.autoscaling", "account": "123456789012",
		"time": fleet.FormatTime(time.Now()), "region": region, "resources": []string{},
		"detail": map[string]any{"AutoScalingGroupName": group, "EC2InstanceId": id, "Origin": "EC2", "Destination": "AutoScalingGroup"}})
	if err != nil {
		panic(fmt.Sprintf("encode strings: %v", err)) // unreachable
	}
	return string(text)
}

// states puts a git repository of states where the master's parameter says.
func states(t *testing.T, r *debian.Root) {
	t.Helper()
	dir := t.TempDir()
	sh(t, `cd `+dir+` && git init -q -b main && cat >top.sls <<<"{base: {'*': [first]}}" && cat >first.sls <<<"{ran: {cmd.run: [{name: echo ran >>/srv/ran}]}}" &&
		git add . && git -c user.name=lab -c user.email=lab@localhost commit -qm states && git clone -q --bare . `+r.Dir+`/srv/states.git && chown -R 0:0 `+r.Dir+`/srv/states.git`)
}

// likeHere lets pip find in a root what it finds on this machine, and gives it the
// releases that Salt was tried with.
func likeHere(t *testing.T, r *debian.Root) {
	t.Helper()
	for _, file := range []string{"/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt"} {
		if text, err := os.ReadFile(file); err == nil {
			r.Put(file, string(text))
		}
	}
	// What the newest patch needs is what the one before it needed, which pip can
	// install by itself; see there.
	text, err := os.ReadFile("../install/salt-" + lab.Salt3007 + ".txt")
	must(t, err)
	r.Put("/srv/constraints.txt", strings.Replace(string(text), "salt=="+lab.Salt3007, "salt=="+saltVersion, 1))
}

// pipCache is a folder in which pip keeps what it fetched, for the next run.
func pipCache(t *testing.T) string {
	t.Helper()
	root, err := lab.Root()
	must(t, err)
	cache, err := filepath.EvalSymlinks(filepath.Join(root, ".cache"))
	must(t, err)
	cache = filepath.Join(cache, "pip")
	must(t, os.MkdirAll(cache, 0o755))
	return cache
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
