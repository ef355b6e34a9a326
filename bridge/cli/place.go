package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"phoenix/bridge/config"
	"phoenix/bridge/decide"
	"phoenix/bridge/health"
)

// place is where this process runs, as the instance says itself (IMDSv2).
type place struct {
	InstanceID string
	Account    string
	Region     string
	Address    string // private, the instance's first
	Zone       string // availability zone
	partition  string // aws, aws-cn, aws-us-gov
}

// imdsWithin bounds what is asked of the instance. It answers within
// milliseconds; off AWS nobody does.
const imdsWithin = 3 * time.Second

// maxPartition: the longest name is some 10 bytes.
const maxPartition = 64

// whereAmI asks the instance's metadata service.
func whereAmI(ctx context.Context) (place, error) {
	ctx, cancel := context.WithTimeout(ctx, imdsWithin)
	defer cancel()
	// Version 1 of the service answers whoever can make this host send a GET.
	client := imds.New(imds.Options{EnableFallback: aws.FalseTernary})
	doc, err := client.GetInstanceIdentityDocument(ctx, nil)
	if err != nil {
		return place{}, fmt.Errorf("ask instance metadata: %w", brief(ctx, err))
	}
	here := place{InstanceID: doc.InstanceID, Account: doc.AccountID, Region: doc.Region, Address: doc.PrivateIP, Zone: doc.AvailabilityZone}
	out, err := client.GetMetadata(ctx, &imds.GetMetadataInput{Path: "services/partition"})
	if err != nil {
		return place{}, fmt.Errorf("ask instance metadata: %w", brief(ctx, err))
	}
	defer out.Content.Close()
	text, err := io.ReadAll(io.LimitReader(out.Content, maxPartition))
	if err != nil {
		return place{}, fmt.Errorf("ask instance metadata: %w", brief(ctx, err))
	}
	here.partition = strings.TrimSpace(string(text))
	return here, nil
}

// instanceMetadata reads one path of the instance's metadata.
func instanceMetadata() health.Metadata {
	client := imds.New(imds.Options{EnableFallback: aws.FalseTernary})
	return func(ctx context.Context, path string) (string, bool, error) {
		out, err := client.GetMetadata(ctx, &imds.GetMetadataInput{Path: path})
		var response *smithyhttp.ResponseError
		if errors.As(err, &response) && response.HTTPStatusCode() == http.StatusNotFound {
			return "", false, nil
		}
		if err != nil {
			return "", false, fmt.Errorf("ask instance metadata: %w", brief(ctx, err))
		}
		defer out.Content.Close()
		text, err := io.ReadAll(io.LimitReader(out.Content, maxMetadata))
		return string(text), true, err
	}
}

// maxMetadata: the longest that is asked for is a spot interruption, of 70 bytes.
const maxMetadata = 4 << 10

// ARN is the name under which an instance of this account and region writes its
// proof: what IAM calls ec2:SourceInstanceARN.
func (p place) ARN(instanceID string) string {
	return "arn:" + p.partition + ":ec2:" + p.Region + ":" + p.Account + ":instance/" + instanceID
}

// brief says in a few words why the instance did not answer. The SDK's error
// repeats each of its layers, and has types for none of them.
func brief(ctx context.Context, err error) error {
	text := err.Error()
	if ctx.Err() != nil {
		return fmt.Errorf("no answer within %v: this is no instance of EC2, or, in a container, its metadata's hop limit is 1", imdsWithin)
	}
	if strings.Contains(text, "access disabled to EC2 IMDS") {
		return errors.New("it is turned off (AWS_EC2_METADATA_DISABLED)")
	}
	if _, after, found := strings.Cut(text, "request send failed, "); found {
		return errors.New(after)
	}
	if _, after, found := strings.Cut(text, "http response error StatusCode: "); found {
		status, _, _ := strings.Cut(after, ",")
		return errors.New("it answers with status " + status)
	}
	return err
}

// locate fills in who and where this master is, and says where it asked: what
// the operator says goes first, then what the instance says.
func locate(ctx context.Context, cfg *config.Config, iface string) (place, error) {
	proven := cfg.Admit == string(decide.Proven)
	bound := ""
	if ip := net.ParseIP(iface); ip != nil && !ip.IsUnspecified() {
		bound = iface
	}
	cfg.Address = cmp.Or(cfg.Address, bound)
	var here place
	if cfg.OnAWS() && (cfg.InstanceID == "" || cfg.Address == "" || proven) {
		var err error
		here, err = whereAmI(ctx)
		switch {
		case err == nil:
		case proven:
			return here, usageError(fmt.Errorf("find account for admit proven: %w (off AWS, nobody can prove a key: admit bound)", err))
		case cfg.InstanceID == "":
			return here, usageError(fmt.Errorf("find instance_id: %w (off AWS, set instance_id)", err))
		}
	}
	cfg.InstanceID = cmp.Or(cfg.InstanceID, here.InstanceID)
	if cfg.InstanceID == "" {
		name, err := os.Hostname()
		if err != nil || name == "" {
			return here, usageError(errors.New("instance_id: is empty, and the host has no name"))
		}
		cfg.InstanceID = name
	}
	cfg.Address = cmp.Or(cfg.Address, here.Address, ownAddress())
	return here, nil
}

// ownAddress is the first address of this host that others can reach.
func ownAddress() string {
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	return "127.0.0.1"
}
