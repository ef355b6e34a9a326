package awsenv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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
	"phoenix/bridge/files"
	"phoenix/bridge/health"
)

// Identity is the identity of the instance that this process runs on, as its
// metadata service (IMDSv2) gives it.
type Identity struct {
	InstanceID string
	Account    string
	Region     string
	Address    string // private, the instance's first
	Zone       string // availability zone
	Partition  string // aws, aws-cn, aws-us-gov
}

// metadataTimeout bounds the calls of the metadata service. It answers within
// milliseconds; off AWS nothing answers.
const metadataTimeout = 3 * time.Second

// maxPartition bounds the name of the partition, which is some 10 bytes long.
const maxPartition = 64

// InstanceIdentity asks the metadata service for the identity of this instance.
func InstanceIdentity(ctx context.Context) (Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	// No fallback to version 1, which answers every GET that this host can be made to send.
	client := imds.New(imds.Options{EnableFallback: aws.FalseTernary})
	doc, err := client.GetInstanceIdentityDocument(ctx, nil)
	if err != nil {
		return Identity{}, fmt.Errorf("ask instance metadata: %w", shortError(ctx, err))
	}
	here := Identity{InstanceID: doc.InstanceID, Account: doc.AccountID, Region: doc.Region, Address: doc.PrivateIP,
		Zone: doc.AvailabilityZone}
	out, err := client.GetMetadata(ctx, &imds.GetMetadataInput{Path: "services/partition"})
	if err != nil {
		return Identity{}, fmt.Errorf("ask instance metadata: %w", shortError(ctx, err))
	}
	defer out.Content.Close()
	text, err := files.ReadAll(out.Content, maxPartition)
	if err != nil {
		return Identity{}, fmt.Errorf("ask instance metadata: %w", shortError(ctx, err))
	}
	here.Partition = strings.TrimSpace(string(text))
	return here, nil
}

// Metadata returns a function that reads one path of the instance's metadata.
func Metadata() health.Metadata {
	client := imds.New(imds.Options{EnableFallback: aws.FalseTernary})
	return func(ctx context.Context, path string) (string, bool, error) {
		out, err := client.GetMetadata(ctx, &imds.GetMetadataInput{Path: path})
		var response *smithyhttp.ResponseError
		if errors.As(err, &response) && response.HTTPStatusCode() == http.StatusNotFound {
			return "", false, nil
		}
		if err != nil {
			return "", false, fmt.Errorf("ask instance metadata: %w", shortError(ctx, err))
		}
		defer out.Content.Close()
		text, err := files.ReadAll(out.Content, maxMetadata)
		return string(text), true, err
	}
}

// maxMetadata bounds one value: the longest that is read is a spot interruption
// notice, of 70 bytes.
const maxMetadata = 4 << 10

// ARN returns the ARN of an instance of this account and region, under which it
// writes its proof: IAM's ec2:SourceInstanceARN.
func (i Identity) ARN(instanceID string) string {
	return "arn:" + i.Partition + ":ec2:" + i.Region + ":" + i.Account + ":instance/" + instanceID
}

// shortError returns in a few words why the metadata service did not answer. The
// SDK's error repeats each of its layers, and has types for none of them: the
// provider of tokens (feature/ec2/imds, token_provider.go) drops them.
func shortError(ctx context.Context, err error) error {
	text := err.Error()
	if ctx.Err() != nil {
		return fmt.Errorf("no answer within %v: this is no instance of EC2, or, in a container, its metadata's hop limit is 1", metadataTimeout)
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

// IdentifyMaster sets instance_id and address of a master where the operator did
// not: to those of the instance, and off AWS to those of the host. It returns the
// identity of the instance if it asked for it.
func IdentifyMaster(ctx context.Context, cfg *config.Config, iface string) (Identity, error) {
	proven := cfg.Admit == string(decide.Proven)
	bound := ""
	if ip := net.ParseIP(iface); ip != nil && !ip.IsUnspecified() {
		bound = iface
	}
	cfg.Address = cmp.Or(cfg.Address, bound)
	var here Identity
	if cfg.OnAWS() && (cfg.InstanceID == "" || cfg.Address == "" || proven) {
		var err error
		here, err = InstanceIdentity(ctx)
		switch {
		case err == nil:
		case proven:
			return here, config.Invalid(fmt.Errorf("find account for admit proven: %w (off AWS, nobody can prove a key: admit bound)", err))
		case cfg.InstanceID == "":
			return here, config.Invalid(fmt.Errorf("find instance_id: %w (off AWS, set instance_id)", err))
		}
	}
	cfg.InstanceID = cmp.Or(cfg.InstanceID, here.InstanceID)
	if cfg.InstanceID == "" {
		name, err := os.Hostname()
		if err != nil || name == "" {
			return here, config.Invalid(errors.New("instance_id: is empty, and the host has no name"))
		}
		cfg.InstanceID = name
	}
	cfg.Address = cmp.Or(cfg.Address, here.Address, ownAddress())
	return here, nil
}

// ownAddress returns the first address of this host that others can reach.
func ownAddress() string {
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	return "127.0.0.1"
}
