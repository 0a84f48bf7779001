package health_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/health"
)

func TestGoodStateHasNoFinding(t *testing.T) {
	if findings := health.Judge(good(), health.Limits{}); len(findings) != 0 {
		t.Errorf("found %q", keys(findings))
	}
	if findings := health.Judge(health.State{}, health.Limits{}); len(findings) != 0 {
		t.Errorf("in nothing at all there is %q", keys(findings))
	}
}

func TestStale(t *testing.T) {
	// aged makes the newest of the job's backups so old.
	aged := func(newest, apart time.Duration) func(*health.State, *health.Job) {
		return func(_ *health.State, job *health.Job) {
			job.Interval, job.Due, job.RPO = apart, time.Time{}, 0
			job.Backups = series(5, newest, apart)
			job.Places[0].Newest, job.Places[1].Newest = at.Add(-newest), at.Add(-newest)
			job.Tasks[0].Attempt, job.Tasks[0].Success = at.Add(-newest), at.Add(-newest)
		}
	}
	none := func(job *health.Job) {
		job.Backups, job.Proofs, job.First, job.RPO = nil, nil, time.Time{}, 0
		job.Tasks = slices.DeleteFunc(job.Tasks, func(t health.Task) bool { return t.Task.BacksUp() })
		job.Places[0].Newest, job.Places[1].Newest = time.Time{}, time.Time{}
	}
	const stale = "stale/app//"
	for _, c := range []condition{
		{"26 hours to the second", aged(26*hour, day), nil},
		{"a second more", aged(26*hour+time.Second, day), []string{stale}},
		{"every 5 minutes, at its edge", aged(35*time.Minute, 5*time.Minute), nil},
		{"every 5 minutes, behind it", aged(35*time.Minute+1, 5*time.Minute), []string{stale}},
		{"every hour, at its edge", aged(90*time.Minute, hour), nil},
		{"every hour, behind it", aged(90*time.Minute+1, hour), []string{stale}},
		{"every week, at its edge", aged(7*day+12*hour, 7*day), nil},
		{"every week, behind it", aged(7*day+12*hour+1, 7*day), []string{stale}},
		{"nothing is expected", func(s *health.State, job *health.Job) {
			aged(900*day, day)(s, job)
			job.Interval = 0
			job.Tasks, job.Proofs = nil, nil
		}, nil},
		{"paused", func(s *health.State, job *health.Job) { aged(3*day, day)(s, job); job.Paused = true }, []string{stale}},
		{"never any", func(_ *health.State, job *health.Job) { none(job) }, []string{stale}},
		{"never any, and a promise", func(_ *health.State, job *health.Job) { none(job); job.RPO = day }, []string{stale, "objective_missed/app//rpo"}},
		{"never any by hand", func(_ *health.State, job *health.Job) { none(job); job.Scheduled = false }, []string{stale}},
		{"never any and nothing is expected", func(_ *health.State, job *health.Job) { none(job); job.Interval = 0 }, nil},
		{"never any, set up with a pause", func(_ *health.State, job *health.Job) { none(job); job.Paused, job.RPO = true, day }, nil},
		{"never any, and the first run failed", func(_ *health.State, job *health.Job) {
			none(job)
			job.Tasks = append(job.Tasks, health.Task{Task: holdfast.TaskBackup, Attempt: at, Result: "failed"})
		}, []string{stale, "failed/app//"}},
		{"all are gone", func(_ *health.State, job *health.Job) {
			tasks := job.Tasks
			none(job)
			job.Tasks = append(job.Tasks, tasks[0])
		}, []string{stale}},
		{"all are gone of a job that is run by hand", func(_ *health.State, job *health.Job) {
			task := job.Tasks[0]
			none(job)
			job.Tasks, job.Interval, job.Scheduled = append(job.Tasks, task), 0, false
		}, []string{stale}},
		{"nothing is expected, and only a drill ever passed", func(_ *health.State, job *health.Job) {
			none(job)
			job.Tasks, job.Interval = append(job.Tasks, health.Task{Task: holdfast.TaskDrill, Attempt: at.Add(-day), Success: at.Add(-day), Result: "proven"}), 0
		}, nil},
		{"incomplete ones only", func(_ *health.State, job *health.Job) {
			job.RPO, job.Places[0].Newest, job.Places[1].Newest = 0, time.Time{}, time.Time{}
			for i := range job.Backups {
				job.Backups[i].Complete = false
			}
			job.Tasks[0].Result, job.Tasks[0].Success = "incomplete", time.Time{}
		}, []string{stale, "incomplete/app//"}},
		{"one that is planted in the future hides nothing", func(s *health.State, job *health.Job) {
			aged(3*day, day)(s, job)
			job.Backups = append(job.Backups, health.Backup{ID: "planted", Kind: "full", Time: at.Add(900 * day), Complete: true})
		}, []string{stale, "clock_off/app//"}},
		{"the own store is down, and the last run was good", func(s *health.State, job *health.Job) {
			aged(3*day, day)(s, job)
			job.Places[0] = health.Place{Store: "main", Down: "no route to host"}
			job.Tasks[0].Success = at.Add(-8 * hour)
		}, []string{"store_down/app/main/"}},
		{"the own store is down, and the last run was long ago", func(s *health.State, job *health.Job) {
			aged(3*day, day)(s, job)
			job.Places[0] = health.Place{Store: "main", Down: "no route to host"}
			job.Tasks[0].Success = at.Add(-26*hour - 1)
		}, []string{stale, "store_down/app/main/"}},
		{"the own store is down, and the last run was in the future", func(s *health.State, job *health.Job) {
			aged(3*day, day)(s, job)
			job.Places[0] = health.Place{Store: "main", Down: "no route to host"}
			job.Tasks[0].Success = at.Add(hour)
		}, []string{stale, "store_down/app/main/"}},
		{"a mirror is down, and the own store tells", func(s *health.State, job *health.Job) {
			aged(3*day, day)(s, job)
			job.Places[1] = health.Place{Store: "away", Down: "no route to host"}
			job.Tasks[0].Success = at.Add(-8 * hour)
		}, []string{stale, "store_down/app/away/"}},
		{"nobody can look, and nothing was recorded", func(_ *health.State, job *health.Job) {
			none(job)
			job.RPO = day
			job.Places[0], job.Places[1] = health.Place{Store: "main", Down: "x"}, health.Place{Store: "away", Down: "x"}
		}, []string{"store_down/app/main/", "store_down/app/away/"}},
		{"on weekdays: it is Monday, Friday's is there, and the next one runs", func(s *health.State, job *health.Job) {
			aged(73*hour, day)(s, job)
			job.Interval, job.Due = 72*hour, at.Add(-73*hour)
		}, nil},
		{"on weekdays: it is later on Monday", func(s *health.State, job *health.Job) {
			aged(75*hour, day)(s, job)
			job.Interval, job.Due = day, at.Add(-3*hour)
		}, []string{stale}},
		{"on weekdays: it is Sunday, and Friday's is there", func(s *health.State, job *health.Job) {
			aged(58*hour, day)(s, job)
			job.Interval, job.Due = 72*hour, at.Add(-58*hour)
		}, nil},
		{"on weekdays: it is Sunday, and Friday's is missing", func(s *health.State, job *health.Job) {
			aged(70*hour, day)(s, job)
			job.Interval, job.Due = 72*hour, at.Add(-46*hour)
		}, []string{stale}},
		{"it began in the second in which it was due", func(s *health.State, job *health.Job) {
			aged(8*hour, day)(s, job)
			job.Due = at.Add(-8*hour + 999*time.Millisecond)
		}, nil},
		{"it began the second before", func(s *health.State, job *health.Job) {
			aged(8*hour, day)(s, job)
			job.Due = at.Add(-8*hour + time.Second)
		}, []string{stale}},
	} {
		c.run(t)
	}
}

