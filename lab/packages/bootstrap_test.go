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

// site is a fleet on AWS, as far as it can be had here: the stacks are moto's, the tables
// DynamoDB Local's under the names that the stack gave, the metadata the lab's.
// AutoScaling's messages are sent in the form that EventBridge gives them: moto sends
// none.
type site struct {
	t       *testing.T
	cfg     aws.Config
	front   *front
	base    stacks.Stack
	fleet   stacks.Stack
	tables  *dynamodb.Server
	store   *dynamo.Store
	ids     map[string]string // of instances, by group
	address string            // of the master
}

// newSite makes both stacks, with parameters of the fleet's, for a package of ours, and
// with a secret for the repositories unless it is empty.
func newSite(t *testing.T, file, key, secret string, parameters map[string]string) *site {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	cfg := moto.Start(t)
	s := &site{t: t, cfg: cfg, front: newFront(t, *cfg.BaseEndpoint), base: stacks.CreateBase(t, cfg),
		ids: map[string]string{}, address: fmt.Sprintf("127.77.%d.1", 1+rand.IntN(250))}
	text, err := os.ReadFile(file)
	must(t, err)
	_, err = s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }).PutObject(t.Context(),
		&s3.PutObjectInput{
			Bucket: aws.String(s.base.Outputs["PackagesBucket"]), Key: aws.String(key),
			Body: strings.NewReader(string(text))})
	must(t, err)
	s.tables, err = dynamodb.Start()
	must(t, err)
	t.Cleanup(s.tables.Close)
	s.store, err = dynamo.Open(t.Context(), dynamo.Config{Region: cfg.Region, Endpoint: s.tables.URL,
		MinionsTable: s.base.Outputs["MinionsTable"], MastersTable: s.base.Outputs["MastersTable"],
		ProofsTable: s.base.Outputs["ProofsTable"]})
	must(t, err)
	must(t, s.store.Create(t.Context()))
	_, err = s.store.Since(t.Context()) // what is launched from now on is not adopted
	must(t, err)
	all := map[string]string{"PhoenixPackage": key, "PhoenixSHA256": sum(t, file), "Masters": "1"}
	maps.Copy(all, parameters)
	if secret != "" {
		all["RepositoriesSecret"] = s.front.makeSecret(cfg.Region, secret)
	}
	s.fleet = stacks.CreateFleet(t, cfg, all)
	groups, err := autoscaling.NewFromConfig(cfg).DescribeAutoScalingGroups(t.Context(),
		&autoscaling.DescribeAutoScalingGroupsInput{})
	must(t, err)
	for _, g := range groups.AutoScalingGroups {
		s.ids[*g.AutoScalingGroupName] = *g.Instances[0].InstanceId
	}
	return s
}

const mastersGroup, minionsGroup = stacks.Base + "-masters", stacks.Base + "-minions"

// prepare gives a root the files of an image that a minion was baked into, and the
// variables by which it finds the site. It returns what runs its user data.
func (s *site) prepare(r *debian.Root, role, group, template string, env ...string) (setUp func() error) {
	s.t.Helper()
	metadata := imds.Start(s.t, imds.Instance{ID: s.ids[group], Account: "123456789012", Region: s.cfg.Region,
		PrivateIP: s.address, Role: role, AccessKey: accessKey})
	env = append(env, "AWS_EC2_METADATA_SERVICE_ENDPOINT="+metadata.URL, "AWS_ENDPOINT_URL="+s.front.URL,
		"AWS_ENDPOINT_URL_S3="+s.front.URL,
		"AWS_ENDPOINT_URL_SECRETS_MANAGER="+s.front.URL, "AWS_ENDPOINT_URL_DYNAMODB="+s.tables.URL)
	likeHere(s.t, r)
	r.Put("/etc/salt/minion_id", "baked")
	r.Put("/etc/salt/pki/minion/minion.pem", "baked")
	r.Put("/var/lib/cloud/user-data", userData(s.t, s.cfg, s.fleet.Resources[template]))
	if role == "master" {
		r.Put("/etc/salt/master.d/10-lab.conf", "interface: "+s.address+"\n")
	}
	return func() error {
		begun := time.Now()
		out, code := r.Try("bash /var/lib/cloud/user-data", env...)
		if code != 0 {
			return fmt.Errorf("%s: exit %d\n%s", role, code, out)
		}
		s.t.Logf("the %s was set up in %.0f s", role, time.Since(begun).Seconds())
		return nil
	}
}

