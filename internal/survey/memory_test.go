package survey_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast"
	"holdfast/internal/survey"
)

// TestNothingIsReadTwice: manifests and verdicts do not change, so a later look reads the new ones alone.
func TestNothingIsReadTwice(t *testing.T) {
	h, main, away := newHost(t), newBox(t), newBox(t)
	for i := range 7 {
		entry := h.backup(t, main, run{time: start.Add(time.Duration(i) * day)})
		if i == 3 {
			h.drill(t, main, entry, entry.Time.Add(hour), holdfast.Proven)
			h.drill(t, main, entry, entry.Time.Add(2*hour), holdfast.Failed)
		}
	}
	main.copyTo(t, away)
	main.reads()
	var s survey.Surveyor
	places, jobs := h.places(main, away, h), []survey.Job{{Name: "app", Stores: []string{"main", "away"}}}
	first := look(t, &s, places, jobs...)
	if n := len(main.reads()); n != 7+2+2 { // each manifest, and of two verdicts the manifest and the verdict
		t.Errorf("the first look reads %d objects", n)
	}
	second := look(t, &s, places, jobs...)
	if names := main.reads(); len(names) != 0 {
		t.Errorf("the second look reads %q", names)
	}
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("it finds something else:\n%s", diff)
	}
	entry := h.backup(t, main, run{time: start.Add(7 * day)})
	main.reads()
	third := look(t, &s, places, jobs...)
	if names := main.reads(); len(names) != 1 || !strings.Contains(names[0], string(entry.ID)) {
		t.Errorf("with one backup more, what is read is %q", names)
	}
	if newest, _ := third.Jobs[0].Newest(); newest.ID != entry.ID || len(newest.Items) != 1 {
		t.Errorf("the newest is %+v", newest)
	}
	if names := away.reads(); len(names) != 0 {
		t.Errorf("of the mirror, what the first store has as well is read: %q", names)
	}
}

// TestHourly: of 168 backups of a week about 30 are compared, and mostly the same ones an hour later.
func TestHourly(t *testing.T) {
	h, main := newHost(t), newBox(t)
	const week = 7 * 24
	for i := range week {
		h.backup(t, main, run{kind: "hourly", time: start.Add(time.Duration(i) * hour)})
	}
	h.backup(t, main, run{time: start.Add(30 * time.Minute)}) // of another kind
	var s survey.Surveyor
	places := h.places(main, nil, h)
	main.reads()
	job := look(t, &s, places).Jobs[0]
	if n := len(main.reads()); n < 25 || n > 31 {
		t.Errorf("the first look reads %d manifests", n)
	}
	known := 0
	for _, b := range job.Backups {
		if len(b.Items) > 0 {
			known++
		}
		if len(b.Items) > 0 && b.Kind != "hourly" {
			t.Errorf("one of another kind was read: %+v", b)
		}
	}
	if known < 25 || known > 31 {
		t.Errorf("the items of %d backups are known", known)
	}
	total := 0
	for i := range 48 {
		h.backup(t, main, run{kind: "hourly", time: start.Add(time.Duration(week+i) * hour)})
		main.reads()
		look(t, &s, places)
		n := len(main.reads())
		if n > 3 {
			t.Errorf("hour %d: a look reads %d manifests", i, n)
		}
		total += n
	}
	if n := s.Remembered(); n > 31 {
		t.Errorf("%d manifests are remembered", n)
	}
	if total > 2*48+2 {
		t.Errorf("in two days %d manifests are read", total)
	}
}

// BenchmarkLook looks at 5,000 backups of one job, first and again.
func BenchmarkLook(b *testing.B) {
	h, main := newHost(b), newBox(b)
	const total, whole = 5000, 200
	for i := range whole { // the newest can be read, the others are names
		entry := h.backup(b, main, run{kind: "hourly", time: start.Add(-time.Duration(i) * hour)})
		if i%50 == 0 {
			h.drill(b, main, entry, entry.Time.Add(time.Minute), holdfast.Proven)
		}
	}
	for i := range total - whole {
		at := start.Add(-time.Duration(whole+i) * hour).Format("20060102T150405Z")
		if err := main.Put(b.Context(), fmt.Sprintf("commits/app/%s.%s.hourly.complete.age.4711.json", at, holdfast.NewBackupID()), bytes.NewReader(nil)); err != nil {
			b.Fatal(err)
		}
	}
	places := h.places(main, nil, h)
	for _, again := range []bool{false, true} {
		b.Run(fmt.Sprintf("again=%t", again), func(b *testing.B) {
			b.ReportAllocs()
			var s survey.Surveyor
			if again {
				look(b, &s, places)
			}
			for b.Loop() {
				if !again {
					s = survey.Surveyor{}
				}
				if job := look(b, &s, places).Jobs[0]; len(job.Backups) != total || len(job.Proofs) == 0 {
					b.Fatalf("%d backups, %d proofs", len(job.Backups), len(job.Proofs))
				}
			}
			main.reads()
		})
	}
}