func TestStaleSaysSince(t *testing.T) {
	s := good()
	job := &s.Jobs[0]
	job.Backups, job.Due, job.RPO = series(5, 30*hour, day), time.Time{}, 0
	f := told(t, s, health.Stale)
	if !f.Since.Equal(at.Add(-4*hour)) || f.Text != "the newest complete backup is 30 h old, and one is expected every 24 h" {
		t.Errorf("since %v: %s", f.Since, f.Text)
	}
	job.Due, job.Interval = at.Add(-3*hour), 72*hour
	f = told(t, s, health.Stale)
	if !f.Since.Equal(at.Add(-3*hour)) || f.Text != "the newest complete backup is 30 h old, and the one is missing that was due 3 h ago" {
		t.Errorf("since %v: %s", f.Since, f.Text)
	}
	job.Paused = true
	if f = told(t, s, health.Stale); !strings.HasPrefix(f.Hint, "the job is paused; ") {
		t.Errorf("the hint of a paused job: %s", f.Hint)
	}
}

// TestChores: what is done beside backups and drills is told when it failed, and not when something else tells it.
func TestChores(t *testing.T) {
	for _, c := range []struct {
		task   holdfast.Task
		result string
		want   []string
	}{
		{holdfast.TaskVerify, "failed", []string{"failed/app//verify"}},
		{holdfast.TaskPrune, "failed", []string{"failed/app//prune"}},
		{holdfast.TaskKeyCheck, "failed", []string{"failed/app//key_check"}},
		{holdfast.TaskMirror, "failed", nil},     // the store is down, or lacks a copy
		{holdfast.TaskVerify, "difference", nil}, // the verdict is told
		{holdfast.TaskPrune, "refused", nil},     // it was blocked
		{holdfast.TaskVerify, "interrupted", nil},
		{holdfast.TaskVerify, "good", nil},
	} {
		condition{string(c.task) + " " + c.result, func(_ *health.State, job *health.Job) {
			job.Tasks = append(job.Tasks, health.Task{Task: c.task, Attempt: at.Add(-hour), Result: c.result})
		}, c.want}.run(t)
	}
}

