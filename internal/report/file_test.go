package report_test

import (
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/report"
)

func ofFile(verdict holdfast.Verdict) *report.Drill {
	made := time.Date(2026, 11, 21, 2, 0, 0, 0, time.UTC)
	return &report.Drill{
		Verdict: verdict, Who: "anna", Host: "drill-1", Version: "1.0.0", Started: made.Add(26 * time.Hour),
		File: &report.File{
			Path: "/old/app|<b>.sql.gz\u202e", What: "SQL, gzip, openssl", Size: 1000, SHA256: "abc123", Plain: 9000, Made: made,
			From: "PostgreSQL 15.14, by pg_dump 15.14", Unauthenticated: true, Holds: "5 rows in 2 tables", Imported: "backup hsj28mr7e2 of job old",
		},
		Sources: []report.Source{{Name: "file", Kind: holdfast.KindPostgres, Told: true, Compared: 1, Rows: []report.Row{
			{Class: "table", Name: "public.t", Stored: 3, Restored: 3, Unit: "rows", Same: true},
			{Class: "table", Name: "public.u", Restored: 2, Unit: "rows", Same: true, Untold: true},
		}}},
	}
}

// TestReportOfFile: a file is named with its digest, and nothing is claimed that was not recorded.
func TestReportOfFile(t *testing.T) {
	for verdict, claim := range map[holdfast.Verdict]string{
		holdfast.Restores:   "Nothing was recorded when it was made, so nobody can say what is missing from it.",
		holdfast.Failed:     "The file does not restore, or not to what it says of itself.",
		holdfast.CannotTest: "This says nothing about the file",
	} {
		d := ofFile(verdict)
		for form, text := range map[string]string{"markdown": string(report.Markdown(d)), "html": html(t, d)} {
			for _, want := range []string{
				strings.ToUpper(string(verdict)), claim, "abc123", "SQL, gzip, openssl", "2026-11-21 02:00:00 UTC", "PostgreSQL 15.14, by pg_dump 15.14",
				"5 rows in 2 tables", "hsj28mr7e2", "openssl enc does not notice changed bytes", "in the file", "not told", "26h0m0s", "1 compared with what the file says of itself",
			} {
				if !strings.Contains(text, want) {
					t.Errorf("%s, %s: it does not say %q", verdict, form, want)
				}
			}
			for _, bad := range []string{"<b>", "\u202e", "PROVEN", "manifest SHA-256"} {
				if strings.Contains(text, bad) {
					t.Errorf("%s, %s: it says %q", verdict, form, bad)
				}
			}
		}
	}
}
