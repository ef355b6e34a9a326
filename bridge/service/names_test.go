package service

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"phoenix/bridge/autoscaling"
	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/sqlite"
	"phoenix/bridge/salt"
	"phoenix/lab"
	"phoenix/lab/moto"
)

// park is instances that moto has, whose names a bridge asks for.
type park struct {
	t   *testing.T
	ec2 *ec2.Client
}

// start runs an instance, with a tag Name unless that is empty, and gives its id
// and the private DNS name that EC2 gave it.
func (p park) start(name string) (id, dns string) {
	p.t.Helper()
	in := &ec2.RunInstancesInput{MinCount: aws.Int32(1), MaxCount: aws.Int32(1), ImageId: aws.String("ami-12c6146b")}
	if name != "" {
		in.TagSpecifications = []types.TagSpecification{{ResourceType: types.ResourceTypeInstance,
			Tags: []types.Tag{{Key: aws.String("Owner"), Value: aws.String("x")},
				{Key: aws.String("Name"), Value: &name}}}}
	}
	out, err := p.ec2.RunInstances(p.t.Context(), in)
	if err != nil {
		p.t.Fatal(err)
	}
	return *out.Instances[0].InstanceId, *out.Instances[0].PrivateDnsName
}

func (p park) end(id string) {
	p.t.Helper()
	if _, err := p.ec2.TerminateInstances(p.t.Context(),
		&ec2.TerminateInstancesInput{InstanceIds: []string{id}}); err != nil {
		p.t.Fatal(err)
	}
}

// names asks anew: what was asked a moment ago is remembered for a minute.
func (p park) names(idFrom string) *autoscaling.Names {
	p.t.Helper()
	n, err := autoscaling.NewNames(idFrom, p.ec2, slog.New(slog.DiscardHandler))
	if err != nil {
		p.t.Fatal(err)
	}
	return n
}

func (p park) emptyStore() *sqlite.Store {
	p.t.Helper()
	store, err := sqlite.Open(p.t.Context(), filepath.Join(p.t.TempDir(), "fleet.db"))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = store.Close() })
	return store
}

func (p park) rig(idFrom string) *rig {
	p.t.Helper()
	return newRig(p.t, p.emptyStore(), func(c *Config) { c.Names, c.PollEvery = p.names(idFrom), time.Minute })
}

func (r *rig) accepted(id string) bool { return r.salt.keys[salt.Accepted][id] != nil }

// TestIDFrom: minion ids are what EC2 says that instances bear, never what a
// minion says of itself; and a name that comes again is another's.
func TestIDFrom(t *testing.T) {
	p := park{t, ec2.NewFromConfig(moto.Start(t))}
	key := func() []byte { return []byte(lab.UnknownKey()) }

	t.Run("tag", func(t *testing.T) {
		p := park{t, p.ec2}
		r := p.rig("tag:Name")
		first, _ := p.start("web-1")
		twin, _ := p.start("twin")
		_, _ = p.start("twin")
		bare, _ := p.start("")
		old := key()
		for _, id := range []string{first, twin, bare} {
			r.apply(fleet.Add{InstanceID: id, Group: "web"})
		}
		r.knocks("web-1", old)
		if row := r.row(first); !r.accepted("web-1") || row.MinionID != "web-1" || row.KeySHA256 == "" {
			t.Errorf("web-1 is not let in: %+v", row)
		}
		for _, id := range []string{"twin", "web-9", first, bare, "*", "web-?"} {
			r.knocks(id, key())
			if r.accepted(id) {
				t.Errorf("%s is let in", id)
			}
		}
		r.inbox.Enqueue("web-1", true) // it has connected
		r.step()
		r.returns("web-1")
		if row := r.row(first); !row.HighstateRan {
			t.Errorf("%+v", row)
		}

		// It ends, and another bears its name: the old key goes, the new one comes in.
		p.end(first)
		r.apply(fleet.Retire{InstanceID: first})
		r.pass(2 * time.Minute)
		r.step()
		if r.accepted("web-1") {
			t.Error("the key of a terminated instance stays")
		}
		second, _ := p.start("web-1")
		r.engine.names.ask = p.names("tag:Name")
		r.apply(fleet.Add{InstanceID: second, Group: "web"})
		r.pass(2 * time.Minute)
		r.knocks("web-1", key())
		if row := r.row(second); !r.accepted("web-1") || row.MinionID != "web-1" {
			t.Errorf("the second web-1 is not let in: %+v", row)
		}
		if r.row(first).Status != fleet.Terminate {
			t.Error("the first web-1 is revived")
		}
	})

	t.Run("private-dns", func(t *testing.T) {
		p := park{t, p.ec2}
		r := p.rig("private-dns")
		id, dns := p.start("")
		r.apply(fleet.Add{InstanceID: id})
		r.knocks(dns, key())
		if row := r.row(id); !r.accepted(dns) || row.MinionID != dns {
			t.Errorf("%s is not let in: %+v", dns, row)
		}
	})

	// A master that comes when the instance is gone knows the name by the row.
	t.Run("name of a terminated instance, after a restart", func(t *testing.T) {
		p := park{t, p.ec2}
		before := p.rig("tag:Name")
		id, _ := p.start("db-1")
		before.apply(fleet.Add{InstanceID: id})
		old := key()
		before.knocks("db-1", old)
		before.apply(fleet.Retire{InstanceID: id})
		p.end(id)
		after := newRig(t, before.store, func(c *Config) { c.Names, c.PollEvery = p.names("tag:Name"), time.Minute })
		after.salt.keys[salt.Accepted]["db-1"] = old
		after.pass(2 * time.Minute)
		after.step()
		after.pass(2 * time.Minute)
		after.step()
		if after.accepted("db-1") {
			t.Error("its key stays")
		}
	})
}
