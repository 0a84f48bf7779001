package report_test

import (
	"flag"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"holdfast/internal/report"
)

var update = flag.Bool("update", false, "write the reports of testdata anew")

// lacking is a site with something missing, an incident, and nothing known of a second volume.
func lacking() report.GDPR {
	g := site()
	g.Stores[1].Transit = ""
	g.Volumes[0].Slots = g.Volumes[0].Slots[:1]
	g.Volumes[0].Holders[1].Contact = ""
	g.Volumes = append(g.Volumes, report.GDPRVolume{Name: "archive", Device: "/srv/archive.img", Mount: "/srv/archive", Data: "/srv/archive/pgdata", State: "missing", Error: "there is no /srv/archive.img"})
	g.Records = append(g.Records, record("10", "2026-11-20", "VOLUME_UNLOCK", "pg-data", result("failed")), record("11", "2026-11-21", "RESTORE", "", on("desk")))
	g.Unseen = []report.GDPRUnseen{{What: "store box", Why: "no route to host", Fix: "make the report again when it can be reached"}}
	g.Jobs[0].Stores, g.Jobs[0].Unread, g.Volumes[0].Unread = append(g.Jobs[0].Stores, "box"), []string{"store box"}, []string{"store box"}
	g.Volumes[0].GuardError = "look below the volume at /srv/pg: operation not permitted"
	g.Chains[0].Problem = "record 3 does not follow the one before it: one of the two was changed"
	return g
}

func TestGDPRGolden(t *testing.T) {
	html, err := report.GDPRHTML(lacking())
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string][]byte{"testdata/gdpr.md": report.GDPRMarkdown(lacking()), "testdata/gdpr.html": html} {
		if *update {
			if err := os.WriteFile(name, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s is not what is rendered now: look at it, and run the test with -update", name)
		}
	}
}

// dated are the days that the page keeps on one line.
var dated = regexp.MustCompile(`\d{4}-\d{2}-\d{2}`)

// TestGDPRSaysWhatIsMissing: each missing thing is at the head and in its line, bold or in red.
func TestGDPRSaysWhatIsMissing(t *testing.T) {
	g := lacking()
	text := string(report.GDPRMarkdown(g))
	page, err := report.GDPRHTML(g)
	if err != nil {
		t.Fatal(err)
	}
	if len(g.Missing()) < 8 {
		t.Fatalf("only %q are missing", texts(g))
	}
	for _, missing := range texts(g) {
		if !strings.Contains(text, "- **"+missing+"** (serves article ") || !strings.Contains(text, "**Missing: "+missing+"** |") {
			t.Errorf("the Markdown does not have %q twice", missing)
		}
		if !strings.Contains(string(page), "<li>"+dated.ReplaceAllString(missing, "<time>$0</time>")+" <span>(serves article ") || !strings.Contains(string(page), `<div class="missing">Missing: `+dated.ReplaceAllString(missing, "<time>$0</time>")+"</div>") {
			t.Errorf("the page does not have %q twice", missing)
		}
	}
	whole, err := report.GDPRHTML(site())
	if err != nil {
		t.Fatal(err)
	}
	if marked := regexp.MustCompile(`<div class="(missing|unseen)|(Missing|Not seen): |What could not be seen`); marked.Match(whole) || marked.Match(report.GDPRMarkdown(site())) {
		t.Error("something is missing from a site that lacks nothing, or was not seen")
	}
	if percent := regexp.MustCompile(`\d ?%|(?i)score|compliant|complies`); percent.MatchString(text) {
		t.Errorf("the report judges: %q", percent.FindString(text))
	}
}

// fill puts text into every string below v.
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

// TestGDPRNamesAreText: whatever a name, an address or a reason holds, it stays text, in its cell.
func TestGDPRNamesAreText(t *testing.T) {
	const hostile = "x|y\n# z <script>alert(1)</script> [a](http://evil.example) ![b](http://evil.example/b.png) *c* `d`\u202e"
	filled := lacking()
	fill(reflect.ValueOf(&filled).Elem(), hostile)
	g := filled
	for i, u := range lacking().Unseen {
		g.Unseen[i].Fix = u.Fix // what to do is the program's own text
	}
	g.Records = lacking().Records // its words choose what is told; the others are text
	for i := range g.Records {
		g.Records[i].Who, g.Records[i].Host, g.Records[i].Address, g.Records[i].Reason, g.Records[i].Detail, g.Records[i].ID = hostile, hostile, hostile, hostile, hostile, hostile
	}
	page, err := report.GDPRHTML(g)
	if err != nil {
		t.Fatal(err)
	}
	text := string(report.GDPRMarkdown(g))
	if unescaped := regexp.MustCompile("<script|(?m)^# z|\u202e|`d`|(^|[^\\\\])(\\[a\\]|\\*c\\*)"); unescaped.MatchString(text) {
		t.Errorf("the Markdown holds %q", unescaped.FindString(text))
	}
	for number, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "|") && strings.Count(line, "|") != 5 {
			t.Errorf("line %d has a cell too many: %s", number+1, line)
		}
	}
	if strings.Contains(string(page), "<script") || strings.Contains(string(page), "\u202e") {
		t.Error("the page holds a script, or turns text round")
	}
	if n := strings.Count(string(page), "script&gt;"); n < 20 {
		t.Errorf("only %d hostile names are on the page: this test looks at nothing", n)
	}
}

