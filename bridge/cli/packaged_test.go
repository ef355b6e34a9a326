package cli

import (
	"fmt"
	"os"
	"regexp"
	"testing"
)

// TestPackagedConfiguration: what the package's configuration file shows is what
// holds without it, and it is a file that phoenix reads, as it is and with every #
// taken away.
func TestPackagedConfiguration(t *testing.T) {
	text, err := os.ReadFile("../../packaging/phoenix.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want, err := configOf(t, "--config", writeFile(t, "{}"), "show")
	if err != nil {
		t.Fatal(err)
	}
	shown := regexp.MustCompile(`(?m)^#((  )*[a-z])`)
	if n := len(shown.FindAll(text, -1)); n < 15 {
		t.Fatalf("only %d keys are shown", n)
	}
	for what, text := range map[string][]byte{"as it is": text,
		"with every # taken away": shown.ReplaceAll(text, []byte("$1"))} {
		got, err := configOf(t, "--config", writeFile(t, string(text)), "show")
		// A list that says [] is as empty as none.
		if err != nil || fmt.Sprintf("%v", got) != fmt.Sprintf("%v", want) {
			t.Errorf("%s: %v\n%v\n%v", what, err, got, want)
		}
	}
}
