package e2e_test

import (
	"fmt"
	"os"
	"testing"

	"phoenix/lab/moto"
)

// TestMain lets no test reach AWS: what they and their bridges find in the
// environment is good for emulators only.
func TestMain(m *testing.M) {
	for name, value := range map[string]string{
		"AWS_REGION":                  moto.Region,
		"AWS_ACCESS_KEY_ID":           "test",
		"AWS_SECRET_ACCESS_KEY":       "test",
		"AWS_CONFIG_FILE":             os.DevNull,
		"AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
		"AWS_EC2_METADATA_DISABLED":   "true",
	} {
		if err := os.Setenv(name, value); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}
