package report_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/report"
	"holdfast/internal/source"
)

var start = time.Date(2026, 7, 3, 12, 0, 0, 0, time.UTC)

// failed is a drill in which everything went wrong that can.
func failed() *report.Drill {
	d := &report.Drill{
		Verdict: holdfast.Failed, Who: "anna", Host: "drill-1", Version: "1.0.0", Started: start, Finished: start.Add(90 * time.Second),
		Next: start.AddDate(0, 0, 90),
		Backup: report.Backup{
			ID: "aaaaaaaaaa", Job: "app", Host: "web-1", Time: start.Add(-26 * time.Hour), Reason: "before release 4", Stored: 1_500_000,
			Plain: 12_000_000, Digest: strings.Repeat("ab", 32), Signer: "SHA256:xyz", Missing: []string{"etc (files, failed)"},
		},
		Phases: []report.Phase{{Name: "open", Elapsed: 200 * time.Millisecond}, {Name: "restore app", Elapsed: 80 * time.Second}},
		Sources: []report.Source{
			{
				Name: "app", Kind: holdfast.KindPostgres, Started: true, Compared: 3, Unshown: 7,
				Rows: []report.Row{
					{Class: "table", Name: "public.users", Stored: 10, Restored: 10, Unit: "rows", Same: true},
					{Class: "table", Name: "public.operations", Stored: 1000, Restored: 210, Unit: "rows"},
					{Class: "table", Name: "public.notes", Stored: 5, Restored: 5, Unit: "rows"},
				},
				Differences: []string{"table public.operations: 1000 rows stored, 210 restored", "table public.notes: same counts, other content"},
				Texts:       []string{"definition VIEW public.v: text differs"}, Listed: []string{"materialized view public.m: refreshed"},
				Exclusions: []string{"table data of public.logs"}, Notes: []string{"transaction_timeout was left out"},
				Properties: map[string]string{"server_version": "16.3"},
				Assertions: []report.Assertion{
					{Name: "users", Query: "select count(*) > 0 from users", Result: report.Passed},
					{Name: "fresh", Query: "select false", Result: report.Failed, Detail: "the query's first value is not true"},
					{Name: "odd", Query: "select 1", Result: report.Unknown, Detail: "no such program"},
				},
			},
			{Name: "auth", Kind: holdfast.KindSQLite, Error: "cannot test: no room", Hint: "make room", CannotTest: true, Leftover: "the folder is busy"},
			{Name: "keys", Kind: holdfast.KindFiles, Secret: true, Started: true, Compared: 2, Error: "difference found: keys.tar.zst.age is gone", Damaged: true},
		},
		Opted: []string{"a scratch folder on a plain disk was allowed"},
	}
	d.Checks = []report.Check{
		{Name: "integrity", Result: report.Failed, Detail: "keys.tar.zst.age is gone"},
		report.Gather("secrets", d.Sources, func(s report.Source) bool { return s.Secret }),
		report.Gather("data", d.Sources, func(s report.Source) bool { return !s.Secret }),
		report.GatherStart(d.Sources), report.GatherHealth(d.Sources), report.GatherAssertions(d.Sources),
	}
	for _, src := range d.Sources {
		d.Issues = append(d.Issues, src.Issues()...)
	}
	d.Issues = append(d.Issues, d.Opted...)
	return d
}

// link is a bracket that no backslash takes the meaning from.
var link = regexp.MustCompile(`(^|[^\\])\[`)

