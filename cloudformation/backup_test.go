package cloudformation

import (
	"reflect"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/dynamo"
	lab "phoenix/lab/dynamodb"
	"phoenix/lab/moto"
	"phoenix/lab/stacks"
)

// TestBackup: what docs/backup.md has an operator do. A table is restored by moto's own
// RestoreTableToPointInTime, and handed to a base stack; and copied on DynamoDB Local as
// a restore leaves it, with its index and without TTL. The fleet goes on with either.
func TestBackup(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	cfg := moto.Start(t)
	base := stacks.CreateBase(t, cfg)
	before := rowsBefore(t, cfg.Region, *cfg.BaseEndpoint, base.Outputs["MinionsTable"], base.Outputs["MastersTable"],
		base.Outputs["ProofsTable"])
	calls := dynamodb.NewFromConfig(cfg)
	_, err := calls.RestoreTableToPointInTime(t.Context(),
		&dynamodb.RestoreTableToPointInTimeInput{SourceTableName: aws.String(base.Outputs["MinionsTable"]),
			TargetTableName: aws.String("restored"), UseLatestRestorableTime: aws.Bool(true)})
	must(t, err)
	again := stacks.CreateNamedBase(t, cfg, "again", map[string]string{"MinionsTable": "restored"})
	goOnWith(t, before, cfg.Region, *cfg.BaseEndpoint, again.Outputs["MinionsTable"], again.Outputs["MastersTable"],
		again.Outputs["ProofsTable"])

	// Under the old name: no stack changes.
	fresh := stacks.CreateNamedBase(t, cfg, "fresh", nil)
	before = rowsBefore(t, cfg.Region, *cfg.BaseEndpoint, fresh.Outputs["MinionsTable"], fresh.Outputs["MastersTable"],
		fresh.Outputs["ProofsTable"])
	backup, err := calls.CreateBackup(t.Context(),
		&dynamodb.CreateBackupInput{TableName: aws.String(fresh.Outputs["MinionsTable"]),
			BackupName: aws.String("restored")})
	must(t, err)
	_, err = calls.DeleteTable(t.Context(),
		&dynamodb.DeleteTableInput{TableName: aws.String(fresh.Outputs["MinionsTable"])})
	must(t, err)
	_, err = calls.RestoreTableFromBackup(t.Context(),
		&dynamodb.RestoreTableFromBackupInput{TargetTableName: aws.String(fresh.Outputs["MinionsTable"]),
			BackupArn: backup.BackupDetails.BackupArn})
	must(t, err)
	goOnWith(t, before, cfg.Region, *cfg.BaseEndpoint, fresh.Outputs["MinionsTable"], fresh.Outputs["MastersTable"],
		fresh.Outputs["ProofsTable"])

	server, err := lab.Start()
	must(t, err)
	t.Cleanup(server.Close)
	before = rowsBefore(t, cfg.Region, server.URL, "minions", "masters", "proofs")
	calls = dynamodb.NewFromConfig(cfg, func(o *dynamodb.Options) { o.BaseEndpoint = &server.URL })
	is, err := calls.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: aws.String("minions")})
	must(t, err)
	index := is.Table.GlobalSecondaryIndexes[0]
	_, err = calls.CreateTable(t.Context(),
		&dynamodb.CreateTableInput{TableName: aws.String("restored"),
			AttributeDefinitions: is.Table.AttributeDefinitions, KeySchema: is.Table.KeySchema,
			BillingMode: dynamodbtypes.BillingModePayPerRequest,
			GlobalSecondaryIndexes: []dynamodbtypes.GlobalSecondaryIndex{{IndexName: index.IndexName,
				KeySchema: index.KeySchema, Projection: index.Projection}}})
	must(t, err)
	all, err := calls.Scan(t.Context(), &dynamodb.ScanInput{TableName: aws.String("minions")})
	must(t, err)
	for _, item := range all.Items {
		_, err := calls.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("restored"), Item: item})
		must(t, err)
	}
	goOnWith(t, before, cfg.Region, server.URL, "restored", "masters", "proofs")
}

func storeOf(t *testing.T, region, endpoint, minions, masters, proofs string) *dynamo.Store {
	t.Helper()
	store, err := dynamo.Open(t.Context(), dynamo.Config{Region: region, Endpoint: endpoint, MinionsTable: minions,
		MastersTable: masters, ProofsTable: proofs})
	must(t, err)
	t.Cleanup(func() { _ = store.Close() })
	return store
}

var backupIDs = []string{"i-00000000000000001", "i-00000000000000002", "i-00000000000000003"}

// rowsBefore are those of a fleet whose minions stand in different places.
func rowsBefore(t *testing.T, region, endpoint, minions, masters, proofs string) map[string]fleet.Minion {
	t.Helper()
	store := storeOf(t, region, endpoint, minions, masters, proofs)
	must(t, store.Create(t.Context()))
	for _, change := range []fleet.Change{
		fleet.Add{InstanceID: backupIDs[0], Group: "web"}, fleet.Add{InstanceID: backupIDs[1], Group: "web"},
		fleet.Add{InstanceID: backupIDs[2], Group: "web"},
		fleet.Bind{InstanceID: backupIDs[0], KeySHA256: "k", PublicKey: "p"},
		fleet.Bind{InstanceID: backupIDs[1], KeySHA256: "q", PublicKey: "p"},
		fleet.Claim{InstanceID: backupIDs[0], Owner: "m", JID: "j", Attempt: 1},
		fleet.Finish{InstanceID: backupIDs[0], JID: "j", Outcome: fleet.Succeeded},
		fleet.Retire{InstanceID: backupIDs[2]},
	} {
		results, err := store.Apply(t.Context(), []fleet.Change{change})
		must(t, err)
		must(t, results[0].Err)
	}
	rows, err := store.Minions(t.Context(), backupIDs)
	must(t, err)
	return rows
}

// goOnWith: the restored rows are the same, a termination is found by the index, and a
// first highstate is claimed and finished.
func goOnWith(t *testing.T, before map[string]fleet.Minion, region, endpoint, minions, masters, proofs string) {
	t.Helper()
	store := storeOf(t, region, endpoint, minions, masters, proofs)
	rows, err := store.Minions(t.Context(), backupIDs)
	must(t, err)
	if len(rows) != len(backupIDs) || !reflect.DeepEqual(rows, before) {
		t.Errorf("restored %+v, was %+v", rows, before)
	}
	var ended []string
	must(t, store.ByStatus(t.Context(), fleet.Terminate, "", func(rows []fleet.Minion) error {
		for _, m := range rows {
			ended = append(ended, m.InstanceID)
		}
		return nil
	}))
	if len(ended) != 1 || ended[0] != backupIDs[2] {
		t.Errorf("terminated: %v", ended)
	}
	results, err := store.Apply(t.Context(),
		[]fleet.Change{fleet.Claim{InstanceID: backupIDs[1], Owner: "m", JID: "j2", Attempt: 1}})
	must(t, err)
	must(t, results[0].Err)
	results, err = store.Apply(t.Context(),
		[]fleet.Change{fleet.Finish{InstanceID: backupIDs[1], JID: "j2", Outcome: fleet.Succeeded}})
	must(t, err)
	if results[0].Err != nil || !results[0].Row.HighstateRan {
		t.Errorf("a highstate on the restored table: %+v", results[0])
	}
}
