package autoscaling

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"phoenix/bridge/plural"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

const (
	privateDNS = "private-dns-name"
	// namedFor: a name that an instance bears is asked for again after so long.
	// EC2 gives out an address, and so its name, anew within minutes.
	namedFor = time.Minute
	// maxNames bounds what auth requests under many names make a master keep.
	maxNames = 10_000
)

// Names finds the instances that bear Salt minion ids, where those are not the
// instances' own (id_from). EC2 is asked, never the minion, but for regex:.
type Names struct {
	api    EC2
	filter string // of DescribeInstances: its values are minion ids
	of     func(types.Instance) string
	// expression, of id_from regex:, finds the instance's id in the minion's; EC2 is not
	// asked then.
	expression *regexp.Regexp
	log        *slog.Logger
	away       patience

	mu    sync.Mutex
	known map[string]named
	told  map[string]bool // ids that were reported as being under another domain
}

type named struct {
	instance string // empty: none bears it, or several do
	until    time.Time
}

// NewNames reads id_from: private-dns, tag:KEY, or regex:EXPRESSION. For instance-id
// there is nothing to resolve, and Names is nil. An expression needs no EC2.
func NewNames(idFrom string, api EC2, log *slog.Logger) (*Names, error) {
	n := &Names{api: api, log: log, known: map[string]named{}, told: map[string]bool{}}
	key, tag := strings.CutPrefix(idFrom, "tag:")
	expression, byExpression := strings.CutPrefix(idFrom, prefixRegex)
	switch {
	case idFrom == "instance-id" || idFrom == "":
		return nil, nil
	case idFrom == "private-dns":
		n.filter = privateDNS
		n.of = func(i types.Instance) string { return aws.ToString(i.PrivateDnsName) }
	case tag && key != "":
		n.filter = "tag:" + key
		n.of = func(i types.Instance) string {
			at := slices.IndexFunc(i.Tags, func(t types.Tag) bool { return aws.ToString(t.Key) == key })
			if at < 0 {
				return ""
			}
			return aws.ToString(i.Tags[at].Value)
		}
	case byExpression:
		var err error
		if n.expression, err = regexp.Compile("^(?:" + expression + ")$"); err != nil {
			return nil, err
		}
		if groups := n.expression.NumSubexp(); groups != 1 {
			return nil, fmt.Errorf("%q has %d groups, and needs one: the instance id (a group that is none begins with ?:)", expression, groups)
		}
	default:
		return nil, fmt.Errorf("%q is none of instance-id, private-dns, tag:KEY, regex:EXPRESSION", idFrom)
	}
	return n, nil
}

// Instances returns the living instance that bears each id. One that several bear
// at a time is nobody's, and is complained of. While EC2 does not answer it fails at
// once, and gives those that are remembered beside the error.
func (n *Names) Instances(ctx context.Context, minionIDs []string) (map[string]string, error) {
	if n.expression != nil {
		return n.read(minionIDs), nil
	}
	out, ask := n.remembered(minionIDs)
	for chunk := range slices.Chunk(ask, describeAtOnce) {
		if n.away.spent() {
			return out, errAway
		}
		instances, err := n.find(ctx, chunk)
		if n.away.note(err); err != nil {
			return out, withHint(err)
		}
		for _, id := range chunk {
			switch of := instances[id]; len(of) {
			case 0:
			case 1:
				out[id] = of[0]
			default:
				n.log.Error("minion id ignored: several instances have it", "minion", id, "instances", some(of))
			}
			n.remember(id, out[id])
		}
		n.explain(ctx, chunk, out)
	}
	return out, nil
}

// prefixRegex of id_from: the minion's id has the instance's in it.
const prefixRegex = "regex:"

// ByExpression reports whether id_from finds the instance's id in the minion's. Then
// several ids may name one instance, and which of them its minion has is its own word.
func ByExpression(idFrom string) bool { return strings.HasPrefix(idFrom, prefixRegex) }

// read finds the instances in the ids themselves.
func (n *Names) read(ids []string) map[string]string {
	out := map[string]string{}
	for _, id := range ids {
		if m := n.expression.FindStringSubmatch(id); m != nil && m[1] != "" {
			out[id] = m[1]
		}
	}
	return out
}

// ipHost is the host part of EC2's IP-based names: ip-10-0-0-5.ec2.internal.
var ipHost = regexp.MustCompile(`^ip-(\d{1,3})-(\d{1,3})-(\d{1,3})-(\d{1,3})\.`)

// explain reports ids that EC2 knows under another domain: private-dns compares whole
// names, and a minion under a custom domain has another than EC2's. EC2 is asked for the
// address that the host part names.
func (n *Names) explain(ctx context.Context, ids []string, found map[string]string) {
	if n.filter != privateDNS {
		return
	}
	byAddress := map[string]string{}
	for _, id := range ids {
		if m := ipHost.FindStringSubmatch(id); m != nil && found[id] == "" && n.untold(id) {
			byAddress[strings.Join(m[1:], ".")] = id
		}
	}
	if len(byAddress) == 0 {
		return
	}
	in := &ec2.DescribeInstancesInput{Filters: []types.Filter{
		{Name: aws.String("private-ip-address"), Values: slices.Sorted(maps.Keys(byAddress))}}}
	err := pages(ctx, n.api, in, func(i types.Instance) {
		id, name := byAddress[aws.ToString(i.PrivateIpAddress)], n.of(i)
		if id != "" && name != "" && id != name {
			n.log.Warn("minion id is not the private DNS name that EC2 knows", "minion", id, "ec2_name", name,
				"instance", aws.ToString(i.InstanceId))
		}
	})
	if err != nil {
		n.log.Debug("private DNS names of other domains are not known", "err", err)
	}
}

// untold reports whether an id is asked about for the first time.
func (n *Names) untold(id string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.told[id] {
		return false
	}
	if len(n.told) >= maxNames {
		clear(n.told)
	}
	n.told[id] = true
	return true
}

func (n *Names) remembered(ids []string) (known map[string]string, ask []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	known = map[string]string{}
	for _, id := range ids {
		switch k, found := n.known[id]; {
		case !found || time.Now().After(k.until):
			ask = append(ask, id)
		case k.instance != "":
			known[id] = k.instance
		}
	}
	return known, ask
}

func (n *Names) remember(id, instance string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.known) >= maxNames {
		clear(n.known)
	}
	n.known[id] = named{instance, time.Now().Add(namedFor)}
}

// find asks EC2 for the living instances that ids name.
func (n *Names) find(ctx context.Context, ids []string) (map[string][]string, error) {
	instances := map[string][]string{}
	in := &ec2.DescribeInstancesInput{Filters: []types.Filter{
		{Name: aws.String(n.filter), Values: escape(ids)},
		{Name: aws.String("instance-state-name"), Values: []string{"pending", "running", "stopping", "stopped"}},
	}}
	err := pages(ctx, n.api, in, func(i types.Instance) {
		if id := aws.ToString(i.InstanceId); id != "" {
			instances[n.of(i)] = append(instances[n.of(i)], id)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", plural.Of(len(ids), "minion id"), err)
	}
	return instances, nil
}

// escape keeps EC2 from taking part of an id for a wildcard of its filters: * and ?
// (id_pattern lets neither through to here).
func escape(ids []string) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`).Replace(id)
	}
	return out
}
