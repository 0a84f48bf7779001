package survey_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/health"
	"holdfast/internal/survey"
)

// TestLook holds all that is found of an ordinary job against what was made.
func TestLook(t *testing.T) {
	h, main, away := newHost(t), newBox(t), newBox(t)
	first := h.backup(t, main, run{time: start, took: 5 * time.Minute})
	main.copyTo(t, away)
	second := h.backup(t, main, run{time: start.Add(day), took: time.Minute, items: map[string]int{"db.sql": 3000, "other.sql": 0}})
	half := h.backup(t, main, run{time: start.Add(day + hour), half: true, kind: "hourly"})
	h.verify(t, away, first, start.Add(3*day), true)
	h.drill(t, main, first, start.Add(2*day), holdfast.Proven)

	found := look(t, &survey.Surveyor{}, h.places(main, away, h), survey.Job{Name: "app", Stores: []string{"main", "away"}})
	job := found.Jobs[0]
	stored := func(entry archive.Entry, name string) int64 {
		for _, item := range h.open(t, main, entry).Manifest.Items {
			if item.Name == name {
				return item.StoredSize
			}
		}
		t.Fatalf("%s has no %s", entry.ID, name)
		return 0
	}
	slices.SortFunc(job.Backups[1].Items, func(x, y health.Item) int { return strings.Compare(x.Name, y.Name) })
	db := []holdfast.SourceName{"db"}
	want := health.Job{
		Name: "app",
		Tasks: []health.Task{
			{Task: holdfast.TaskBackup, Attempt: second.Time, Success: second.Time, Result: "good"},
			{Task: holdfast.TaskHourly, Attempt: half.Time, Result: "incomplete"},
		},
		Backups: []health.Backup{
			{ID: first.ID, Kind: "full", Time: start, Complete: true, Stored: first.Size, Took: 5 * time.Minute, Mirrored: true, Holds: db,
				Items: []health.Item{{Source: "db", Name: "db.sql", Plain: 2000, Stored: stored(first, "db.sql")}}},
			{ID: second.ID, Kind: "full", Time: start.Add(day), Complete: true, Stored: second.Size, Took: time.Minute, Holds: db, Items: []health.Item{
				{Source: "db", Name: "db.sql", Plain: 3000, Stored: stored(second, "db.sql")}, {Source: "db", Name: "other.sql", Stored: stored(second, "other.sql")},
			}},
			{ID: half.ID, Kind: "hourly", Time: half.Time, Stored: half.Size, Took: time.Second, Holds: db, Lacks: []holdfast.SourceName{"web"},
				Items: []health.Item{{Source: "db", Name: "db.sql", Plain: 2000, Stored: stored(half, "db.sql")}}},
		},
		Places: []health.Place{
			{Store: "main", Copies: 2, Newest: second.Time, Times: []time.Time{first.Time, second.Time}},
			{Store: "away", Copies: 1, Newest: first.Time, Times: []time.Time{first.Time}, Verified: start.Add(3 * day)},
		},
		Proofs: []health.Proof{{
			Time: start.Add(2 * day), Backup: first.ID, Of: first.Time, Verdict: holdfast.Proven, Store: "main", Trusted: true, Compared: 30, Differ: 2, RTO: time.Minute,
			Phases: map[string]float64{"open": 1.5, "restore db": 58.5}, Holds: db,
		}},
	}
	if diff := cmp.Diff(want, job); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if keys := found.Keys["app"]; !slices.Equal(keys, []string{h.recipient.KeyID()}) || len(found.Down) != 0 {
		t.Errorf("sealed to %q; down are %v", keys, found.Down)
	}
}

func TestPlacesInTheOrderOfTheJob(t *testing.T) {
	h, main, away := newHost(t), newBox(t), newBox(t)
	h.backup(t, main, run{time: start})
	entry := h.backup(t, away, run{job: "web", time: start})
	h.drill(t, away, entry, start.Add(day), holdfast.Proven)
	away.copyTo(t, main)
	jobs := look(t, &survey.Surveyor{}, h.places(main, away, h), survey.Job{Name: "web", Stores: []string{"away", "main"}}, survey.Job{Name: "app", Stores: []string{"main"}}).Jobs
	if len(jobs) != 2 || jobs[0].Name != "web" || jobs[1].Name != "app" {
		t.Fatalf("jobs %+v", jobs)
	}
	if got := storesOf(jobs[0]); !slices.Equal(got, []string{"away", "main"}) {
		t.Errorf("the places of web are %q: its own is away", got)
	}
	if got := jobs[0].Proofs; len(got) != 1 || got[0].Store != "away" {
		t.Errorf("its drill was made in its own store: %+v", got)
	}
	if got := storesOf(jobs[1]); !slices.Equal(got, []string{"main"}) {
		t.Errorf("the places of app are %q", got)
	}
}

