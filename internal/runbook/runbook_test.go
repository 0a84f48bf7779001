package runbook_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/runbook"
)

var update = flag.Bool("update", false, "write the pages of testdata anew")

func day(text string) time.Time {
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		panic("runbook_test: " + err.Error())
	}
	return t
}

// full is a site with everything: a volume beside systemd, one beside Docker Compose.
func full() runbook.Site {
	return runbook.Site{
		Host: "web1", Config: "/etc/holdfast/holdfast.yaml", Made: day("2026-11-30"), Version: "1.0",
		Volumes: []runbook.Volume{
			{
				Name: "pg-data", Device: "/srv/pg-data.luks", File: true, Mount: "/srv/pg-data", Filesystem: "ext4", Owner: "postgres:postgres", Mode: "0700", Data: "/srv/pg-data/pgdata", Job: "app", Source: "db",
				Server: runbook.Server{
					Stop: []string{"systemctl", "stop", "postgresql@17-main"}, Start: []string{"systemctl", "start", "postgresql@17-main"}, Health: []string{"pg_isready", "--host", "/run/my sockets"},
					User: "postgres", Unit: "postgresql@17-main.service", Grace: 90 * time.Second,
				},
				Holders: []runbook.Holder{
					{Name: "Anna O'Hara", Contact: "+49 30 111", Role: "operational", MFA: true, Since: day("2026-01-02")},
					{Name: "Ben", Contact: "+49 30 222", Role: "recovery", MFA: true, Since: day("2026-01-02")},
					{Name: "Cleo", Contact: "cleo_b@example.com", Role: "operational", Since: day("2025-01-02"), Until: day("2026-10-31")},
				},
				Tell: []string{"Data protection officer, +49 30 333", "Managing director, +49 30 444"},
			},
			{
				Name: "shop", Device: "/dev/sdb1", Mount: "/srv/shop", Filesystem: "xfs", Owner: "999", Mode: "0700", Data: "/srv/shop/pgdata", Job: "shop", Source: "shop-db",
				Server: runbook.Server{
					Stop: []string{"docker", "compose", "stop", "db"}, Start: []string{"docker", "compose", "up", "-d", "db"}, Health: []string{"docker", "compose", "exec", "db", "pg_isready"},
					Compose: "/srv/shop/compose.yaml", Service: "db", Grace: time.Minute,
				},
				Holders: []runbook.Holder{{Name: "Dora", Contact: "+49 30 555", Role: "operational", MFA: true, Since: day("2026-01-02")}, {Name: "Ben", Contact: "+49 30 222", Role: "recovery", MFA: true, Since: day("2026-01-02")}},
				Tell:    []string{"Data protection officer, +49 30 333"},
			},
		},
		Jobs: []runbook.Job{
			{Name: "app", Sources: []holdfast.SourceName{"db", "config"}, Stores: []string{"main", "s3"}, Keys: []runbook.Key{{Name: "ops", Holder: "Anna"}, {Name: "safe", Holder: "Ben"}}, RPO: 24 * time.Hour, RTO: 4 * time.Hour},
			{Name: "shop", Sources: []holdfast.SourceName{"shop-db"}, Stores: []string{"s3"}, Keys: []runbook.Key{{Name: "ops", Holder: "Anna"}}, RPO: 90 * time.Minute, RTO: time.Hour},
		},
		Stores: []runbook.Store{{Name: "main", Kind: "local", Where: "/srv/backups"}, {Name: "s3", Kind: "s3", Where: "s3.fr-par.scw.cloud/acme", OffSite: true}},
	}
}

// minimal has no more than the configuration insists on.
func minimal() runbook.Site {
	return runbook.Site{
		Host: "db1", Config: "/etc/holdfast/holdfast.yaml", Made: day("2026-11-30"), Version: "1.0",
		Volumes: []runbook.Volume{{Name: "pg-data", Device: "/dev/sdb1", Mount: "/srv/pg-data", Filesystem: "ext4", Owner: "postgres", Mode: "0700", Data: "/srv/pg-data/pgdata", Job: "default"}},
		Jobs:    []runbook.Job{{Name: "default", Sources: []holdfast.SourceName{"files"}, Stores: []string{"main"}, Keys: []runbook.Key{{Name: "ops"}}}},
		Stores:  []runbook.Store{{Name: "main", Kind: "local", Where: "/srv/backups"}},
	}
}

