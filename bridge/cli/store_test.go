package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A backup brings back what was retired after it, where somebody confirms that.
func TestStoreBackupAndRestore(t *testing.T) {
	dir := t.TempDir()
	path, file := filepath.Join(dir, "fleet.db"), filepath.Join(dir, "copy.db")
	phoenix := func(args ...string) (int, string) {
		var out bytes.Buffer
		code := run(t.Context(), append([]string{"phoenix", "--config", os.DevNull, "--store", "sqlite:" + path,
			"--socket", filepath.Join(dir, "s"),
			"--salt-config", filepath.Join(dir, "none")}, args...), &out, &out)
		return code, out.String()
	}
	for _, step := range []struct {
		args string
		code int
		says string
	}{
		{"store backup " + file, exitStore, "there is no store yet"},
		{"minions add web-1 web-2", exitOK, "web-1"},
		{"store backup", exitUsage, "one file is needed"},
		{"store backup " + file, exitOK, "is a copy of"},
		{"store backup " + file, exitFailed, "file already exists"},
		{"store backup " + dir, exitFailed, "that is a folder: name a file in it"},
		{"store backup " + filepath.Join(dir, "no", "copy.db"), exitFailed,
			"there is no folder " + filepath.Join(dir, "no")},
		{"store restore " + filepath.Join(dir, "none"), exitFailed,
			"copy " + filepath.Join(dir, "none") + ": no such file or directory; the store is unchanged"},
		{"store restore /etc/hostname", exitFailed, "/etc/hostname is no backup of a store, or a damaged one: "},
		{"minions retire web-1", exitOK, "retired"},
		{"store restore " + file, exitUsage, "--yes is needed"},
		{"minions list --status TERMINATE", exitOK, "web-1"},
		{"store restore --yes " + file, exitOK, "the replaced store is kept as"},
		{"minions list --status LAUNCH", exitOK, "web-1"},
		{"--store dynamodb: store backup " + file, exitUsage, "point-in-time recovery"},
	} {
		if code, out := phoenix(strings.Fields(step.args)...); code != step.code || !strings.Contains(out, step.says) {
			t.Errorf("phoenix %s: exit %d, not %d with %q: %s", step.args, code, step.code, step.says, out)
		}
	}
}
