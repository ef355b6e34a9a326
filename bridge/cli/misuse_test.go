package cli

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"phoenix/bridge/fleet/sqlite"
)

// What is mistyped is one line that says what to type, and exit code 2.
func TestMisuseIsToldInOneLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fleet.db")
	t.Setenv("PHOENIX_STORE", "sqlite:"+path)
	store, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for line, want := range map[string]string{
		"stauts":                 "no command \"stauts\" (status?); see phoenix --help",
		"nonsense":               "no command \"nonsense\"; see phoenix --help",
		"help nonsense":          "No help topic for 'nonsense'",
		"minions lst":            "no command \"lst\" (list?); see phoenix minions --help",
		"completion fish":        "no command \"fish\"; see phoenix completion --help",
		"--nonsense":             "no flag --nonsense; see phoenix --help",
		"minions add --agian x":  "no flag --agian; see phoenix minions add --help",
		"prune --older x":        "flag --older: \"x\" is not a duration like 30s",
		"minions explain x -n y": "flag -n: \"y\" is not a whole number",
		"minions list --status":  "flag --status needs a value; see phoenix minions list --help",
		"status extra":           "phoenix status takes no operand like \"extra\"",
		"minions list -- -x":     "phoenix minions list takes no operand like \"-x\"",
		"minions explain a b":    "explain takes one minion id",
		"minions add":            "no minion id; see phoenix minions add --help",
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"phoenix"}, strings.Fields(line)...), &out, &errs)
		if code != exitUsage || out.Len() > 0 || errs.String() != "phoenix: "+want+"\n" {
			t.Errorf("%s: exit %d\n%s%s, not\n%s", line, code, &out, &errs, want)
		}
	}
}
