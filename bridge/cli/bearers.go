package cli

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/urfave/cli/v2"

	"phoenix/bridge/autoscaling"
	"phoenix/bridge/config"
	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
)

// bearers gives the instance that bears each minion id, under which its row lies.
// With id_from that is EC2's word on the living; after it what rows say, of
// instances that EC2 has forgotten; and then the id itself, of machines that EC2
// never knew, or an instance's own, as people may give it.
func bearers(c *cli.Context, cfg config.Config, store fleet.Store, ids []string) (map[string]string, error) {
	out := make(map[string]string, len(ids))
	left := map[string]bool{}
	for _, id := range ids {
		if out[id] = id; cfg.IDFrom != config.ByInstanceID {
			left[id] = true
		}
	}
	if len(left) == 0 {
		return out, nil
	}
	loaded, err := loadAWS(c.Context, cfg)
	if err != nil {
		return nil, err
	}
	names, err := autoscaling.NewNames(cfg.IDFrom, instances(ec2.NewFromConfig(loaded).DescribeInstances), slog.New(slog.NewTextHandler(c.App.ErrWriter, nil)))
	if err != nil {
		return nil, usageError(fmt.Errorf("id_from: %w", err))
	}
	living, err := names.Instances(c.Context, ids)
	if err != nil {
		return nil, fmt.Errorf("resolve minion ids: %w", err)
	}
	for id, instance := range living {
		out[id] = instance
		delete(left, id)
	}
	if len(left) == 0 {
		return out, nil
	}
	rows, err := allMinions(c, store, "")
	if _, err = fleet.WithoutBadRows(err); err != nil {
		return nil, err
	}
	for _, row := range rows { // those that live come first
		if left[row.MinionID] {
			out[row.MinionID] = row.InstanceID
			delete(left, row.MinionID)
		}
	}
	return out, nil
}

// rowsOf reads the rows of minion ids, by these. If some cannot be decoded it gives
// all others, and an error that names those by their instances.
func rowsOf(c *cli.Context, cfg config.Config, store fleet.Store, ids []string) (bearer map[string]string, rows map[string]fleet.Minion, err error) {
	if bearer, err = bearers(c, cfg, store, ids); err != nil {
		return nil, nil, err
	}
	done := progress(c, fmt.Sprintf("reading %d rows", len(ids)))
	found, err := store.Minions(c.Context, slices.Collect(maps.Values(bearer)))
	done()
	rows = make(map[string]fleet.Minion, len(found))
	for id, instance := range bearer {
		if row, known := found[instance]; known {
			rows[id] = row
		}
	}
	return bearer, rows, err
}

// instanceForm is that of an instance's own id.
var instanceForm = regexp.MustCompile(config.IDPatternDynamoDB)

// named is what a row is to say of its minion's id: nothing, where the operator
// gave the instance's, and the minion bears another.
func named(cfg config.Config, id string) string {
	if cfg.IDFrom != config.ByInstanceID && instanceForm.MatchString(id) {
		return ""
	}
	return id
}

// proofOf reads what an instance wrote of its key, where that decides.
func proofOf(ctx context.Context, cfg config.Config, store fleet.Store, row fleet.Minion) (string, error) {
	if cfg.Admit != string(decide.Proven) || row.KeySHA256 != "" || !cfg.OnDynamoDB() {
		return "", nil
	}
	here, err := whereAmI(ctx)
	if err != nil {
		return "", fmt.Errorf("find account for admit proven: %w", err)
	}
	found, err := proofs{store, here}.Proofs(ctx, []string{row.InstanceID})
	if err != nil {
		return "", fmt.Errorf("read proof: %w", err)
	}
	return found[row.InstanceID].KeySHA256, nil
}
