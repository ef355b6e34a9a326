package main

import (
	"context"
	"os"

	"phoenix/bridge/fleet/dynamo"
	"phoenix/lab/dynamodb"
)

// region is a name: DynamoDB Local asks nobody where it is.
const region = "eu-central-1"

// OnDynamoDB starts AWS's DynamoDB Local, and makes the fleet's tables in it.
func onDynamoDB(s *runner) store {
	s.say("DynamoDB Local starts (the first time it is fetched, by Maven, and takes a while)")
	server, err := dynamodb.Start()
	if err != nil {
		s.Fatalf("%v", err)
	}
	s.Cleanup(server.Close)
	// It takes any credentials; nobody on this machine is asked for others.
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "demo", "AWS_SECRET_ACCESS_KEY": "demo",
		"AWS_EC2_METADATA_DISABLED": "true"} {
		if err := os.Setenv(name, value); err != nil {
			s.Fatalf("set %s: %v", name, err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	tables, err := dynamo.Open(ctx, dynamo.Config{Region: region, Endpoint: server.URL})
	if err != nil {
		s.Fatalf("%v", err)
	}
	defer tables.Close()
	if err := tables.Create(ctx); err != nil {
		s.Fatalf("%v", err)
	}
	s.say("DynamoDB Local answers at %s", server.URL)
	return store{address: "dynamodb:", config: map[string]any{
		"dynamodb": map[string]any{"region": region, "endpoint": server.URL},
		// With this store ids are those of instances, unless something else is said.
		"id_pattern": "^web-[0-9]+$",
	}}
}