// serve sends the messages of both launches, and waits until both first highstates are
// on record.
func (s *site) serve(master *debian.Root) {
	s.t.Helper()
	calls := sqs.NewFromConfig(s.cfg)
	queue, err := calls.GetQueueUrl(s.t.Context(),
		&sqs.GetQueueUrlInput{QueueName: aws.String(s.base.Outputs["Queue"])})
	must(s.t, err)
	begun := time.Now()
	for group, id := range s.ids {
		_, err := calls.SendMessage(s.t.Context(),
			&sqs.SendMessageInput{QueueUrl: queue.QueueUrl, MessageBody: aws.String(launched(group, id, s.cfg.Region))})
		must(s.t, err)
	}
	ran := func(group string) func() (bool, string) {
		return func() (bool, string) {
			row, err := s.store.Minion(s.t.Context(), s.ids[group])
			out, _ := master.Try("phoenix minions explain " + s.ids[group] +
				"; phoenix masters list; journalctl -u phoenix-bridge -n 5 --no-pager -o cat")
			return err == nil && row.HighstateRan, fmt.Sprintf("%+v %v\n%s", row, err, out)
		}
	}
	lab.Eventually(s.t, servedWithin, "the minion's first highstate is on record", ran(minionsGroup))
	s.t.Logf("served, and its first highstate on record, %.0f s after the message of its launch",
		time.Since(begun).Seconds())
	lab.Eventually(s.t, servedWithin, "so is that of the master's own minion", ran(mastersGroup))
	// The masters' role may read and write this object alone.
	objects, err := s3.NewFromConfig(s.cfg, func(o *s3.Options) { o.UsePathStyle = true }).ListObjectsV2(s.t.Context(),
		&s3.ListObjectsV2Input{Bucket: aws.String(s.base.Outputs["IdentityBucket"])})
	must(s.t, err)
	if len(objects.Contents) != 1 || *objects.Contents[0].Key != "phoenix/identity" {
		s.t.Errorf("objects of the identity bucket: %+v", objects.Contents)
	}
}