func storesOf(job health.Job) []string {
	var names []string
	for _, p := range job.Places {
		names = append(names, p.Store)
	}
	return names
}

// TestEveryJob: without a list, every job is found that a store has something of, and what is not known of it is told.
func TestEveryJob(t *testing.T) {
	h, main, away := newHost(t), newBox(t), newBox(t)
	h.backup(t, main, run{job: "web", time: start})
	h.backup(t, main, run{job: "app", time: start})
	main.copyTo(t, away)
	h.backup(t, away, run{job: "other", time: start})
	if _, err := h.archive(main, start).PutFailedRun(t.Context(), "never", archive.Run{Time: start.Add(hour), Finished: start.Add(hour)}); err != nil {
		t.Fatal(err)
	}
	stores := func(found survey.Found) string {
		var all []string
		for _, job := range found.Jobs {
			all = append(all, string(job.Name)+"="+strings.Join(storesOf(job), "+"))
		}
		return strings.Join(all, " ")
	}
	if got := stores(look(t, &survey.Surveyor{}, h.places(main, away, h))); got != "app=main+away never=main other=away web=main+away" {
		t.Errorf("found %s", got)
	}
	places := h.places(main, away, h)
	places[0] = survey.Place{Store: "main", Err: errDown}
	found := look(t, &survey.Surveyor{}, places)
	if got := stores(found); got != "app=main+away other=main+away web=main+away" {
		t.Errorf("with a store down, of which nobody knows what it has, found %s", got)
	}
	if down := found.Jobs[0].Places[0].Down; down != "no route to host" || found.Down["main"] != down {
		t.Errorf("down: %q, %q", down, found.Down)
	}
	places[1] = places[0]
	if found := look(t, &survey.Surveyor{}, places); len(found.Jobs) != 0 || len(found.Down) != 1 {
		t.Errorf("with all down: %+v", found)
	}
	if found := look(t, &survey.Surveyor{}, h.places(newBox(t), nil)); len(found.Jobs) != 0 || len(found.Down) != 0 {
		t.Errorf("in an empty store: %+v", found)
	}
}

// TestOneStoreFails cuts a store off at every call: whatever happens to one is told of it, and hides nothing of the other.
func TestOneStoreFails(t *testing.T) {
	h, main, away := newHost(t), newBox(t), newBox(t)
	entry := h.backup(t, main, run{time: start})
	h.drill(t, main, entry, start.Add(day), holdfast.Proven)
	main.copyTo(t, away)
	whole := app(t, h.places(main, away, h))
	main.Restore()
	app(t, h.places(main, away, h))
	calls := main.Calls()
	if calls < 10 {
		t.Fatalf("a look makes only %d calls", calls)
	}
	for n := 1; n <= calls; n++ {
		main.CutAt(n)
		job := app(t, h.places(main, away, h))
		if job.Places[0].Down == "" || !strings.Contains(job.Places[0].Down, "injected fault") {
			t.Errorf("cut off at call %d, main is told as %+v", n, job.Places[0])
		}
		if diff := cmp.Diff(whole.Places[1], job.Places[1]); diff != "" {
			t.Errorf("cut off at call %d, away is told otherwise:\n%s", n, diff)
		}
		if newest, _ := job.Newest(); newest.ID != entry.ID || len(newest.Items) != 1 {
			t.Errorf("cut off at call %d, the newest backup is %+v", n, newest)
		}
	}
	main.Restore()
	if diff := cmp.Diff(whole, app(t, h.places(main, away, h))); diff != "" {
		t.Errorf("when it is back:\n%s", diff)
	}
}

// TestLeftOut are backups that are none of a run.
func TestLeftOut(t *testing.T) {
	h, main, away := newHost(t), newBox(t), newBox(t)
	entry := h.backup(t, main, run{time: start})
	h.backup(t, main, run{time: start.Add(2 * day), kind: "safety"})
	copied, _, err := h.archive(main, start).Reseal(t.Context(), h.open(t, main, entry), archive.ResealPlan{Time: start.Add(3 * day)})
	if err != nil {
		t.Fatal(err)
	}
	main.copyTo(t, away)
	job := app(t, h.places(main, away, h))
	if len(job.Backups) != 1 || job.Backups[0].ID != entry.ID {
		t.Errorf("backups %+v, want %s alone", job.Backups, entry.ID)
	}
	for _, p := range job.Places {
		if p.Copies != 1 || !p.Newest.Equal(start) {
			t.Errorf("place %+v", p)
		}
	}
	// A mirror that has only the copy that was sealed anew has the backup.
	for _, name := range away.Names() {
		if strings.Contains(name, string(entry.ID)) && !strings.HasPrefix(name, "reseals/") {
			away.remove(t, name)
		}
	}
	job = app(t, h.places(main, away, h))
	if p := job.Places[1]; p.Copies != 1 || !p.Newest.Equal(start) || len(job.Backups) != 1 {
		t.Errorf("of %s sealed anew as %s, away has %+v, and backups are %+v", entry.ID, copied.ID, p, job.Backups)
	}
}

