package e2e_test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"phoenix/lab"
	"phoenix/lab/moto"
)

// allVersions: "make versions" and "make health" run on all versions of Salt what
// "make test" runs on some.
var allVersions = flag.Bool("versions.all", false, "run each test on all versions of Salt")

// versions returns those that a test runs on: some where the others do nothing else
// in what it is about.
func versions(some ...string) []string {
	if *allVersions {
		return lab.Versions()
	}
	return some
}

// only skips a test that takes minutes to measure, in depth, what quicker tests of
// "make test" check. target is the make target that runs it.
func only(t *testing.T, target string) {
	t.Helper()
	if !*allVersions {
		t.Skip("it takes minutes, and quicker tests check the same kind: make " + target + " runs it")
	}
}

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