func TestRuns(t *testing.T) {
	ended := func(result string, when time.Duration) func(*health.State, *health.Job) {
		return func(_ *health.State, job *health.Job) {
			job.Tasks[0].Attempt, job.Tasks[0].Result = at.Add(when), result
		}
	}
	for _, c := range []condition{
		{"failed after the newest backup", ended("failed", -hour), []string{"failed/app//"}},
		{"interrupted", ended("interrupted", -hour), []string{"failed/app//"}},
		{"refused", ended("refused", -hour), []string{"failed/app//"}},
		{"incomplete is told of the backup", ended("incomplete", -hour), nil},
		{"failed when the newest backup had just ended", ended("failed", -8*hour+10*time.Minute+1), []string{"failed/app//"}},
		{"a second run failed while the good one ran", ended("failed", -8*hour+10*time.Minute-1), nil},
		{"failed before the newest backup", ended("failed", -9*hour), nil},
		{"made a backup, and what came after it failed", func(s *health.State, job *health.Job) {
			ended("failed", -7*hour)(s, job)
			job.Tasks[0].Success = job.Tasks[0].Attempt
		}, nil},
		{"hourly failed, and the daily one is good since", func(_ *health.State, job *health.Job) {
			job.Tasks = append(job.Tasks, health.Task{Task: holdfast.TaskHourly, Attempt: at.Add(-9 * hour), Result: "failed"})
		}, nil},
		{"hourly failed since the daily one", func(_ *health.State, job *health.Job) {
			job.Tasks = append(job.Tasks, health.Task{Task: holdfast.TaskHourly, Attempt: at.Add(-hour), Result: "failed"})
		}, []string{"failed/app//"}},
		{"a mirror that failed is no run", func(_ *health.State, job *health.Job) {
			job.Tasks = append(job.Tasks, health.Task{Task: holdfast.TaskMirror, Attempt: at.Add(-hour), Result: "failed"})
		}, nil},
		{"a backup from the future does not outlast a failure", func(s *health.State, job *health.Job) {
			ended("failed", -hour)(s, job)
			job.Backups = append(job.Backups, health.Backup{ID: "planted", Time: at.Add(hour), Complete: true})
		}, []string{"failed/app//", "clock_off/app//"}},
		{"the newest is incomplete", func(_ *health.State, job *health.Job) {
			job.Backups = append(job.Backups, health.Backup{ID: "half", Kind: "full", Time: at.Add(-hour)})
		}, []string{"incomplete/app//"}},
		{"an incomplete one before the newest", func(_ *health.State, job *health.Job) { job.Backups[28].Complete = false }, nil},
	} {
		c.run(t)
	}
}

