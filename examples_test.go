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

// shownConfig returns what `config show` prints of a configuration.
func shownConfig(t *testing.T, text string) string {
	t.Helper()
	return printed(t, text, "config", "show")
}

// printed runs a command with a configuration whose key is in a file of its own, and returns what it prints.
func printed(t *testing.T, text string, command ...string) string {
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
		Args: append([]string{"--config", path, "--state", dir}, command...), In: null, Out: &out, Err: said, Now: time.Now, Version: "test",
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
	files, err := filepath.Glob("examples/*/*.yaml")
	if err != nil || len(files) < 7 {
		t.Fatalf("%d examples, error %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		shown := shownConfig(t, string(text))
		if !strings.Contains(file, "retention") {
			continue // TestSchedules looks at those of schedules
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

// TestSchedules: the examples of schedules are due when their comments say, by the service and by cron.
func TestSchedules(t *testing.T) {
	for file, want := range map[string]struct {
		shown []string
		lines []string // of cron; none: there is nothing to install
	}{
		"nightly.yaml": {
			[]string{"jobs.app.schedule.backup +0 1 \\* \\* \\* ", "jobs.app.schedule.zone +local ", "jobs.app.schedule.verify +30 4 \\* \\* \\* ", "jobs.app.schedule.prune +30 5 \\* \\* \\* ", "jobs.app.schedule.drill +0 5 \\* \\* sun "},
			[]string{"0 1 * * *  holdfast  /opt/holdfast backup app --quiet", "30 4 * * *  holdfast  /opt/holdfast verify", "30 5 * * *  holdfast  /opt/holdfast prune"},
		},
		"utc.yaml": {
			[]string{"jobs.app.schedule.backup +0 2 \\* \\* \\* ", "jobs.app.schedule.zone +UTC ", "jobs.app.schedule.jitter +30m ", "jobs.app.keep.zone +UTC "},
			[]string{"0 2 * * *  holdfast  /opt/holdfast backup app --quiet"},
		},
		"hourly.yaml": {
			[]string{"jobs.app.schedule.backup +0 2 \\* \\* \\* ", "jobs.app.schedule.hourly +@hourly ", "jobs.app.keep.kinds.hourly.hourly +48 ", "jobs.app.keep.daily +30 "},
			[]string{"0 2 * * *  holdfast  /opt/holdfast backup app --quiet", "0 * * * *  holdfast  /opt/holdfast backup app --kind hourly --scheduled --quiet"},
		},
		"staging.yaml": {
			[]string{"jobs.staging.schedule.backup +0 4 \\* \\* sun ", "jobs.staging.schedule.drill_old +never ", "jobs.staging.schedule.drill +@monthly "},
			[]string{"0 4 * * 0  holdfast  /opt/holdfast backup staging"},
		},
		"development.yaml": {[]string{"jobs.dev.schedule +never: it is run by hand", "jobs.dev.keep.kinds.manual.within +14d "}, nil},
	} {
		t.Run(file, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("examples", "schedules", file))
			if err != nil {
				t.Fatal(err)
			}
			shown := shownConfig(t, string(text))
			for _, line := range want.shown {
				if !regexp.MustCompile("(?m)^" + line).MatchString(shown) {
					t.Errorf("it does not show %q:\n%s", line, shown)
				}
			}
			if want.lines == nil {
				return
			}
			crontab := printed(t, string(text), "install", "cron", "--user-column", "--program", "/opt/holdfast")
			for _, line := range want.lines {
				if !strings.Contains("\n"+crontab, "\n"+line) {
					t.Errorf("cron has no line %q:\n%s", line, crontab)
				}
			}
		})
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
