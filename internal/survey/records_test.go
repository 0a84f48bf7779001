package survey_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast"
	"holdfast/internal/health"
	"holdfast/internal/journal"
	"holdfast/internal/survey"
)

func recorded(records ...journal.Record) *survey.Records {
	var r survey.Records
	for _, rec := range records {
		if rec.Job == "" {
			rec.Job = "app"
		}
		r.Add(rec)
	}
	return &r
}

func TestRecordsOfTasks(t *testing.T) {
	at := start.Add(time.Minute)
	took := map[string]float64{"seconds": 90}
	for _, c := range []struct {
		name string
		rec  journal.Record
		want health.Task
	}{
		{"a backup", journal.Record{Event: journal.BackupCreated, Result: "good", Detail: "full", Figures: took}, health.Task{Task: holdfast.TaskBackup, Attempt: at, Success: at, Result: "good", Took: 90 * time.Second}},
		{"by hand", journal.Record{Event: journal.BackupCreated, Result: "good", Detail: "manual"}, health.Task{Task: holdfast.TaskBackup, Attempt: at, Success: at, Result: "good"}},
		{"hourly", journal.Record{Event: journal.BackupCreated, Result: "good", Detail: "hourly"}, health.Task{Task: holdfast.TaskHourly, Attempt: at, Success: at, Result: "good"}},
		{"a backup, and what came after it failed", journal.Record{Event: journal.BackupCreated, Result: "failed"}, health.Task{Task: holdfast.TaskBackup, Attempt: at, Success: at, Result: "failed"}},
		{"incomplete", journal.Record{Event: journal.BackupIncomplete, Result: "incomplete"}, health.Task{Task: holdfast.TaskBackup, Attempt: at, Result: "incomplete"}},
		{"incomplete, and what came after it failed", journal.Record{Event: journal.BackupIncomplete, Result: "failed"}, health.Task{Task: holdfast.TaskBackup, Attempt: at, Result: "incomplete"}},
		{"failed", journal.Record{Event: journal.BackupFailed, Result: "failed", Detail: "hourly"}, health.Task{Task: holdfast.TaskHourly, Attempt: at, Result: "failed"}},
		{"interrupted", journal.Record{Event: journal.Interrupted, Result: "interrupted", Detail: "backup"}, health.Task{Task: holdfast.TaskBackup, Attempt: at, Result: "interrupted"}},
		{"a drill that was interrupted", journal.Record{Event: journal.Interrupted, Result: "interrupted", Detail: "drill_old"}, health.Task{Task: holdfast.TaskDrillOld, Attempt: at, Result: "interrupted"}},
		{"mirrored", journal.Record{Event: journal.Mirrored, Result: "good"}, health.Task{Task: holdfast.TaskMirror, Attempt: at, Success: at, Result: "good"}},
		{"verified", journal.Record{Event: journal.Verified, Result: "good"}, health.Task{Task: holdfast.TaskVerify, Attempt: at, Success: at, Result: "good"}},
		{"damage", journal.Record{Event: journal.Verified, Result: "difference"}, health.Task{Task: holdfast.TaskVerify, Attempt: at, Result: "difference"}},
		{"proven", journal.Record{Event: journal.Drilled, Result: "proven"}, health.Task{Task: holdfast.TaskDrill, Attempt: at, Success: at, Result: "proven"}},
		{"refuted", journal.Record{Event: journal.Drilled, Result: "failed"}, health.Task{Task: holdfast.TaskDrill, Attempt: at, Result: "failed"}},
		{"proven in a mirror", journal.Record{Event: journal.Drilled, Task: holdfast.TaskDrillCopy, Result: "proven", Figures: took}, health.Task{Task: holdfast.TaskDrillCopy, Attempt: at, Success: at, Result: "proven", Took: 90 * time.Second}},
		{"an old one, refuted", journal.Record{Event: journal.Drilled, Task: holdfast.TaskDrillOld, Result: "failed"}, health.Task{Task: holdfast.TaskDrillOld, Attempt: at, Result: "failed"}},
		{"a key", journal.Record{Event: journal.KeyChecked, Result: "good"}, health.Task{Task: holdfast.TaskKeyCheck, Attempt: at, Success: at, Result: "good"}},
		{"pruned", journal.Record{Event: journal.PruneDone, Result: "good", Store: "main"}, health.Task{Task: holdfast.TaskPrune, Attempt: at, Success: at, Result: "good"}},
		{"not pruned", journal.Record{Event: journal.PruneBlocked, Result: "refused", Store: "main"}, health.Task{Task: holdfast.TaskPrune, Attempt: at, Result: "refused"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.rec.Time = at
			r := recorded(c.rec)
			if diff := cmp.Diff(c.want, r.Task("app", c.want.Task)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			for _, other := range holdfast.Tasks() {
				if other != c.want.Task && r.Task("app", other).Attempt != (time.Time{}) {
					t.Errorf("%s is told, too", other)
				}
			}
			if got := r.Task("web", c.want.Task); got.Attempt != (time.Time{}) {
				t.Errorf("it is told of another job: %+v", got)
			}
			before := c.rec
			before.Time, before.Event, before.Result, before.Detail = at.Add(-day), journal.BackupCreated, "good", string(c.want.Task)
			if c.want.Task == holdfast.TaskBackup && !c.want.Success.Equal(at) {
				if got := recorded(before, c.rec).Task("app", c.want.Task); !got.Success.Equal(at.Add(-day)) || got.Result != c.want.Result {
					t.Errorf("the good one before is forgotten: %+v", got)
				}
			}
		})
	}
	r := recorded(journal.Record{Event: journal.Interrupted, Detail: "something else", Time: at}, journal.Record{Event: journal.Drilled, Task: "drill_sideways", Result: "proven", Time: at})
	for _, event := range journal.Events() {
		if !slices.Contains([]journal.Event{
			journal.BackupCreated, journal.BackupIncomplete, journal.BackupFailed, journal.Mirrored, journal.Verified, journal.Drilled, journal.KeyChecked, journal.PruneDone, journal.PruneBlocked,
		}, event) {
			r.Add(journal.Record{Event: event, Job: "app", Store: "main", Time: at, Result: "good"})
		}
	}
	for _, task := range holdfast.Tasks() {
		if got := r.Task("app", task); got != (health.Task{}) {
			t.Errorf("an event that is none of a task is told as %+v", got)
		}
	}
}

func TestBlockedPrunes(t *testing.T) {
	at := func(hours int) time.Time { return start.Add(time.Duration(hours) * hour) }
	blocked := func(hours int, why string) journal.Record {
		return journal.Record{Event: journal.PruneBlocked, Store: "main", Detail: why, Time: at(hours), Result: "refused"}
	}
	done := func(hours int) journal.Record {
		return journal.Record{Event: journal.PruneDone, Store: "main", Time: at(hours), Result: "good"}
	}
	for _, c := range []struct {
		name    string
		records []journal.Record
		want    health.Place
	}{
		{"never", nil, health.Place{}},
		{"done", []journal.Record{done(1)}, health.Place{Pruned: at(1)}},
		{"blocked", []journal.Record{blocked(1, "a gap")}, health.Place{Blocked: "a gap", Since: at(1)}},
		{"since the first of a series", []journal.Record{blocked(1, "a gap"), blocked(2, "it failed"), blocked(3, "a gap")}, health.Place{Blocked: "a gap", Since: at(1)}},
		{"done since", []journal.Record{blocked(1, "a gap"), done(2)}, health.Place{Pruned: at(2)}},
		{"blocked again", []journal.Record{blocked(1, "a gap"), done(2), blocked(3, "it failed"), blocked(4, "it failed")}, health.Place{Pruned: at(2), Blocked: "it failed", Since: at(3)}},
		{"blocked again in the same second", []journal.Record{done(2), blocked(2, "a gap")}, health.Place{Pruned: at(2), Blocked: "a gap", Since: at(2)}},
		{"blocked again, by a clock that was set back", []journal.Record{done(9), blocked(2, "a gap")}, health.Place{Pruned: at(9), Blocked: "a gap", Since: at(2)}},
		{"done, by a clock that was set back", []journal.Record{blocked(9, "a gap"), done(2)}, health.Place{Pruned: at(2)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			job := health.Job{Name: "app", Places: []health.Place{{Store: "main"}, {Store: "away"}}}
			recorded(c.records...).Complete(&job)
			c.want.Store = "main"
			if diff := cmp.Diff([]health.Place{c.want, {Store: "away"}}, job.Places); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestFreeSpace(t *testing.T) {
	sample := func(hours int, free float64) journal.Record {
		return journal.Record{Event: journal.BackupCreated, Store: "main", Time: start.Add(time.Duration(hours) * hour), Result: "good", Figures: map[string]float64{"free": free}}
	}
	free := func(records ...journal.Record) []int64 {
		var all []int64
		for _, s := range recorded(records...).Free("main") {
			all = append(all, s.Free)
		}
		return all
	}
	if got := free(sample(0, 9), journal.Record{Event: journal.BackupFailed, Store: "main", Time: start}, sample(1, 8)); !slices.Equal(got, []int64{9, 8}) {
		t.Errorf("samples %v", got)
	}
	if got := free(sample(0, 9), sample(1, 8), sample(14*24, 7)); !slices.Equal(got, []int64{9, 8, 7}) {
		t.Errorf("of 14 days, samples %v", got)
	}
	if got := free(sample(0, 9), sample(1, 8), sample(14*24+1, 7)); !slices.Equal(got, []int64{8, 7}) {
		t.Errorf("of more than 14 days, samples %v", got)
	}
	if got := free(sample(0, 9), sample(9000, 8), sample(1, 7), sample(2, 6)); !slices.Equal(got, []int64{7, 6}) {
		t.Errorf("with a clock that jumped a year ahead and back, samples %v", got)
	}
	mirrored := sample(1, 7)
	mirrored.Event, mirrored.Store = journal.Mirrored, "away"
	if got := recorded(sample(0, 9), mirrored).Free("away"); len(got) != 1 || got[0] != (health.Sample{Time: start.Add(hour), Free: 7}) {
		t.Errorf("of a mirror, samples %v", got)
	}
	if got := recorded(sample(0, 9)).Free("away"); got != nil {
		t.Errorf("of another store, samples %v", got)
	}
}

func TestComplete(t *testing.T) {
	at := func(hours int) time.Time { return start.Add(time.Duration(hours) * hour) }
	r := recorded(
		journal.Record{Event: journal.BackupCreated, Detail: "full", Result: "good", Time: at(2), Figures: map[string]float64{"seconds": 60}},
		journal.Record{Event: journal.BackupCreated, Detail: "full", Result: "good", Time: at(1)},
		journal.Record{Event: journal.BackupCreated, Detail: "full", Result: "good", Time: at(10), Figures: map[string]float64{"seconds": 60}},
		journal.Record{Event: journal.Verified, Result: "difference", Time: at(11)},
		journal.Record{Event: journal.BackupCreated, Job: "web", Result: "good", Time: at(20)},
	)
	next := at(100)
	for _, c := range []struct {
		name string
		job  health.Job
		want []health.Task
	}{
		{"stores tell nothing", health.Job{}, []health.Task{
			{Task: holdfast.TaskBackup, Attempt: at(10), Success: at(10), Result: "good", Took: time.Minute}, {Task: holdfast.TaskVerify, Attempt: at(11), Result: "difference"},
		}},
		{"stores tell the beginning of the same run", health.Job{Tasks: []health.Task{{Task: holdfast.TaskBackup, Interval: day, Attempt: at(9), Success: at(9), Result: "good", Next: next, Since: at(99)}}}, []health.Task{
			{Task: holdfast.TaskBackup, Interval: day, Attempt: at(10), Success: at(10), Result: "good", Took: time.Minute, Next: next, Since: at(99)}, {Task: holdfast.TaskVerify, Attempt: at(11), Result: "difference"},
		}},
		{"stores tell of a later failure elsewhere", health.Job{Tasks: []health.Task{{Task: holdfast.TaskBackup, Attempt: at(12), Success: at(8), Result: "failed"}}}, []health.Task{
			{Task: holdfast.TaskBackup, Attempt: at(12), Success: at(10), Result: "failed"}, {Task: holdfast.TaskVerify, Attempt: at(11), Result: "difference"},
		}},
		{"stores tell of a later backup elsewhere", health.Job{Tasks: []health.Task{{Task: holdfast.TaskBackup, Attempt: at(12), Success: at(12), Result: "good"}}}, []health.Task{
			{Task: holdfast.TaskBackup, Attempt: at(12), Success: at(12), Result: "good"}, {Task: holdfast.TaskVerify, Attempt: at(11), Result: "difference"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.job.Name = "app"
			r.Complete(&c.job)
			if diff := cmp.Diff(c.want, c.job.Tasks); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if !c.job.First.Equal(at(1)) {
				t.Errorf("the first backup is of %v", c.job.First)
			}
		})
	}
	early := health.Job{Name: "app", First: at(-5)}
	if r.Complete(&early); !early.First.Equal(at(-5)) {
		t.Errorf("what is known of an earlier one is forgotten: %v", early.First)
	}
	var nothing survey.Records
	job := health.Job{Name: "app", Tasks: []health.Task{{Task: holdfast.TaskBackup, Attempt: at(1)}}, Places: []health.Place{{Store: "main"}}}
	if nothing.Complete(&job); len(job.Tasks) != 1 || !job.First.IsZero() || nothing.Free("main") != nil {
		t.Errorf("a journal of nothing tells %+v", job)
	}
}

// TestTaskOfRecord: what a command says of its task is what comes back from the disk.
func TestTaskOfRecord(t *testing.T) {
	j, err := journal.Open(journal.Options{Dir: t.TempDir(), Host: "web", Now: func() time.Time { return start }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Append(t.Context(), journal.Record{Event: journal.Drilled, Task: holdfast.TaskDrillOld, Job: "app", Result: "proven"}); err != nil {
		t.Fatal(err)
	}
	var r survey.Records
	if err := j.Read(journal.Filter{}, func(rec journal.Record) error {
		r.Add(rec)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got := r.Task("app", holdfast.TaskDrillOld); !got.Success.Equal(start) {
		t.Errorf("told as %+v", got)
	}
}