func html(t *testing.T, d *report.Drill) string {
	t.Helper()
	page, err := report.HTML(d)
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

var tags = regexp.MustCompile(`<[^>]*>`)

// shown is the text of a page.
func shown(page string) string {
	return strings.NewReplacer("&#39;", "'", "&#34;", `"`, "&gt;", ">", "&lt;", "<", "&#43;", "+", "&amp;", "&").Replace(tags.ReplaceAllString(page, ""))
}

func TestBothFormsTellAll(t *testing.T) {
	d := failed()
	unescaped := strings.NewReplacer(`\*`, "*", `\[`, "[", "**", "").Replace(string(report.Markdown(d)))
	for form, text := range map[string]string{"markdown": unescaped, "html": shown(html(t, d))} {
		want := []string{
			"Drill of backup aaaaaaaaaa: FAILED", report.Meaning(holdfast.Failed), "anna on drill-1, holdfast 1.0.0", "2026-07-03 12:00:00 UTC",
			"job app, host web-1, 2026-07-02 10:00:00 UTC", "12.0 MB, stored as 1.5 MB", strings.Repeat("ab", 32), "signer not checked: SHA256:xyz",
			"1m20s", "26h0m0s", "2026-10-01", "before release 4", "public.users", "10 rows", "210", "-790", "other content",
			"And 7 more that were compared and are the same.", "definition VIEW public.v: text differs", "materialized view public.m: refreshed",
			"table data of public.logs", "transaction_timeout was left out", "server_version: 16.3", "fresh: failed (select false)",
			"1 of 3 hold", "left behind: the folder is busy",
		}
		want = append(want, d.Issues...)
		for _, line := range want {
			if !strings.Contains(text, line) {
				t.Errorf("%s does not say %q:\n%s", form, line, text)
			}
		}
		for _, check := range d.Checks {
			if !strings.Contains(text, check.Name) || !strings.Contains(text, string(check.Result)) {
				t.Errorf("%s lacks the check %+v", form, check)
			}
		}
	}
}

// Names come from the data. None of them may become markup, leave its line or cell, or reach out of the report.
func TestHostileNames(t *testing.T) {
	hostile := []string{
		"<script>alert(1)</script>", `<img src=x onerror="alert(1)">`, "a|b|c", "one\ntwo", "cr\rlf", "nul\x00", "![x](http://evil/x.png)",
		"[click](http://evil)", "`code`", "**bold**", "\u202eltr", "line\u2028separator", `back\slash\|pipe`, "</table></body>", "&lt;b&gt;", "{{.Who}}",
	}
	for _, name := range hostile {
		t.Run(fmt.Sprintf("%q", name), func(t *testing.T) {
			clean, d := failed(), failed()
			d.Issues = append(d.Issues, "app: table "+name)
			d.Phases[1].Name = "restore " + name
			d.Checks[0].Detail = name
			d.Backup.Reason = name
			src := &d.Sources[0]
			src.Rows[1].Name, src.Rows[1].Class, src.Differences[0], src.Texts[0], src.Notes[0] = name, name, name, name, name
			src.Properties, src.Assertions[1].Query, src.Exclusions[0], src.Listed[0] = map[string]string{name: name}, name, name, name
			d.Sources[1].Error = name
			clean.Issues = append(clean.Issues, "app: table x")

			markdown, plain := string(report.Markdown(d)), string(report.Markdown(clean))
			if got, want := strings.Count(markdown, "\n"), strings.Count(plain, "\n"); got != want {
				t.Errorf("the Markdown has %d lines, want %d", got, want)
			}
			if got, want := strings.Count(markdown, "|"), strings.Count(plain, "|"); got != want {
				t.Errorf("the Markdown has %d bars, want %d", got, want)
			}
			for _, bad := range []string{"<script", "<img", "</table", "\r", "\x00", "\u202e", "\u2028"} {
				if strings.Contains(markdown, bad) {
					t.Errorf("the Markdown contains %q", bad)
				}
			}
			if link.MatchString(markdown) {
				t.Error("the Markdown contains a link")
			}
			page, cleanPage := html(t, d), html(t, clean)
			if got, want := strings.Count(page, "<"), strings.Count(cleanPage, "<"); got != want {
				t.Errorf("the page has %d tags, want %d", got, want)
			}
			for _, bad := range []string{"\r", "\x00", "\u202e", "\u2028"} {
				if strings.Contains(page, bad) {
					t.Errorf("the page contains %q", bad)
				}
			}
		})
	}
}

func TestPageStandsAlone(t *testing.T) {
	page := html(t, failed())
	for _, outside := range []string{"http:", "https:", "src=", "@import", "url(", "<script"} {
		if strings.Contains(page, outside) {
			t.Errorf("the page refers to something outside: %s", outside)
		}
	}
}

func TestProvenReport(t *testing.T) {
	d := &report.Drill{Verdict: holdfast.Proven, Backup: report.Backup{ID: "aaaaaaaaaa", Signer: "SHA256:xyz", SignerTrusted: true}}
	for form, text := range map[string]string{"markdown": string(report.Markdown(d)), "html": shown(html(t, d))} {
		for _, want := range []string{"PROVEN", "None.", "SHA256:xyz (checked)"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s does not say %q", form, want)
			}
		}
	}
	if got := report.Meaning(holdfast.CannotTest); !strings.Contains(got, "says nothing about the backup") {
		t.Errorf("a drill that could not be made means %q", got)
	}
}

