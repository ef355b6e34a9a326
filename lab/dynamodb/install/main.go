// Command install puts DynamoDB Local below .cache, as the first test that needs
// it would.
package main

import (
	"fmt"
	"os"

	"phoenix/lab/dynamodb"
)

func main() {
	dir, err := dynamodb.Install()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("DynamoDB Local is in", dir)
}