func TestFailedRunsSayHow(t *testing.T) {
	for result, want := range map[string]string{"failed": "the last run made no backup (failed)", "interrupted": "the last run was interrupted"} {
		s := good()
		s.Jobs[0].Tasks[0].Attempt, s.Jobs[0].Tasks[0].Result = at.Add(-hour), result
		if f := told(t, s, health.RunFailed); f.Text != want || !f.Since.Equal(at.Add(-hour)) {
			t.Errorf("since %v: %s", f.Since, f.Text)
		}
	}
}

func TestObjectives(t *testing.T) {
	for _, c := range []condition{
		{"RPO at its edge", func(_ *health.State, job *health.Job) { job.RPO = 8 * hour }, nil},
		{"RPO behind it", func(_ *health.State, job *health.Job) { job.RPO = 8*hour - 1 }, []string{"objective_missed/app//rpo"}},
		{"RTO at its edge", func(_ *health.State, job *health.Job) { job.RTO = hour }, nil},
		{"RTO behind it", func(_ *health.State, job *health.Job) { job.RTO = hour - 1 }, []string{"objective_missed/app//rto"}},
		{"both, what began first before", func(_ *health.State, job *health.Job) { job.RTO, job.RPO = 1, hour }, []string{"objective_missed/app//rto", "objective_missed/app//rpo"}},
		{"RTO is not measured by a drill that does not count", func(_ *health.State, job *health.Job) {
			job.Tasks, job.RTO = job.Tasks[:1], hour
			slow := proof(-hour, -hour, holdfast.Proven, "main")
			slow.RTO, slow.Trusted = 9*hour, false
			job.Proofs = append(job.Proofs, slow)
		}, []string{"drill_impossible/app//verdict"}},
		{"nothing was promised", func(_ *health.State, job *health.Job) { job.RPO, job.RTO, job.Proofs[2].RTO = 0, 0, 900*day }, nil},
	} {
		c.run(t)
	}
}

