package lab_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"phoenix/lab"
)

// TestNamedTestsExist: each test that the documentation and the Makefile name is there. "go test -run" passes if it
// finds none.
func TestNamedTestsExist(t *testing.T) {
	root, err := lab.Root()
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, dir := range []string{"bridge", "lab", "cloudformation", "packaging"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			code, err := os.ReadFile(path)
			for _, match := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(code, -1) {
				there[string(match[1])] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	guarantees, makefile := filepath.Join(root, "docs", "guarantees.md"), filepath.Join(root, "Makefile")
	for _, file := range append(files, makefile) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		names := regexp.MustCompile(`\bTest[A-Z]\w+`).FindAllString(string(text), -1)
		if len(names) < 5 && (file == guarantees || file == makefile) {
			t.Fatalf("%s names %q only", file, names)
		}
		for _, name := range names {
			if !there[name] {
				t.Errorf("%s names %s, which is no test", file, name)
			}
		}
	}
}