func TestGolden(t *testing.T) {
	for name, site := range map[string]runbook.Site{"full": full(), "minimal": minimal(), "empty": {Host: "new1", Made: day("2026-11-30"), Version: "1.0"}} {
		folder := filepath.Join("testdata", name)
		if *update {
			if err := os.RemoveAll(folder); err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(folder, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		var names []string
		for _, file := range runbook.Write(site) {
			names = append(names, file.Name)
			path := filepath.Join(folder, file.Name)
			if *update {
				if err := os.WriteFile(path, file.Text, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if string(want) != string(file.Text) {
				t.Errorf("%s is not what is written now: look at it, and run the test with -update", path)
			}
		}
		want := []string{
			"README.md", "01-architecture.md", "02-set-up.md", "03-migration.md", "04-start-up.md", "05-keys.md", "06-emergency.md", "07-lost-passphrase.md", "08-compromise.md", "09-restore-test.md",
			"10-custodians.md", "11-maintenance.md",
		}
		if !slices.Equal(names, want) {
			t.Errorf("site %s: pages %q, want %q", name, names, want)
		}
	}
}

// unset is where the pages say that something is not configured.
var unset = regexp.MustCompile("\\*\\*not configured\\*\\* \\(set `([^`]+)`\\)")

// keys are those that the pages of a site say are to be set.
func keys(site runbook.Site) map[string]bool {
	found := map[string]bool{}
	for _, file := range runbook.Write(site) {
		for _, match := range unset.FindAllStringSubmatch(string(file.Text), -1) {
			found[match[1]] = true
		}
	}
	return found
}

// TestUnset: what is taken away is named with the key to set; where everything is there, nothing is.
func TestUnset(t *testing.T) {
	if got := keys(full()); len(got) > 0 {
		t.Errorf("a full site lacks %v", got)
	}
	for _, c := range []struct {
		key    string
		remove func(*runbook.Site)
	}{
		{"volumes", func(s *runbook.Site) { s.Volumes = nil }},
		{"jobs", func(s *runbook.Site) { s.Jobs = nil }},
		{"volumes.pg-data.device", func(s *runbook.Site) { s.Volumes[0].Device = "" }},
		{"volumes.pg-data.mount", func(s *runbook.Site) { s.Volumes[0].Mount = "" }},
		{"volumes.pg-data.data", func(s *runbook.Site) { s.Volumes[0].Data = "" }},
		{"volumes.pg-data.job", func(s *runbook.Site) { s.Volumes[0].Job = "" }},
		{"volumes.pg-data.source", func(s *runbook.Site) { s.Volumes[0].Source = "" }},
		{"volumes.pg-data.server.unit", func(s *runbook.Site) { s.Volumes[0].Server.Unit = "" }},
		{"volumes.shop.server.service", func(s *runbook.Site) { s.Volumes[1].Server.Service = "" }},
		{"volumes.pg-data.server.stop", func(s *runbook.Site) { s.Volumes[0].Server.Stop = nil }},
		{"volumes.pg-data.server.start", func(s *runbook.Site) { s.Volumes[0].Server.Start = nil }},
		{"volumes.pg-data.server.health", func(s *runbook.Site) { s.Volumes[0].Server.Health = nil }},
		{"volumes.pg-data.holders", func(s *runbook.Site) { s.Volumes[0].Holders = nil }},
		{"volumes.pg-data.holders", func(s *runbook.Site) { s.Volumes[0].Holders[0].Until = day("2026-11-29") }},
		{"volumes.pg-data.holders[].contact", func(s *runbook.Site) { s.Volumes[0].Holders[1].Contact = "" }},
		{"volumes.pg-data.holders[].since", func(s *runbook.Site) { s.Volumes[0].Holders[1].Since = time.Time{} }},
		{"volumes.pg-data.tell", func(s *runbook.Site) { s.Volumes[0].Tell = nil }},
		{"jobs.app.store", func(s *runbook.Site) { s.Jobs[0].Stores = nil }},
		{"jobs.app.recipients", func(s *runbook.Site) { s.Jobs[0].Keys = nil }},
		{"keys.ops.holder", func(s *runbook.Site) { s.Jobs[0].Keys[0].Holder = "" }},
		{"jobs.app.objectives.rto", func(s *runbook.Site) { s.Jobs[0].RTO = 0 }},
		{"jobs.app.objectives.rpo", func(s *runbook.Site) { s.Jobs[0].RPO = 0 }},
	} {
		site := full()
		c.remove(&site)
		if got := keys(site); !got[c.key] {
			t.Errorf("without %s the pages say %v", c.key, got)
		}
	}
}

// TestNoBlanks: no page has an empty place where a value was to be.
func TestNoBlanks(t *testing.T) {
	blank := regexp.MustCompile("(?m)<no value>|``[^`]|\\*\\*\\*\\*|\\| +\\||\\(\\)|: *\\.$|%!|, ,|[^ |]  +[^ |]")
	bare := runbook.Site{Made: day("2026-11-30"), Volumes: []runbook.Volume{{Name: "pg-data"}}, Jobs: []runbook.Job{{Name: "app"}}}
	bare.Host, bare.Version = "h", "1"
	for name, site := range map[string]runbook.Site{"full": full(), "minimal": minimal(), "bare": bare} {
		for _, file := range runbook.Write(site) {
			code := false
			for number, line := range strings.Split(string(file.Text), "\n") {
				if strings.HasPrefix(strings.TrimSpace(line), "```") {
					code = !code
					continue
				}
				if found := blank.FindString(strings.TrimLeft(line, " ")); found != "" && !code {
					t.Errorf("site %s, %s:%d has a blank %q: %s", name, file.Name, number+1, found, line)
				}
			}
			if code {
				t.Errorf("site %s, %s: a code block does not end", name, file.Name)
			}
		}
	}
}

// fill puts text into every string below v, and makes lists of two.
func fill(v reflect.Value, text string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), text)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			fill(v.Index(i), text)
		}
	}
}

