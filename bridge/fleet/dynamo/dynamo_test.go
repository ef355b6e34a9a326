package dynamo

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/fleettest"
	"phoenix/lab/dynamodb"
)

// endpointVar hands the endpoint of the one server from TestMain to the tests.
const endpointVar = "PHOENIX_TEST_DYNAMODB"

// TestMain runs one DynamoDB Local for all tests, which have tables of their own.
func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	server, err := dynamodb.Start()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer server.Close()
	for name, value := range map[string]string{
		endpointVar:                 server.URL,
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
	return m.Run()
}

// local is the configuration of a store of this test's own.
func local(t *testing.T) Config {
	t.Helper()
	name := strings.NewReplacer("/", ".", "#", "-").Replace(t.Name())
	return Config{Region: "eu-test-1", Endpoint: os.Getenv(endpointVar),
		MinionsTable: name + ".minions", MastersTable: name + ".masters", ProofsTable: name + ".proofs"}
}

func openTest(t *testing.T, c Config) *Store {
	t.Helper()
	s, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
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
	fleettest.Run(t, func(t *testing.T) fleet.Store { return created(t, local(t)) })
}
