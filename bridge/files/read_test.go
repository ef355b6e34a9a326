package files

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestReadIsBounded(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for name, text := range map[string]string{"empty": "", "fits": "1234", "long": "12345"} {
		if err := os.WriteFile(path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink("fits", path("link")), syscall.Mkfifo(path("pipe"), 0o600),
		os.Mkdir(path("folder"), 0o700)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct{ text, says string }{
		"empty": {"", ""}, "fits": {"1234", ""}, "link": {"1234", ""}, "long": {"", "over 4 bytes"},
		"pipe": {"", "it is a named pipe, not a file"}, "folder": {"", "it is a directory, not a file"},
		"none": {"", "no such file"},
	} {
		got, err := Read(path(name), 4)
		if string(got) != want.text || (err == nil) != (want.says == "") ||
			err != nil && (!strings.Contains(err.Error(), want.says) || !strings.Contains(err.Error(), path(name))) {
			t.Errorf("%s: %q, %v; want %q, %q", name, got, err, want.text, want.says)
		}
	}
	if got, err := Read("/dev/zero", 4); err == nil {
		t.Errorf("a device is read as %q", got)
	}
	if got, err := Head(path("long"), 4); string(got) != "1234" || err != nil {
		t.Errorf("the head: %q, %v", got, err)
	}
	if _, err := Head(path("pipe"), 4); err == nil {
		t.Error("the head of a pipe")
	}
}
