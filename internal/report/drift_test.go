package report_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/report"
	"holdfast/internal/source"
)

func facts(list ...source.Fact) source.Facts {
	return source.Facts{Taken: time.Date(2026, 11, 22, 3, 4, 5, 0, time.UTC), Facts: list}
}

func rows(name string, n int64, digest string) source.Fact {
	return source.Fact{Class: "table", Name: name, Rule: source.Exact, Rows: n, Digest: digest}
}

func TestNewLive(t *testing.T) {
	sequence := func(text string) source.Fact {
		return source.Fact{Class: "sequence", Name: "s", Rule: source.Exact, Text: text}
	}
	definition := func(name, digest string) source.Fact {
		return source.Fact{Class: "definition", Name: name, Rule: source.Text, Digest: digest}
	}
	schema := source.Fact{Class: "schema", Name: "TABLE new", Rule: source.Exact, Text: "owner=o"}
	then := facts(rows("grows", 3, "a"), rows("other", 2, "b"), rows("gone", 4, "c"), rows("same", 1, "d"), rows("same2", 1, "e"), sequence("1"), definition("VIEW v", "x"),
		source.Fact{Class: "view", Name: "m", Rule: source.Listed})
	now := facts(rows("grows", 5, "f"), rows("other", 2, "g"), rows("new", 7, "h"), rows("same", 1, "d"), rows("same2", 1, "e"), sequence("2"), definition("VIEW v", "y"), definition("TABLE new", "z"), schema)
	live := report.NewLive("database app", then, now, 1)
	var got []string
	for _, row := range live.Rows {
		got = append(got, row.String())
	}
	want := []string{
		"table gone is gone (4 rows)", "table grows: 3 rows then, 5 now, +2", "table new is new (7 rows)", "table other: 2 rows then, 2 now, other content",
		"table same: 1 rows, the same",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("rows\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	changes := []string{"definition VIEW v: the text changed", "schema TABLE new is new", `sequence s: "1" then, "2" now`}
	if fmt.Sprint(live.Changes) != fmt.Sprint(changes) {
		t.Errorf("changes %q, want %q", live.Changes, changes)
	}
	if live.Unshown != 1 || live.Compared != 7 || live.Same != 2 || live.Drifted() != 7 {
		t.Errorf("unshown %d, compared %d, same %d, drifted %d", live.Unshown, live.Compared, live.Same, live.Drifted())
	}
	if got, want := live.String(), "since the backup, in database app: 2 tables changed, 1 table new, 1 table gone, 3 other changes; 2 of 7 facts are the same"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if lines := live.Lines(3); len(lines) != 4 || lines[3] != "and 4 more" {
		t.Errorf("lines %q", lines)
	}
	if got, want := report.NewLive("database app", then, then, 1).String(), "nothing changed in database app since the backup, all 7 facts are the same"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestLiveIsShownApart: the report has it in both forms, what names in it say is text, and it is no difference.
func TestLiveIsShownApart(t *testing.T) {
	d := &report.Drill{Verdict: holdfast.Proven, Sources: []report.Source{{
		Name: "db", Kind: holdfast.KindPostgres,
		Live: report.NewLive("database app", facts(rows("a|b<script>", 1, "x")), facts(rows("a|b<script>", 2, "y")), 10),
	}, {Name: "other", Kind: holdfast.KindPostgres, Live: &report.Live{Error: "no server answers"}}}}
	page, err := report.HTML(d)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"Markdown": string(report.Markdown(d)), "HTML": string(page)} {
		for _, want := range []string{"Live source, read at 2026-11-22 03:04:05 UTC", "It says nothing about the backup, and fails nothing", "1 table changed", "+1", "the live source was not compared: no server answers"} {
			if !strings.Contains(strings.ReplaceAll(text, "&#43;", "+"), want) {
				t.Errorf("%s lacks %q", name, want)
			}
		}
		if strings.Contains(text, "<script>") {
			t.Errorf("%s lets a name in as it stands", name)
		}
	}
	if failing, texts, _ := d.Differences(); failing != 0 || texts != 0 {
		t.Errorf("%d differences, %d texts", failing, texts)
	}
	encoded, err := json.Marshal(d)
	if err != nil || !strings.Contains(string(encoded), `"then":1,"now":2`) {
		t.Errorf("as JSON: %s, %v", encoded, err)
	}
}