func TestFailedRuns(t *testing.T) {
	h, main, away := newHost(t), newBox(t), newBox(t)
	fail := func(b *box, at time.Time) {
		t.Helper()
		if _, err := h.archive(b, at).PutFailedRun(t.Context(), "app", archive.Run{Time: at, Finished: at.Add(time.Minute)}); err != nil {
			t.Fatal(err)
		}
	}
	attempt := func() health.Task {
		t.Helper()
		task, _ := app(t, h.places(main, away, h)).Attempt()
		return task
	}
	fail(main, start)
	if got := attempt(); got.Result != "failed" || !got.Attempt.Equal(start) || !got.Success.IsZero() {
		t.Errorf("without any backup: %+v", got)
	}
	h.backup(t, main, run{time: start.Add(day)})
	if got := attempt(); got.Result != "good" || !got.Success.Equal(start.Add(day)) {
		t.Errorf("with a backup since: %+v", got)
	}
	fail(away, start.Add(2*day)) // its own store was down
	if got := attempt(); got.Result != "failed" || !got.Attempt.Equal(start.Add(2*day)) || !got.Success.Equal(start.Add(day)) {
		t.Errorf("with a later failure, which a mirror tells: %+v", got)
	}
	h.backup(t, main, run{time: start.Add(3 * day), kind: "hourly"})
	if got := attempt(); got.Task != holdfast.TaskHourly || got.Result != "good" {
		t.Errorf("with an hourly one since: %+v", got)
	}
}

func TestCancelled(t *testing.T) {
	h, main := newHost(t), newBox(t)
	h.backup(t, main, run{time: start})
	cause := errors.New("that will do")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if _, err := (&survey.Surveyor{}).Look(ctx, h.places(main, nil, h), nil); !errors.Is(err, cause) {
		t.Errorf("ended with %v", err)
	}
	ctx, cancel = context.WithCancelCause(t.Context())
	places := []survey.Place{{Store: "main", Archive: h.archive(&cancelling{main, func() { cancel(cause) }}, start, h)}}
	if found, err := (&survey.Surveyor{}).Look(ctx, places, nil); !errors.Is(err, cause) || found.Jobs != nil {
		t.Errorf("while it read, ended with %v and %v", err, found.Jobs)
	}
}

// TestManyJobs looks at 500 jobs in two stores.
func TestManyJobs(t *testing.T) {
	h, main, away := newHost(t), newBox(t), newBox(t)
	var jobs []survey.Job
	for n := range 500 {
		name := holdfast.JobName(fmt.Sprintf("job-%03d", n))
		jobs = append(jobs, survey.Job{Name: name, Stores: []string{"main", "away"}})
		h.backup(t, main, run{job: name, time: start, items: map[string]int{"a": 1}})
	}
	main.copyTo(t, away)
	main.most, away.most = 0, 0
	began := time.Now()
	found := look(t, &survey.Surveyor{}, h.places(main, away, h), jobs...)
	t.Logf("%d jobs in %s, at most %d objects at once", len(found.Jobs), time.Since(began), main.most+away.most)
	for i, job := range found.Jobs {
		newest, some := job.Newest()
		if job.Name != jobs[i].Name || !some || len(newest.Items) != 1 || len(job.Places) != 2 || job.Places[1].Copies != 1 {
			t.Fatalf("job %d is told as %+v", i, job)
		}
	}
	if most := main.most + away.most; most > 8 || most < 2 {
		t.Errorf("%d objects were read at once", most)
	}
}

// TestConcurrentLooks is for the race detector, and each must find the same.
func TestConcurrentLooks(t *testing.T) {
	h, main := newHost(t), newBox(t)
	entry := h.backup(t, main, run{time: start})
	h.backup(t, main, run{job: "web", time: start})
	h.drill(t, main, entry, start.Add(day), holdfast.Proven)
	var s survey.Surveyor
	want := look(t, &s, h.places(main, nil, h))
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			if diff := cmp.Diff(want, look(t, &s, h.places(main, nil, h))); diff != "" {
				t.Errorf("another look finds something else:\n%s", diff)
			}
		})
	}
	wait.Wait()
}