func TestPlaces(t *testing.T) {
	for _, c := range []condition{
		{"a mirror is as far as the day before, and it is not late yet", func(_ *health.State, job *health.Job) {
			job.Backups = series(10, 2*hour+10*time.Minute, day)
			job.Places[0].Newest, job.Places[1].Newest = at.Add(-2*hour-10*time.Minute), at.Add(-26*hour)
		}, nil},
		{"and now it is", func(_ *health.State, job *health.Job) {
			job.Backups = series(10, 2*hour+10*time.Minute+1, day)
			job.Places[0].Newest, job.Places[1].Newest = at.Add(-2*hour-10*time.Minute-1), at.Add(-26*hour)
		}, []string{"copy_missing/app/away/"}},
		{"every hour, and the mirror was left behind long ago", func(_ *health.State, job *health.Job) {
			job.Backups, job.Interval, job.Due = series(100, 10*time.Minute, hour), hour, time.Time{}
			job.Places[0].Newest, job.Places[1].Newest = at.Add(-10*time.Minute), at.Add(-80*hour)
		}, []string{"copy_missing/app/away/"}},
		{"every hour, and the mirror is one behind", func(_ *health.State, job *health.Job) {
			job.Backups, job.Interval, job.Due = series(100, 10*time.Minute, hour), hour, time.Time{}
			job.Places[0].Newest, job.Places[1].Newest = at.Add(-10*time.Minute), at.Add(-70*time.Minute)
		}, nil},
		{"the mirror has nothing", func(_ *health.State, job *health.Job) { job.Places[1] = health.Place{Store: "away"} }, []string{"copy_missing/app/away/"}},
		{"the own store has nothing", func(_ *health.State, job *health.Job) { job.Places[0] = health.Place{Store: "main"} }, []string{"copy_missing/app/main/"}},
		{"the mirror has one from the future, and lacks two days", func(_ *health.State, job *health.Job) {
			job.Backups = append(job.Backups, health.Backup{ID: "ahead", Kind: "full", Time: at.Add(900 * day), Complete: true})
			job.Places[1].Newest, job.Places[1].Times = at.Add(900*day), append(times(job.Backups[:28]), at.Add(900*day))
		}, []string{"clock_off/app//", "copy_missing/app/away/"}},
		{"the mirror has one from the future, and no other", func(_ *health.State, job *health.Job) {
			job.Backups = append(job.Backups, health.Backup{ID: "ahead", Kind: "full", Time: at.Add(900 * day), Complete: true})
			job.Places[1].Newest, job.Places[1].Times = at.Add(900*day), []time.Time{at.Add(900 * day)}
		}, []string{"clock_off/app//", "copy_missing/app/away/"}},
		{"all stores have one from the future, and lack nothing", func(_ *health.State, job *health.Job) {
			job.Backups = append(job.Backups, health.Backup{ID: "ahead", Kind: "full", Time: at.Add(900 * day), Complete: true})
			for i := range job.Places {
				job.Places[i].Newest, job.Places[i].Times = at.Add(900*day), times(job.Backups)
			}
		}, []string{"clock_off/app//"}},
		{"it lacks only an incomplete one", func(_ *health.State, job *health.Job) {
			job.Backups = append(job.Backups, health.Backup{ID: "half", Time: at.Add(-7 * hour)})
		}, []string{"incomplete/app//"}},
		{"down", func(_ *health.State, job *health.Job) { job.Places[1] = health.Place{Store: "away", Down: "no route"} }, []string{"store_down/app/away/"}},
		{"down, and what is known besides", func(_ *health.State, job *health.Job) {
			job.Places[1] = health.Place{Store: "away", Down: "no route", Damaged: 1, Blocked: "a gap", Since: at.Add(-day)}
		}, []string{"verify_failed/app/away/", "store_down/app/away/", "prune_blocked/app/away/"}},
		{"damaged", func(_ *health.State, job *health.Job) { job.Places[0].Damaged = 2 }, []string{"verify_failed/app/main/"}},
		{"hidden", func(_ *health.State, job *health.Job) { job.Places[0].Hidden = 1 }, []string{"verify_failed/app/main/hidden"}},
		{"blocked", func(_ *health.State, job *health.Job) { job.Places[0].Blocked, job.Places[0].Since = "a gap", at }, []string{"prune_blocked/app/main/"}},
		{"blocked by a clock that was set back", func(_ *health.State, job *health.Job) {
			job.Places[0].Blocked, job.Places[0].Since = "a gap", at.Add(-9*day)
		}, []string{"prune_blocked/app/main/"}},
		{"a store that no job tells of is down", func(s *health.State, _ *health.Job) {
			s.Stores = append(s.Stores, health.Store{Name: "third", Down: "no route", Free: -1})
		}, []string{"store_down//third/"}},
		{"a store that no job tells of is down, and so is another one", func(s *health.State, job *health.Job) {
			s.Stores[0].Down, job.Places[1] = "no route", health.Place{Store: "away", Down: "no route"}
		}, []string{"store_down/app/away/", "store_down//main/"}},
		{"a store that a job tells of is down", func(s *health.State, job *health.Job) {
			s.Stores[1].Down, job.Places[1] = "no route", health.Place{Store: "away", Down: "no route"}
		}, []string{"store_down/app/away/"}},
	} {
		c.run(t)
	}
}

func TestCopyMissingSaysHowMuch(t *testing.T) {
	s := good()
	s.Jobs[0].Places[1].Newest = at.Add(-56 * hour)
	f := told(t, s, health.CopyMissing)
	if f.Text != "it lacks 2 newer backups; its own newest is 2 days old" || !f.Since.Equal(at.Add(-32*hour+10*time.Minute+2*hour)) {
		t.Errorf("since %v: %s", f.Since, f.Text)
	}
	s.Jobs[0].Places[1].Times = append(times(s.Jobs[0].Backups[:28]), at.Add(day))
	s.Jobs[0].Places[1].Newest = at.Add(day)
	if ahead := told(t, s, health.CopyMissing); ahead.Text != f.Text || !ahead.Since.Equal(f.Since) {
		t.Errorf("with one from the future: since %v: %s", ahead.Since, ahead.Text)
	}
}

