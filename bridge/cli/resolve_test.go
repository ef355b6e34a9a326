package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"phoenix/bridge/admin"
	"phoenix/bridge/fleet"
	"phoenix/lab"
	"phoenix/lab/moto"
)

// TestCommandsTakeNames: where minion ids are not instance ids, commands take
// them all the same, and the rows lie under the instances that bear them.
func TestCommandsTakeNames(t *testing.T) {
	cfg := moto.Start(t)
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
		"AWS_REGION": moto.Region, "AWS_ENDPOINT_URL_EC2": *cfg.BaseEndpoint} {
		t.Setenv(name, value)
	}
	client := ec2.NewFromConfig(cfg)
	started, err := client.RunInstances(t.Context(),
		&ec2.RunInstancesInput{MinCount: aws.Int32(1), MaxCount: aws.Int32(1), ImageId: aws.String("ami-12c6146b"),
			TagSpecifications: []types.TagSpecification{{ResourceType: types.ResourceTypeInstance,
				Tags: []types.Tag{{Key: aws.String("Name"), Value: aws.String("web-1")}}}}})
	if err != nil {
		t.Fatal(err)
	}
	instance := *started.Instances[0].InstanceId

	dir := t.TempDir()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	pki := filepath.Join(dir, "pki")
	master := filepath.Join(dir, "master")
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(master, fmt.Sprintf("user: %s\npki_dir: %s\ncachedir: %s\n", u.Username, pki, dir))
	write(filepath.Join(pki, "minions_pre", "web-1"), lab.UnknownKey())
	write(filepath.Join(pki, "minions", "db-1"), lab.UnknownKey()) // a machine that EC2 never knew
	phoenix := func(into any, args ...string) {
		t.Helper()
		var out, errs bytes.Buffer
		args = append(append([]string{"phoenix"}, args...), "--json", "--store",
			"sqlite:"+filepath.Join(dir, "fleet.db"), "--salt-config", master,
			"--id-from", "tag:Name", "--socket", filepath.Join(dir, "none"))
		if code := run(t.Context(), args, &out, &errs); code != exitOK {
			t.Fatalf("%v: %d %s", args, code, errs.String())
		}
		if err := json.Unmarshal(out.Bytes(), into); err != nil {
			t.Fatalf("%v: %v in %s", args, err, out.String())
		}
	}

	var rows []fleet.Minion
	phoenix(&rows, "minions", "add", "web-1")
	if len(rows) != 1 || rows[0].InstanceID != instance || rows[0].MinionID != "web-1" {
		t.Errorf("added %+v", rows)
	}
	phoenix(&rows, "minions", "add", instance) // the same machine, by its other name
	if len(rows) != 1 || rows[0].InstanceID != instance || rows[0].MinionID != "web-1" {
		t.Errorf("added %+v", rows)
	}
	var x admin.Explanation
	phoenix(&x, "minions", "explain", "web-1")
	if x.Rule != "first-knock" || x.Row == nil || x.Row.InstanceID != instance {
		t.Errorf("explained %+v", x)
	}
	var adoptions []admin.Adoption
	phoenix(&adoptions, "adopt")
	phoenix(&rows, "minions", "list")
	if len(adoptions) != 1 || adoptions[0].Outcome != "adopted" || len(rows) != 2 ||
		!strings.Contains(rows[0].InstanceID+rows[1].InstanceID, "db-1") {
		t.Errorf("adopted %+v; listed %+v", adoptions, rows)
	}
	var keys []admin.Key
	phoenix(&keys, "keys", "list")
	for _, k := range keys {
		if k.Phase == "foreign" || k.Phase == "unlisted" {
			t.Errorf("listed %+v", k)
		}
	}
	if _, err := client.TerminateInstances(t.Context(),
		&ec2.TerminateInstancesInput{InstanceIds: []string{instance}}); err != nil {
		t.Fatal(err)
	}
	phoenix(&rows, "minions", "retire", "web-1") // which EC2 knows no more: the row says whose it was
	if len(rows) != 1 || rows[0].InstanceID != instance || rows[0].Status != fleet.Terminate {
		t.Errorf("retired %+v", rows)
	}
}
