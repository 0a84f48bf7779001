package main

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestInstall: what `make install` puts where, and that each file is what its place expects.
func TestInstall(t *testing.T) {
	t.Parallel()
	binary, err := exec.LookPath("holdfast")
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(t.TempDir(), "root")
	install := func(args ...string) (string, error) {
		out, err := exec.Command("make", append([]string{"--no-print-directory", "-C", "../..", "install", "DESTDIR=" + root, "PREFIX=/usr"}, args...)...).CombinedOutput()
		return string(out), err
	}
	if out, err := install("BIN=" + binary); err != nil {
		t.Fatalf("make install: %v\n%s", err, out)
	}
	for name, begins := range map[string]string{
		"usr/share/bash-completion/completions/holdfast":    "# bash completion",
		"usr/share/zsh/site-functions/_holdfast":            "#compdef holdfast",
		"usr/share/fish/vendor_completions.d/holdfast.fish": "# fish completion for holdfast",
		"usr/share/man/man1/holdfast.1":                     ".nh",
		"usr/share/man/man1/holdfast-key-check.1":           ".nh",
		"usr/share/doc/holdfast/quickstart.md":              "# ",
		"usr/share/doc/holdfast/runbooks/alerts/stale.md":   "# ",
	} {
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Error(err)
		} else if !strings.HasPrefix(string(data), begins) {
			t.Errorf("%s begins with %.40q", name, data)
		}
	}
	info, err := os.Stat(filepath.Join(root, "usr/bin/holdfast"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o755 {
		t.Errorf("the program has mode %o", info.Mode())
	}
	var tops []string
	if err := fs.WalkDir(os.DirFS(root), "usr", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && strings.Count(name, "/") == 1 {
			tops = append(tops, name)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(tops, []string{"usr/bin", "usr/share"}) {
		t.Errorf("folders below usr: %q", tops)
	}

	out, err := install("BIN=/nowhere/holdfast")
	if err == nil || !strings.Contains(out, "/nowhere/holdfast is missing: run make build first") {
		t.Errorf("without a program: %v\n%s", err, out)
	}
}