func TestDisk(t *testing.T) {
	store := func(free int64, used []health.Sample) func(*health.State, *health.Job) {
		return func(s *health.State, _ *health.Job) { s.Stores[0].Free, s.Stores[0].Used = free, used }
	}
	noisy := func(daily int64) []health.Sample {
		samples := free(14, 100*size, daily)
		for i := range samples {
			samples[i].Free += []int64{3, -2, 0, -4, 1}[i%5] * size
		}
		return samples
	}
	full := []string{"disk_full//main/"}
	for _, c := range []condition{
		{"in 14 days", store(14*size, free(10, 14*size, size)), nil},
		{"a little sooner", store(14*size-1, free(10, 14*size-1, size)), full},
		{"in 5 days, with noise", store(100*size, noisy(20*size)), full},
		{"noise alone", store(100*size, noisy(0)), nil},
		{"three samples are one", store(size, []health.Sample{{Time: at.Add(-3 * day), Free: 9 * size}, {Time: at.Add(-day), Free: 5 * size}, {Time: at, Free: size}}), full},
		{"two days are one", store(size, []health.Sample{{Time: at.Add(-2 * day), Free: 9 * size}, {Time: at.Add(-hour), Free: 5 * size}, {Time: at, Free: size}}), full},
		{"it empties", store(size, free(10, size, -size)), nil},
		{"two samples are no line", store(size, []health.Sample{{Time: at.Add(-3 * day), Free: 9 * size}, {Time: at, Free: size}}), nil},
		{"less than two days are no line", store(size, []health.Sample{{Time: at.Add(-47 * hour), Free: 9 * size}, {Time: at.Add(-hour), Free: 5 * size}, {Time: at.Add(-time.Minute), Free: size}}), nil},
		{"all at one time", store(size, []health.Sample{{Time: at, Free: 9 * size}, {Time: at, Free: 5 * size}, {Time: at, Free: size}}), nil},
		{"it has room for just one more backup", store(size, nil), nil},
		{"it has no room for another one", store(size-1, nil), full},
		{"a mirror has no room for another one", func(s *health.State, _ *health.Job) { s.Stores[1].Free = size - 1 }, []string{"disk_full//away/"}},
		{"it has no room for one that is none of its jobs'", func(s *health.State, job *health.Job) {
			store(size-1, nil)(s, job)
			job.Places = job.Places[1:]
			job.Tasks = job.Tasks[:1]
		}, nil},
		{"it has no room for one from the future", func(_ *health.State, job *health.Job) {
			job.Backups = append(job.Backups, health.Backup{ID: "ahead", Kind: "full", Time: at.Add(day), Complete: true, Stored: 900 * size})
		}, []string{"clock_off/app//"}},
		{"it is full", store(0, nil), full},
		{"it does not tell", store(-1, free(10, size, size)), nil},
	} {
		c.run(t)
	}
	s := good()
	store(3*size, free(10, 3*size, 2*size))(&s, nil)
	if f := told(t, s, health.DiskFull); f.Text != "it is full in 1 day, if it goes on as in the last 10 days" {
		t.Error(f.Text)
	}
	store(size-1, free(10, size-1, size))(&s, nil)
	if f := told(t, s, health.DiskFull); f.Text != "it has no room for another backup of job app as large as its newest" {
		t.Error(f.Text)
	}
}