func TestDetailsSurviveJSON(t *testing.T) {
	data, err := json.Marshal(failed())
	if err != nil {
		t.Fatal(err)
	}
	var back report.Drill
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(report.Markdown(&back), report.Markdown(failed())) {
		t.Error("the report of what was stored is another one")
	}
}

func TestChecks(t *testing.T) {
	d := failed()
	for _, c := range []struct {
		check report.Check
		want  string
	}{
		{d.Checks[1], "secrets failed keys (2 facts)"},
		{d.Checks[2], "data failed app (3 facts), auth (0 facts)"},
		{d.Checks[3], "start not tested 2 of 3 throwaways stood"},
		{d.Checks[4], "health not tested auth was not restored"},
		{d.Checks[5], "assertions failed 1 of 3 hold"},
		{report.Gather("config", d.Sources, func(report.Source) bool { return false }), "config none "},
		{report.GatherHealth(nil), "health none nothing was restored"},
		{report.GatherHealth([]report.Source{{Kind: holdfast.KindFiles}}), "health none no database in this backup"},
		{report.GatherAssertions(nil), "assertions none none configured"},
	} {
		if got := fmt.Sprintf("%s %s %s", c.check.Name, c.check.Result, c.check.Detail); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestRows(t *testing.T) {
	var stored, restored []source.Fact
	for i := range 5 {
		fact := source.Fact{Class: "file", Name: fmt.Sprint(i), Rule: source.Exact, Bytes: 10, Digest: "aa"}
		stored = append(stored, fact)
		if i == 4 {
			fact.Digest = "bb"
		}
		if i != 3 {
			restored = append(restored, fact)
		}
	}
	stored = append(stored,
		source.Fact{Class: "table", Name: "t", Rule: source.Exact, Rows: 3, Bytes: 30, Digest: "cc"},
		source.Fact{Class: "definition", Name: "v", Rule: source.Text, Digest: "dd"},
		source.Fact{Class: "schema", Name: "s", Rule: source.Exact, Text: "owner"},
	)
	restored = append(restored, source.Fact{Class: "table", Name: "t", Rule: source.Exact, Rows: 3, Bytes: 30, Digest: "cc"})
	rows, unshown := report.Rows(stored, restored, 2)
	var got []string
	for _, row := range rows {
		got = append(got, fmt.Sprintf("%s %s %d %d %s %s", row.Class, row.Name, row.Stored, row.Restored, row.Unit, row.Difference()))
	}
	want := []string{"file 0 10 10 bytes none", "file 1 10 10 bytes none", "file 3 10 0 bytes -10", "file 4 10 10 bytes other content", "table t 3 3 rows none"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") || unshown != 1 {
		t.Errorf("%d unshown, rows:\n%s\nwant:\n%s", unshown, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1: "1 B", 999: "999 B", 1000: "1.0 kB", 1500: "1.5 kB", 999_499: "999.5 kB", 999_999: "1.0 MB", 1_000_000: "1.0 MB",
		12_345_678: "12.3 MB", 5_000_000_000: "5.0 GB", 7_000_000_000_000: "7.0 TB", 1 << 62: "4611.7 PB",
	} {
		if got := report.Size(n); got != want {
			t.Errorf("Size(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.0 s", 80 * time.Millisecond: "0.1 s", 59*time.Second + 900*time.Millisecond: "59.9 s", 59*time.Second + 960*time.Millisecond: "1m0s", time.Minute: "1m0s",
		90*time.Second + 400*time.Millisecond: "1m30s", 26 * time.Hour: "26h0m0s", 72 * time.Hour: "3 days",
	} {
		if got := report.Span(d); got != want {
			t.Errorf("Span(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestTimes(t *testing.T) {
	d := failed()
	if d.RTO() != 80200*time.Millisecond || d.RPO() != 26*time.Hour {
		t.Errorf("RTO %v, RPO %v", d.RTO(), d.RPO())
	}
	d.Started = d.Backup.Time.Add(-time.Second)
	if d.RPO() != 0 {
		t.Errorf("RPO of a backup from the future: %v", d.RPO())
	}
	failing, texts, compared := d.Differences()
	if failing != 2 || texts != 1 || compared != 5 {
		t.Errorf("%d differences, %d texts, %d compared", failing, texts, compared)
	}
}
