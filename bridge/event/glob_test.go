package event

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"testing"

	"phoenix/lab/needs"
)

// What a pattern takes in is what Python's fnmatch, and so Salt, says it does.
func TestGlobIsPythonsFnmatch(t *testing.T) {
	patterns := []string{"*", "", "salt/*", "salt/job/*/ret/*", "salt/minion/?eb-1/start", "salt/[ab]*", "salt/[!a]*",
		"salt/[a-c]uth",
		"salt/[c-a]uth", "salt/[!c-a]uth", "[", "[]", "[]]", "[!]", "[!]]", "a[", "[a-]", "[-a]", "[a-b-c]", "[^a]",
		`\*`, `\`, "a.b", "a+(b)|c$", "{a,b}",
		"[\\w]", "*\n*", "ä?", "[ä-ü]", "salt/auth", "SALT/auth", "*/start", "[[]", "[a", "**", "?*?"}
	tags := []string{"", "salt/auth", "salt/key", "salt/job/20260101000000000000/ret/web-1", "salt/minion/web-1/start",
		"salt/minion/a/b/start",
		"a", "b", "c", "-", "^", "]", "[", "!", `\`, `\*`, "a.b", "axb", "a+(b)|c$", "{a,b}", "w", "a\nb", "äb",
		"ö", "a[", "[a"}
	needs.More(t, "Python")
	input, err := json.Marshal([][]string{patterns, tags})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("python3", "-c", `
import fnmatch, json, sys
patterns, tags = json.load(sys.stdin)
print(json.dumps([[fnmatch.fnmatch(tag, p) for tag in tags] for p in patterns]))`)
	cmd.Stdin = bytes.NewReader(input)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("python3: %v", err)
	}
	var want [][]bool
	if err := json.Unmarshal(out, &want); err != nil {
		t.Fatal(err)
	}
	for i, pattern := range patterns {
		match := Glob(pattern)
		for j, tag := range tags {
			if got := match([]byte(tag)); got != want[i][j] {
				t.Errorf("%q takes in %q: %v, fnmatch says %v", pattern, tag, got, want[i][j])
			}
		}
	}
}

func FuzzGlob(f *testing.F) {
	f.Add("salt/[!a-c]*?", "salt/auth")
	f.Fuzz(func(t *testing.T, pattern, tag string) {
		Glob(pattern)([]byte(tag)) // it does not panic
		if !Glob("*")([]byte(tag)) {
			t.Error("* takes in everything")
		}
	})
}
