package survey_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast"
	"holdfast/internal/health"
	"holdfast/internal/survey"
)

// TestSources: what is told of each source is told by the newest backup that holds it, wherever in the row that is.
func TestSources(t *testing.T) {
	h, main, away := newHost(t), newBox(t), newBox(t)
	first := h.backup(t, main, run{time: start, both: true})
	h.drill(t, main, first, start.Add(hour), holdfast.Proven)
	main.copyTo(t, away)
	h.backup(t, main, run{time: start.Add(day), both: true})
	for i := range 3 {
		half := h.backup(t, main, run{time: start.Add(time.Duration(2+i) * day), half: true})
		if i == 1 {
			h.drill(t, main, half, half.Time.Add(hour), holdfast.Proven)
		}
	}
	var s survey.Surveyor
	places, jobs := h.places(main, away, h), []survey.Job{{Name: "app", Stores: []string{"main", "away"}}}
	job := look(t, &s, places, jobs...).Jobs[0]
	dbSize, webSize := job.Backups[4].Items[0].Stored, int64(0)
	for _, item := range job.Backups[1].Items {
		if item.Source == "web" {
			webSize = item.Stored
		}
	}
	want := []health.Source{
		{Name: "db", Good: start.Add(4 * day), Stored: dbSize, OffSite: start, Proven: start.Add(3*day + hour), RTO: 58500 * time.Millisecond},
		{Name: "web", Good: start.Add(day), Stored: webSize, OffSite: start, Proven: start.Add(hour)},
	}
	if diff := cmp.Diff(want, job.Sources(start.Add(5*day))); diff != "" || webSize == 0 {
		t.Errorf("%d bytes of web; -want +got:\n%s", webSize, diff)
	}
	main.reads()
	if look(t, &s, places, jobs...); len(main.reads()) != 0 {
		t.Error("a second look reads again")
	}
}

// TestASourceThatIsNowhere: it is not looked for without end, and neither is one that only names tell of.
func TestASourceThatIsNowhere(t *testing.T) {
	h, main := newHost(t), newBox(t)
	h.backup(t, main, run{time: start, both: true})
	for i := range 40 {
		h.backup(t, main, run{time: start.Add(time.Duration(1+i) * hour), half: true})
	}
	main.reads()
	job := app(t, h.places(main, nil, h))
	if n := len(main.reads()); n > 31 {
		t.Errorf("%d manifests are read", n)
	}
	if s := job.Sources(start.Add(3 * day)); len(s) != 2 || !s[0].Good.Equal(start.Add(40*hour)) {
		t.Errorf("told are %+v", s)
	}
	stranger := newHost(t)
	for i := range 20 {
		stranger.backup(t, main, run{time: start.Add(time.Duration(50+i) * hour), half: true})
	}
	main.reads()
	app(t, h.places(main, nil, h))
	if n := len(main.reads()); n > 11 { // the complete one, and five of the false ones twice
		t.Errorf("%d manifests are read behind false ones", n)
	}
}
