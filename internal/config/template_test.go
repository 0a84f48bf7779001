package config_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"
	yaml "go.yaml.in/yaml/v4"

	"holdfast/internal/config"
)

// checkSchema lets the published schema judge a file.
func checkSchema(t *testing.T, text []byte) error {
	t.Helper()
	var schema jsonschema.Schema
	if err := json.Unmarshal(config.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	resolved, err := schema.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := yaml.Load(regexp.MustCompile(`\d{4}-\d\d-\d\d`).ReplaceAll(text, []byte(`"$0"`)), &tree); err != nil {
		t.Fatal(err)
	}
	return resolved.Validate(tree)
}

func TestTemplate(t *testing.T) {
	tests := map[string]config.Flags{
		"all kinds": {
			Sources:    []string{"postgres://app:" + canary + "@/app?host=/run", "sqlite:/srv/a \"b\".db", "files:/etc/nginx"},
			To:         "/srv/backups",
			Recipients: []string{recipient},
		},
		"environment's database": {Sources: []string{"postgres://"}, To: "/srv/backups", Recipients: []string{recipient}},
		"unsealed":               {Sources: []string{"files:/etc"}, To: "/srv/backups", Seal: "none", Job: "open", Compression: "gzip"},
		"disk scratch":           {Sources: []string{"files:/etc"}, To: "/srv/backups", Recipients: []string{recipient}, Scratch: "/mnt/s", AllowDiskScratch: true},
	}
	for name, flags := range tests {
		t.Run(name, func(t *testing.T) {
			made := resolve(t, config.Inputs{NoFile: true, Flags: flags})
			job, err := made.Job("")
			if err != nil {
				t.Fatal(err)
			}
			text := config.Template(config.TemplateOptions{Host: "web1", State: "/var/lib/hf", Job: job})
			if strings.Contains(string(text), canary) {
				t.Fatal("a password is written")
			}
			read, err := config.Parse("holdfast.yaml", text, noEnv, now)
			if err != nil {
				t.Fatalf("%v in:\n%s", err, text)
			}
			got, err := read.Job(job.Name)
			if err != nil {
				t.Fatal(err)
			}
			for i := range job.Sources {
				job.Sources[i].Postgres.Password = config.SecretRef{}
			}
			if diff := cmp.Diff(job, got, cmp.Comparer(func(a, b config.SecretRef) bool { return a.String() == b.String() })); diff != "" {
				t.Errorf("what was read is not what was written: %s\n%s", diff, text)
			}
			if read.Host != "web1" || read.State != "/var/lib/hf" {
				t.Errorf("host %q, state %q", read.Host, read.State)
			}
			if err := checkSchema(t, text); err != nil {
				t.Errorf("the schema refuses it: %v", err)
			}
		})
	}
}

// comment takes the comment signs off what the template shows as defaults and examples.
var comment = regexp.MustCompile(`(?m)^( +)# ([a-z_]+:.*)$`)

func TestTemplateCommentsAreTrue(t *testing.T) {
	made := resolve(t, config.Inputs{NoFile: true, Flags: config.Flags{
		Sources: []string{"postgres://app@/db", "sqlite:/srv/a.db", "files:/etc"}, To: "/srv/backups", Recipients: []string{recipient},
	}})
	job, err := made.Job("")
	if err != nil {
		t.Fatal(err)
	}
	text := comment.ReplaceAll(config.Template(config.TemplateOptions{Job: job}), []byte("$1$2"))
	text = []byte(strings.Replace(string(text), "      # seal: age", "      seal: age", 1))
	read, err := config.Parse("holdfast.yaml", text, noEnv, now)
	if err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	if err := checkSchema(t, text); err != nil {
		t.Errorf("the schema refuses it: %v", err)
	}
	if got := read.Sources[0].Postgres; !got.Globals || got.LockWait != job.Sources[0].Postgres.LockWait || got.Stall != job.Sources[0].Postgres.Stall {
		t.Errorf("the defaults shown are not the defaults: %+v", got)
	}
	if diff := cmp.Diff(job.Drill.Every, read.Jobs[0].Drill.Every); diff != "" {
		t.Error(diff)
	}
}

func TestGuideExample(t *testing.T) {
	guide, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(guide), "```yaml\n")
	example, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("the guide has no example")
	}
	parse(t, example)
	if err := checkSchema(t, []byte(example)); err != nil {
		t.Errorf("the schema refuses it: %v", err)
	}
}

func TestSchemaRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"unknown key":       "version: 1\nstoers: {}\n",
		"no version":        "host: a\n",
		"other kind's key":  "version: 1\nsources: {a: {kind: sqlite, path: /a, url: x}}\n",
		"plain password":    "version: 1\nsources: {a: {kind: postgres, password: plain}}\n",
		"number out of it":  "version: 1\njobs: {j: {sources: [a], store: b, level: 99}}\n",
		"name out of shape": "version: 1\nstores: {A: {kind: local, path: /a}}\n",
	} {
		if err := checkSchema(t, []byte(text)); err == nil {
			t.Errorf("%s: the schema takes it", name)
		}
	}
	// To JSON a bare 0123 is a number, which the schema cannot take for a text.
	if err := checkSchema(t, []byte(strings.Replace(whole, "0123", "'0123'", 1))); err != nil {
		t.Errorf("the schema refuses a good file: %v", err)
	}
}
