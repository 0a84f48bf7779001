package config_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"
	yaml "go.yaml.in/yaml/v4"

	"holdfast"
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

// comment is a sign before what the template shows as a default or an example.
var comment = regexp.MustCompile(`(?m)^( *)# ((?:# )?[a-z_-]+:.*)$`)

func TestTemplateCommentsAreTrue(t *testing.T) {
	made := resolve(t, config.Inputs{NoFile: true, Flags: config.Flags{
		Sources: []string{"postgres://app@/db", "sqlite:/srv/a.db", "files:/etc"}, To: "/srv/backups", Mirrors: []string{"/mnt/copy"}, Recipients: []string{recipient}, Job: "app",
	}})
	job, err := made.Job("")
	if err != nil {
		t.Fatal(err)
	}
	text := config.Template(config.TemplateOptions{Job: job})
	for range 2 { // an example stands behind two signs
		text = comment.ReplaceAll(text, []byte("$1$2"))
	}
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
	if got := len(read.Channels); got != 9 {
		t.Errorf("%d kinds of channels are shown", got)
	}
}

// TestTemplateBlocks takes each block in alone: it is good whatever the job has, and but for its new times says what holds anyway.
func TestTemplateBlocks(t *testing.T) {
	for name, flags := range map[string]config.Flags{
		"files alone":      {Sources: []string{"files:/etc"}, To: "/srv/backups", Recipients: []string{recipient}},
		"database, mirror": {Sources: []string{"postgres://app@/db"}, To: "/srv/backups", Mirrors: []string{"/mnt/copy"}, Recipients: []string{recipient}},
	} {
		sameSettings := cmp.Options{
			cmp.Comparer(func(a, b *time.Location) bool { return a.String() == b.String() }),
			cmp.Comparer(func(a, b config.SecretRef) bool { return a.String() == b.String() }),
		}
		made := resolve(t, config.Inputs{NoFile: true, Flags: flags})
		job, err := made.Job("")
		if err != nil {
			t.Fatal(err)
		}
		job.Drill = config.Drill{}
		text := string(config.Template(config.TemplateOptions{Host: "web1", Job: job}))
		before, err := config.Parse("holdfast.yaml", []byte(text), noEnv, now)
		if err != nil {
			t.Fatal(err)
		}
		for block, taken := range map[string]func(c *config.Config) bool{
			"service":  func(c *config.Config) bool { return cmp.Equal(c.Service, before.Service, sameSettings) },
			"alarms":   func(c *config.Config) bool { return cmp.Equal(c.Alarms, before.Alarms, sameSettings) },
			"channels": func(c *config.Config) bool { return len(c.Channels) == 1 && c.Channels[0].Kind == config.ChannelMail },
			"schedule": func(c *config.Config) bool {
				s := c.Jobs[0].Schedule
				copies := !s.Times[holdfast.TaskDrillCopy].IsZero()
				return s.Times[holdfast.TaskBackup].String() == "0 2 * * *" && !s.Times[holdfast.TaskVerify].IsZero() && copies == (len(job.Mirrors) > 0) && s.Host == ""
			},
			"objectives": func(c *config.Config) bool { return c.Jobs[0].Objectives.RPO == 24*time.Hour },
			"drill":      func(c *config.Config) bool { return cmp.Equal(c.Jobs[0].Drill, before.Jobs[0].Drill) },
			"keep":       func(c *config.Config) bool { return c.Jobs[0].Keep.Given },
			"hooks":      func(c *config.Config) bool { return len(c.Jobs[0].Hooks.Backup.After) == 1 },
			"volumes": func(c *config.Config) bool {
				return len(c.Volumes) == 1 && c.Volumes[0].Job == job.Name && c.Volumes[0].Filesystem == "ext4" && (c.Volumes[0].Source != "") == (job.Sources[0].Kind == holdfast.KindPostgres)
			},
			"audit": func(c *config.Config) bool { return cmp.Equal(c.Audit, before.Audit) },
		} {
			t.Run(name+"/"+block, func(t *testing.T) {
				head := regexp.MustCompile(`(?m)^( *)# ` + block + `:(?: +#| \{).*\n(?: *# .*\n)*`)
				at := head.FindStringSubmatchIndex(text)
				if at == nil {
					t.Fatalf("the template has no block %s:\n%s", block, text)
				}
				depth := at[3] - at[2]
				lines := strings.SplitAfter(text[at[0]:at[1]], "\n")
				for i, line := range lines {
					if i > 0 && len(line)-len(strings.TrimLeft(line, " ")) <= depth {
						break
					}
					lines[i] = comment.ReplaceAllString(line, "$1$2")
				}
				changed := text[:at[0]] + strings.Join(lines, "") + text[at[1]:]
				read, err := config.Parse("holdfast.yaml", []byte(changed), noEnv, now)
				if err != nil {
					t.Fatalf("%v in:\n%s", err, changed)
				}
				if !taken(read) {
					t.Errorf("it does not say what it should:\n%s", changed)
				}
				if err := checkSchema(t, []byte(changed)); err != nil {
					t.Errorf("the schema refuses it: %v", err)
				}
			})
		}
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