func TestKeys(t *testing.T) {
	key := func(change func(*health.Key)) func(*health.State, *health.Job) {
		return func(s *health.State, _ *health.Job) { change(&s.Keys[0]) }
	}
	for _, c := range []condition{
		{"30 days", key(func(k *health.Key) { k.Expires = at.Add(30 * day) }), nil},
		{"a little less", key(func(k *health.Key) { k.Expires = at.Add(30*day - 1) }), []string{"key_due///ops/expires"}},
		{"expired", key(func(k *health.Key) { k.Expires = at }), []string{"key_due///ops/expires"}},
		{"never expires", key(func(k *health.Key) { k.Expires = time.Time{} }), nil},
		{"a year old", key(func(k *health.Key) { k.Created = at.Add(-365 * day) }), nil},
		{"older", key(func(k *health.Key) { k.Created = at.Add(-365*day - 1) }), []string{"key_due///ops/age"}},
		{"tried 100 days ago", key(func(k *health.Key) { k.Checked = at.Add(-100 * day) }), nil},
		{"longer ago", key(func(k *health.Key) { k.Checked = at.Add(-100*day - 1) }), []string{"key_due///ops/check"}},
		{"new, and never tried", key(func(k *health.Key) { k.Checked, k.Created = time.Time{}, at.Add(-99*day) }), nil},
		{"never tried", key(func(k *health.Key) { k.Checked, k.Created = time.Time{}, at.Add(-101*day) }), []string{"key_due///ops/check"}},
		{"no date at all", key(func(k *health.Key) { *k = health.Key{Name: "ops", Needed: true} }), []string{"key_due///ops/check"}},
		{"never tried, as far as the stores tell that are up", func(s *health.State, job *health.Job) {
			s.Keys[0] = health.Key{Name: "ops", Needed: true}
			job.Places[1] = health.Place{Store: "away", Down: "no route"}
		}, []string{"store_down/app/away/"}},
		{"nobody needs it", key(func(k *health.Key) { *k = health.Key{Name: "ops", Expires: at.Add(-day), Created: at.Add(-900 * day)} }), nil},
		{"all three", key(func(k *health.Key) {
			k.Expires, k.Created, k.Checked = at.Add(day), at.Add(-900*day), at.Add(-800*day)
		}), []string{"key_due///ops/expires", "key_due///ops/age", "key_due///ops/check"}},
	} {
		c.run(t)
	}
}

func TestRotation(t *testing.T) {
	for _, c := range []struct {
		name string
		key  health.Key
		want time.Time
	}{
		{"nothing is known", health.Key{}, time.Time{}},
		{"it expires", health.Key{Expires: at}, at},
		{"it never expires", health.Key{Created: at}, at.Add(365 * day)},
		{"it expires before it is old", health.Key{Created: at, Expires: at.Add(364 * day)}, at.Add(364 * day)},
		{"it is old before it expires", health.Key{Created: at, Expires: at.Add(366 * day)}, at.Add(365 * day)},
	} {
		if got := c.key.Rotation(); !got.Equal(c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestKeyTexts(t *testing.T) {
	for left, want := range map[time.Duration]string{
		3 * day: "key ops expires in 3 days", 1: "key ops expires in 0 s", 0: "key ops has expired: nothing is backed up for it any more", -day: "key ops has expired: nothing is backed up for it any more",
	} {
		s := good()
		s.Keys[0].Expires = at.Add(left)
		if f := told(t, s, health.KeyDue); f.Text != want {
			t.Errorf("with %v left: %s", left, f.Text)
		}
	}
}

func TestServiceAndTrust(t *testing.T) {
	for _, c := range []condition{
		{"audit", func(s *health.State, _ *health.Job) { s.Audit.Broken = "record 7 was changed" }, []string{"audit_broken///"}},
		{"config", func(s *health.State, _ *health.Job) { s.Service.Config = "the file changed" }, []string{"config_changed///"}},
		{"clock", func(s *health.State, _ *health.Job) { s.Service.Clock = "the clock was set back by 2 h" }, []string{"clock_off///service"}},
		{"channel", func(s *health.State, _ *health.Job) { s.Service.Channels[0].Failed = "timeout" }, []string{"channel_failing///mail"}},
		{"recipient", func(_ *health.State, job *health.Job) { job.Recipient = []string{"age1x", "age1y"} }, []string{"recipient_unknown/app//"}},
		{"a backup 5 minutes ahead", func(_ *health.State, job *health.Job) {
			job.Backups = append(job.Backups, health.Backup{ID: "ahead", Kind: "full", Time: at.Add(5 * time.Minute), Complete: true})
		}, nil},
		{"a backup further ahead", func(_ *health.State, job *health.Job) {
			job.Backups = append(job.Backups, health.Backup{ID: "ahead", Kind: "full", Time: at.Add(5*time.Minute + 1), Complete: true})
		}, []string{"clock_off/app//"}},
		{"the clock was set back by an hour, and backups are dense", func(_ *health.State, job *health.Job) {
			job.Backups, job.Interval, job.Due = series(100, -hour, hour), hour, at.Add(-hour)
			for i := range job.Places {
				job.Places[i].Newest, job.Places[i].Times = at.Add(hour), times(job.Backups)
			}
		}, []string{"clock_off/app//"}},
	} {
		c.run(t)
	}
}
