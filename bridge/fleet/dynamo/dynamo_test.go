package dynamo

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/fleettest"
	local "phoenix/lab/dynamodb"
	"phoenix/lab/needs"
)

// endpointVar hands the endpoint of the one server from TestMain to the tests.
const endpointVar = "PHOENIX_TEST_DYNAMODB"

// TestMain runs one DynamoDB Local for all tests, which have tables of their own.
func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	// Without credentials the SDK asks the instance's metadata. In a bubble of synctest a
	// real connection stops the clock, so that a test on an instance would never end.
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID":         "local",
		"AWS_SECRET_ACCESS_KEY":     "local",
		"AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE":           os.DevNull,
	} {
		if err := os.Setenv(name, value); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	if flag.Parse(); testing.Short() {
		return m.Run() // tests that need DynamoDB Local skip
	}
	server, err := local.Start()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer server.Close()
	if err := os.Setenv(endpointVar, server.URL); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// ownTables is the configuration of a store of this test's own.
func ownTables(t *testing.T) Config {
	t.Helper()
	needs.More(t, "DynamoDB Local, and Java for it")
	name := strings.NewReplacer("/", ".", "#", "-").Replace(t.Name())
	return Config{Region: "eu-test-1", Endpoint: os.Getenv(endpointVar),
		MinionsTable: name + ".minions", MastersTable: name + ".masters", ProofsTable: name + ".proofs"}
}

// openTest opens a store whose tables, if they are made, go with the test: in
// DynamoDB Local each table with TTL keeps a thread busy, of ten for all.
func openTest(t *testing.T, c Config) *Store {
	t.Helper()
	s, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if c.Endpoint != "" && c.HTTP == nil {
		t.Cleanup(func() {
			for _, table := range []string{s.config.MinionsTable, s.config.MastersTable, s.config.ProofsTable} {
				// Some have none, and some opened several stores on them.
				_, _ = s.client.DeleteTable(context.Background(), &dynamodb.DeleteTableInput{TableName: &table})
			}
		})
	}
	return s
}

// created opens a store and makes its tables.
func created(t *testing.T, c Config) *Store {
	t.Helper()
	s := openTest(t, c)
	if err := s.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	fleettest.Run(t, func(t *testing.T) fleet.Store { return created(t, ownTables(t)) }, spoil)
}

// spoil writes what another program might: a text where a number is due.
func spoil(t *testing.T, s fleet.Store, table fleettest.Table, id string) {
	t.Helper()
	c := s.(*Store).config
	name, attribute := c.MinionsTable, "claim_version"
	if table == fleettest.Masters {
		name, attribute = c.MastersTable, "heartbeat"
	}
	update := "SET " + attribute + " = :v"
	if _, err := s.(*Store).client.UpdateItem(t.Context(),
		&dynamodb.UpdateItemInput{TableName: &name, Key: item{"instanceid": text(id)},
			UpdateExpression: &update, ExpressionAttributeValues: item{":v": text("many")}}); err != nil {
		t.Fatal(err)
	}
}