// TestValuesAreText: whatever a value holds, it begins no heading, table, link, tag or command of its own.
func TestValuesAreText(t *testing.T) {
	const hostile = "x|y\n# z <script>alert(1)</script> [a](http://evil.example) *c* _d_ `e` '; rm -rf / #\u202e"
	site := full()
	fill(reflect.ValueOf(&site).Elem(), hostile)
	for i := range site.Volumes { // a role chooses where a holder is named
		site.Volumes[i].Holders[0].Role, site.Volumes[i].Holders[1].Role = "operational", "recovery"
	}
	seen := 0
	for _, file := range runbook.Write(site) {
		code := false
		columns := 0
		for number, line := range strings.Split(string(file.Text), "\n") {
			at := fmt.Sprintf("%s:%d", file.Name, number+1)
			seen += strings.Count(line, "evil")
			if strings.ContainsAny(line, "\u202e") || strings.HasPrefix(line, "# z") {
				t.Errorf("%s: a value turns text round, or begins a line: %s", at, line)
			}
			if strings.HasPrefix(strings.TrimSpace(line), "```") {
				code = !code
				continue
			}
			if code {
				// Within single quotes a shell takes everything as it is; what is left of them must have nothing of the value.
				if rest := regexp.MustCompile(`'[^']*'|\\'`).ReplaceAllString(line, ""); strings.Contains(rest, "rm -rf") {
					t.Errorf("%s: a value is a command: %s", at, line)
				}
				continue
			}
			prose := regexp.MustCompile("`[^`]*`").ReplaceAllString(line, "")
			if found := regexp.MustCompile(`<script|(^|[^\\?])(\[a\]|\*c\*|_d_)`).FindString(prose); found != "" {
				t.Errorf("%s: a value is more than text, %q: %s", at, found, line)
			}
			if strings.Count(line, "`")%2 != 0 {
				t.Errorf("%s: a value ends a span of code: %s", at, line)
			}
			if !strings.HasPrefix(line, "|") {
				columns = 0
				continue
			}
			if n := strings.Count(line, "|"); columns == 0 {
				columns = n
			} else if n != columns {
				t.Errorf("%s: a value makes a cell: %s", at, line)
			}
		}
	}
	if seen < 50 {
		t.Errorf("only %d hostile values are in the pages: this test looks at nothing", seen)
	}
}

// TestSiteStays: writing changes nothing of what was given, and gives the same again.
func TestSiteStays(t *testing.T) {
	site := full()
	first, second := runbook.Write(site), runbook.Write(site)
	if !reflect.DeepEqual(site, full()) {
		t.Error("the site was changed")
	}
	if !reflect.DeepEqual(first, second) {
		t.Error("the same site gives other pages")
	}
}
