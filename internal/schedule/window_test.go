package schedule_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/schedule"
)

func TestWindow(t *testing.T) {
	for _, test := range []struct{ text, at, until string }{
		{"0 22 * * sat for 6h", "2026-07-04T21:59:59+02:00", ""},
		{"0 22 * * sat for 6h", "2026-07-04T22:00:00+02:00", "2026-07-05T04:00:00+02:00"},
		{"0 22 * * sat for 6h", "2026-07-05T03:59:59+02:00", "2026-07-05T04:00:00+02:00"},
		{"0 22 * * sat for 6h", "2026-07-05T04:00:00+02:00", ""},
		{"@daily for 90m", "2026-07-05T01:00:00+02:00", "2026-07-05T01:30:00+02:00"},
		// Real time: over a change of the clock as long as ever.
		{"0 22 * * sat for 6h", "2026-03-29T04:30:00+02:00", "2026-03-29T05:00:00+02:00"},
		{"0 22 * * sat for 6h", "2026-10-25T02:30:00+01:00", "2026-10-25T03:00:00+01:00"},
		{"0 22 * * sat for 6h", "2026-10-25T03:00:00+01:00", ""},
		// One that began again.
		{"0 8,9 * * * for 2h", "2026-07-05T08:30:00+02:00", "2026-07-05T10:00:00+02:00"},
		{"0 8,9 * * * for 2h", "2026-07-05T09:00:00+02:00", "2026-07-05T11:00:00+02:00"},
	} {
		w, err := schedule.ParseWindow(test.text)
		if err != nil {
			t.Fatal(err)
		}
		at, err := time.Parse(time.RFC3339, test.at)
		if err != nil {
			t.Fatal(err)
		}
		until, open := w.Open(at, berlin)
		if open != (test.until != "") || open && until.Format(time.RFC3339) != test.until || !open && !until.IsZero() {
			t.Errorf("%q at %s: %v until %v, want %q", test.text, test.at, open, until, test.until)
		}
	}
	if until, open := (schedule.Window{}).Open(date(2026, 7, 5), berlin); open || !until.IsZero() {
		t.Error("the zero Window is open")
	}
}

func TestWindowString(t *testing.T) {
	for text, want := range map[string]string{
		" 0 22  * * sat  for 6h ": "0 22 * * sat for 6h",
		"@daily for 90m":          "@daily for 1h30m",
		"@daily for 1m":           "@daily for 1m",
		"@daily for 10m":          "@daily for 10m",
		"@daily for 1h0m20s":      "@daily for 1h0m20s",
		"@daily for 1.5h":         "@daily for 1h30m",
		"@weekly for 48h":         "@weekly for 2d",
		"@weekly for 36h":         "@weekly for 36h",
		"@weekly for 7d":          "@weekly for 7d",
		"@weekly for 168h":        "@weekly for 7d",
	} {
		w, err := schedule.ParseWindow(text)
		if err != nil {
			t.Error(err)
			continue
		}
		if w.String() != want {
			t.Errorf("%q is shown as %q, want %q", text, w, want)
		}
		if again, err := schedule.ParseWindow(w.String()); err != nil || again != w {
			t.Errorf("%q is read as %v: %v", w, again, err)
		}
	}
}

func TestParseWindowRefuses(t *testing.T) {
	for _, test := range []struct{ text, says, hint string }{
		{"", "does not say how long", `"0 22 * * sat for 6h"`},
		{"@daily", "does not say how long", "for how long"},
		{"for 6h", "does not say how long", "for how long"},
		{"@daily for 6 h", "does not say how long", "for how long"},
		{"@daily for", "does not say how long", "for how long"},
		{"never for 6h", "never begins", "leave it out"},
		{"manual for 6h", "never begins", "leave it out"},
		{"0 25 * * * for 6h", `hour "25": 25 is out of range, 0-23`, ""},
		{"0 0 * * fri-mon for 6h", "runs backwards", "write fri-sat,sun-mon"},
		{"@daily for 6", `"6" is no duration`, "90m, 6h or 2d"},
		{"@daily for xd", `"xd" is no duration`, "90m"},
		{"@daily for 59s", "length 59s is out of range, 1m to 7d", "90m"},
		{"@daily for -6h", "out of range", "90m"},
		{"@daily for 0d", "out of range", "90m"},
		{"@daily for 168h1s", "out of range", "90m"},
		{"@daily for 8d", "out of range", "90m"},
		{"@daily for 79698071462200d", "out of range", "90m"}, // in nanoseconds the last 64 bits of this are in range
		{"@daily for 99999999999999999999d", "out of range", "90m"},
	} {
		w, err := schedule.ParseWindow(test.text)
		if !errors.Is(err, holdfast.ErrUsage) || w != (schedule.Window{}) {
			t.Errorf("%q: %v, %v", test.text, w, err)
			continue
		}
		said, hint := holdfast.Sentence(err), holdfast.Hint(err)
		if !strings.HasPrefix(said, "window \"") || !strings.Contains(said, test.says) || !strings.Contains(hint, test.hint) {
			t.Errorf("%q: %s; %s", test.text, said, hint)
		}
	}
}

func FuzzParseWindow(f *testing.F) {
	for _, text := range []string{"0 22 * * sat for 6h", "@daily for 90m", "@weekly for 7d", "@daily for 1h0m0.5s", "never for 1h", "for for for", "@daily for 1µs"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		w, err := schedule.ParseWindow(text)
		if err != nil {
			if !errors.Is(err, holdfast.ErrUsage) {
				t.Fatalf("not a mistake of usage: %v", err)
			}
			return
		}
		if again, err := schedule.ParseWindow(w.String()); err != nil || again != w {
			t.Fatalf("%q is %q, which is read as %+v: %v", text, w, again, err)
		}
		began := w.Start.Next(date(2026, 7, 1), berlin)
		if until, open := w.Open(began, berlin); !open || until.Sub(began) != w.Length {
			t.Fatalf("%q: open %v from %v until %v", text, open, began, until)
		}
	})
}