// TestBootstrap: the user data of both launch templates, run on a Debian each, makes a
// master and a minion, up to the minion's first highstate. Salt comes from PyPI, the
// states from a git repository.
func TestBootstrap(t *testing.T) {
	deb, _ := built(t, newer, "amd64")
	s := newSite(t, deb, key, secret, map[string]string{"SaltVersion": saltVersion, "SaltRepository": "pypi",
		"StatesRepository": "file:///srv/states.git"})
	cache := pipCache(t)
	pip := []string{"PIP_CACHE_DIR=" + cache, "PIP_CONSTRAINT=/srv/constraints.txt"}
	master, minion := debian.Start(t, cache), debian.Start(t, cache)
	states(t, master)
	setUpMaster := s.prepare(master, "master", mastersGroup, "MasterTemplate", pip...)
	setUpMinion := s.prepare(minion, "minion", minionsGroup, "MinionTemplate", pip...)
	var both errgroup.Group
	both.Go(setUpMaster)
	both.Go(setUpMinion)
	must(t, both.Wait())
	s.serve(master)
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
	row, err := s.store.Minion(t.Context(), s.ids[minionsGroup])
	must(t, err)

	// Run again, both are what they were: the same key, and no second highstate.
	for name, r := range map[string]*debian.Root{"master": master, "minion": minion} {
		pid := r.Run("systemctl show --value -p MainPID salt-minion")
		r.Run("/usr/lib/phoenix/bootstrap", pip...)
		if now := r.Run("systemctl show --value -p MainPID salt-minion"); name == "minion" && now != pid {
			t.Errorf("%s: salt-minion was restarted", name)
		}
	}
	lab.Eventually(t, servedWithin, "the master answers again, and the minion it", func() (bool, string) {
		out, code := master.Try("salt --out=txt -t 10 " + row.InstanceID + " test.ping")
		return code == 0 && strings.Contains(out, "True"), out
	})
	after, err := s.store.Minion(t.Context(), row.InstanceID)
	must(t, err)
	if after.KeySHA256 != row.KeySHA256 || after.ClaimVersion != row.ClaimVersion ||
		minion.Run("cat /srv/ran") != "ran\n" {
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
	if seen := s.front.needs(); !slices.Equal(seen, slices.Sorted(maps.Keys(needed))) {
		t.Errorf("the scripts needed %q, the lists say %q", seen, slices.Sorted(maps.Keys(needed)))
	}
}

// TestRepository: with Salt's packages from a repository, as the templates have it by
// default, deb and rpm: the master runs as user salt, below our units, and serves a
// minion, whose grains were there before its first start.
func TestRepository(t *testing.T) {
	url, keySHA256 := saltRepository(t)
	deb, rpm := built(t, newer, "amd64")
	for _, c := range []struct {
		name, file string
		start      func(testing.TB, ...string) *debian.Root
	}{{"deb", deb, debian.Start}, {"rpm", rpm, debian.StartRPM}} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, c.file, "phoenix."+c.name, "",
				map[string]string{"SaltVersion": repositoryVersion, "SaltRepository": url, "SaltKeySHA256": keySHA256,
					"MinionGrains": "{role: web}"})
			master, minion := c.start(t), c.start(t)
			// The states of the image: gitfs needs git, which the repository on loopback lacks.
			master.Put("/srv/salt/top.sls",
				"base: {'role:web': [{match: grain}, first], 'not G@role:web': [{match: compound}, other]}\n")
			master.Put("/srv/salt/first.sls", "ran: {cmd.run: [{name: echo web >>/srv/ran}]}\n")
			master.Put("/srv/salt/other.sls", "ran: {cmd.run: [{name: echo other >>/srv/ran}]}\n")
			setUpMaster := s.prepare(master, "master", mastersGroup, "MasterTemplate")
			setUpMinion := s.prepare(minion, "minion", minionsGroup, "MinionTemplate")
			var both errgroup.Group
			both.Go(setUpMaster)
			both.Go(setUpMinion)
			must(t, both.Wait())
			s.serve(master)
			if ran := [2]string{master.Run("cat /srv/ran"), minion.Run("cat /srv/ran")}; ran != [2]string{"other\n",
				"web\n"} {
				t.Errorf("the highstates ran as %q", ran)
			}
			if out := master.Run("ps -C python3 -o user=,args= | grep -i 'salt-master' | grep -v ^root | head -1; stat -c '%U %a' /etc/salt/pki/master/minions/*"); !strings.HasPrefix(out, "salt ") || !strings.Contains(out, "\nsalt 6") {
				t.Errorf("the master and its keys: %s", out)
			}
			for name, r := range map[string]*debian.Root{"master": master, "minion": minion} {
				if out := r.Run("systemctl is-active phoenix-agent salt-minion"); out != "active\nactive\n" {
					t.Errorf("%s: %s", name, out)
				}
			}
			if out := master.Run("systemctl is-active phoenix-bridge salt-master; systemctl show --value -p NRestarts salt-master"); out != "active\nactive\n0\n" {
				t.Errorf("master: %s", out)
			}
			// Run again with the repository gone, as a baked image starts.
			minion.Run("sed -i 's#^declare -x SALT_REPOSITORY=.*#declare -x SALT_REPOSITORY=\"http://127.0.0.1:1\"#' /etc/phoenix/bootstrap.env && /usr/lib/phoenix/bootstrap")
			if out := minion.Run("tail -n 3 /var/log/phoenix-bootstrap.log"); !strings.Contains(out,
				"the image has Salt") {
				t.Errorf("a second run: %s", out)
			}
		})
	}
}

// userData is what a launch template gives to its machines.
func userData(t *testing.T, cfg aws.Config, template string) string {
	t.Helper()
	out, err := ec2.NewFromConfig(cfg).DescribeLaunchTemplateVersions(t.Context(),
		&ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: &template})
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
		"detail": map[string]any{"AutoScalingGroupName": group, "EC2InstanceId": id, "Origin": "EC2",
			"Destination": "AutoScalingGroup"}})
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
		git add . && git -c user.name=lab -c user.email=lab@localhost commit -qm states && git clone -q --bare . `+
		r.Dir+`/srv/states.git && chown -R 0:0 `+r.Dir+`/srv/states.git`)
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
