package holdfast_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cli"
)

// shownConfig runs `config show` on a configuration whose key is in a file of its own, and returns what it prints.
func shownConfig(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	path, key := filepath.Join(dir, "holdfast.yaml"), filepath.Join(dir, "ops.pub")
	for name, content := range map[string]string{
		path: strings.ReplaceAll(text, "/etc/holdfast/ops.pub", key),
		key:  "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p\n",
	} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	said, err := os.CreateTemp(dir, "stderr-")
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	var out bytes.Buffer
	code := cli.Main(cli.Process{
		Args: []string{"--config", path, "--state", dir, "config", "show"}, In: null, Out: &out, Err: said, Now: time.Now, Version: "test",
		Environ: []string{"HOME=" + dir},
	})
	if code != 0 {
		text, err := os.ReadFile(said.Name())
		t.Fatalf("exit code %d: %s, error %v", code, text, err)
	}
	return out.String()
}

// TestExamples: what ships as an example is taken as it stands, and keeps what its comments say.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("examples/*/holdfast.yaml")
	if err != nil || len(files) < 2 {
		t.Fatalf("%d examples, error %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		shown := shownConfig(t, string(text))
		if !strings.Contains(file, "retention") {
			continue
		}
		for _, want := range []string{
			"jobs.generations.keep.daily +7 ", "jobs.generations.keep.weekly +4 ", "jobs.generations.keep.monthly +12 ", "jobs.generations.keep.yearly +forever ",
			"jobs.records.keep.daily +30 ", "jobs.records.keep.weekly +13 ", "jobs.records.keep.yearly +7 ", "jobs.flat.keep.within +90d ",
			"jobs.hourly.keep.kinds.hourly.hourly +48 ", "jobs.elsewhere.keep.stores.box.daily +30 ", "jobs.elsewhere.keep.kinds.manual.within +180d ",
		} {
			if !regexp.MustCompile("(?m)^" + want).MatchString(shown) {
				t.Errorf("%s does not show %q:\n%s", file, want, shown)
			}
		}
	}
}

// TestDocsOfRules: each rule on the page is one that the configuration takes.
func TestDocsOfRules(t *testing.T) {
	page, err := os.ReadFile("docs/retention.md")
	if err != nil {
		t.Fatal(err)
	}
	rules := regexp.MustCompile(`(?m)^ *(keep: \{.*?\}+)(?: *#.*)?$`).FindAllStringSubmatch(string(page), -1)
	if len(rules) < 5 {
		t.Fatalf("%d rules are on the page", len(rules))
	}
	for _, rule := range rules {
		shownConfig(t, `version: 1
keys: {ops: {recipient_file: /etc/holdfast/ops.pub}}
stores: {main: {kind: local, path: /srv/backups}}
sources: {db: {kind: sqlite, path: /srv/app.db}}
jobs:
  app:
    sources: [db]
    store: main
    recipients: [ops]
    `+rule[1]+"\n")
	}
}
