package compose

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"phoenix/bridge/config"
)

// TestGateSaysWhatTheCommandSaid: salt-run fileserver.update exits 0 though it could not
// fetch. What it wrote to standard error tells a wrong token from a remote that is gone,
// and is shown without user and token. The program stands for salt-run, whose lines are
// those of 3007.17 with GitPython.
func TestGateSaysWhatTheCommandSaid(t *testing.T) {
	for said, want := range map[string]string{
		"fatal: Authentication failed for 'http://token:s3cret@git.example/states.git/'": "Authentication failed for 'http://git.example/states.git/'",
		"fatal: unable to access 'http://git.example/states.git/': Failed to connect":    "Failed to connect",
		"": "the file server has 0 files",
	} {
		dir := t.TempDir()
		script := "#!/bin/sh\ncase \"$*\" in\n*file_list*) echo '[]';;\n*) echo \"" + said + "\" >&2;;\nesac\n"
		if err := os.WriteFile(filepath.Join(dir, "salt-run"), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
		var cfg config.Config
		cfg.SaltConfig = filepath.Join(dir, "master")
		cfg.Ready.Command, cfg.Ready.Top = []string{"salt-run", "fileserver.update"}, []string{"base/top.sls"}
		var err error
		for _, check := range checks(cfg) {
			if err = check(t.Context()); err != nil {
				break
			}
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v", said, err)
		}
		if said == "" && strings.Contains(err.Error(), "ready.command said") {
			t.Errorf("it said nothing: %v", err)
		}
	}
}
