package cloudformation

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"phoenix/bridge/config"
	"phoenix/lab/shellcheck"
)

// TestShellCheck: ShellCheck has nothing to say of the scripts that run on an
// operator's machines. What user data runs stands in the template.
func TestShellCheck(t *testing.T) {
	program, err := shellcheck.Install()
	if err != nil {
		t.Fatal(err)
	}
	first := filepath.Join(t.TempDir(), "first.sh")
	fleet := parse(t, "fleet.yaml")
	text := fleet.Mappings.First.Boot.Script
	if !strings.Contains(text, "exec /usr/lib/phoenix/bootstrap\n") {
		t.Fatalf("no script in the template: %q", text)
	}
	// The variables that the template sets before it.
	text = "#!/bin/bash\nexport PHOENIX_PACKAGES='' PHOENIX_PACKAGE='' PHOENIX_SHA256='' PHOENIX_REGION='' PHOENIX_DOMAIN='' PHOENIX_PROXY='' PHOENIX_NO_PROXY=''\n" + text
	if err := os.WriteFile(first, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	scripts, err := filepath.Glob("../packaging/scripts/*")
	must(t, err)
	scripts = append(scripts, first, "bootstrap/bootstrap.sh", "../packaging/build", "../packaging/stop-minion",
		"../lab/packages/saltrepo.sh")
	if out, err := exec.Command(program, scripts...).CombinedOutput(); err != nil || len(scripts) < 6 {
		t.Errorf("shellcheck %q: %v\n%s", scripts, err, out)
	}
}

// TestVariables: phoenix reads its configuration from variables, too, those of user data
// included. None of these has the name of a key that it does not mean.
func TestVariables(t *testing.T) {
	mean := map[string]bool{"PHOENIX_IDENTITY_BUCKET": true, "PHOENIX_IDENTITY_KMS_KEY": true}
	cfg := config.Default()
	keys := map[string]string{}
	for _, s := range cfg.Settings() {
		keys[s.Variable()] = s.Key
	}
	names := matches(read(t, "fleet.yaml"), `(PHOENIX_[A-Z0-9_]+)=`)
	if len(names) < 20 {
		t.Fatalf("only %d variables", len(names))
	}
	for _, name := range names {
		if key := keys[name]; key != "" && !mean[name] {
			t.Errorf("%s sets the key %s", name, key)
		}
	}
}