// TestGDPRPageStandsAlone: it loads nothing, and links nowhere.
func TestGDPRPageStandsAlone(t *testing.T) {
	page, err := report.GDPRHTML(lacking())
	if err != nil {
		t.Fatal(err)
	}
	if outside := regexp.MustCompile(`(?i)(src|href|action|url)\s*[=(]|@import|https?://|<script|<link|<iframe`); outside.Match(page) {
		t.Errorf("the page reaches out: %s", outside.Find(page))
	}
}

// TestGDPRCausesStandOnce: why something was not seen, and what is wrong with a chain, is told once; whatever leans on it refers to that.
func TestGDPRCausesStandOnce(t *testing.T) {
	g := lacking()
	page, err := report.GDPRHTML(g)
	if err != nil {
		t.Fatal(err)
	}
	for _, cause := range []string{"no route to host", "operation not permitted", "there is no /srv/archive.img", "record 3 does not follow"} {
		for form, text := range map[string]string{"Markdown": string(report.GDPRMarkdown(g)), "page": string(page)} {
			if n := strings.Count(text, cause); n != 1 {
				t.Errorf("the %s has %q %d times", form, cause, n)
			}
		}
	}
}

// TestGDPRTellsWhatWasNotSeen: at the head with its cause and what to do, and in the lines that it leaves open.
func TestGDPRTellsWhatWasNotSeen(t *testing.T) {
	page, err := report.GDPRHTML(lacking())
	if err != nil {
		t.Fatal(err)
	}
	text := string(report.GDPRMarkdown(lacking()))
	for _, want := range []string{
		"\n## What could not be seen\n", "\n- **store box:** no route to host. To do: make the report again when it can be reached\n",
		"\n- **guard of volume pg-data:** look below the volume at /srv/pg: operation not permitted. To do: `holdfast volume status pg-data` as root\n",
		"\n- left open by that: volume pg-data: backup of the header; ", "| volume pg-data: guard | not seen. **Not seen: the bare mount point could not be looked at** |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the Markdown lacks %q", want)
		}
	}
	for _, want := range []string{
		"<h2>What could not be seen</h2>", "<li>store box: <span>no route to host. To do: make the report again when it can be reached</span></li>",
		`<li>left open by that: <span>volume pg-data: backup of the header; `, `<td>not seen<div class="unseen">Not seen: the bare mount point could not be looked at</div></td>`,
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	blind := site()
	blind.JournalError = "permission denied"
	if text := string(report.GDPRMarkdown(blind)); !strings.Contains(text, "\nNothing that is looked for here, of what could be seen.\n") {
		t.Error("where something could not be seen, nothing is said to be missing at all")
	}
}

// TestGDPRPageIsReadable: commands are code, days stay on one line, a narrow page scrolls its tables, and print has no box that cannot be broken.
func TestGDPRPageIsReadable(t *testing.T) {
	bytes, err := report.GDPRHTML(lacking())
	if err != nil {
		t.Fatal(err)
	}
	page := string(bytes)
	for _, want := range []string{
		"To do: <code>holdfast volume key add pg-data</code></span>", "set <code>volumes.archive.tell</code>", "<td><time>2026-11-20 09:00 UTC</time>, anna via sudo@web1", "<p>From <time>2026-09-01</time> to <time>2026-11-30</time>",
		"time { white-space: nowrap }", "min-width: 44rem", ".scroll { overflow: visible }", "header + h2 { break-after: auto }",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(page, "`") {
		t.Error("a command stands between backticks")
	}
}

// TestGDPRSectionsAreNeverBare: a part without a line says why.
func TestGDPRSectionsAreNeverBare(t *testing.T) {
	for name, g := range map[string]report.GDPR{"empty": {}, "no job": {Stores: site().Stores}, "no store": {Jobs: []report.GDPRJob{{Name: "app"}}}} {
		for _, s := range g.Sections() {
			if len(s.Lines) == 0 && s.Note == "" {
				t.Errorf("%s: %q is bare", name, s.Title)
			}
		}
	}
}
