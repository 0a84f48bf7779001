package health_test

import (
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"holdfast"
	"holdfast/internal/health"
)

// checkTexts fails unless a finding says on one line each what is wrong and what to do.
func checkTexts(t interface {
	Helper()
	Errorf(string, ...any)
}, f health.Finding) {
	t.Helper()
	for _, text := range []string{f.Text, f.Hint} {
		if text == "" || strings.ContainsFunc(text, unicode.IsControl) || strings.HasSuffix(text, ".") {
			t.Errorf("%s says %q", f.Key(), text)
		}
	}
	if strings.HasPrefix(f.Text, f.About()) && f.About() != "" {
		t.Errorf("%s says twice what it is about: %q", f.Key(), f.Text)
	}
	if !slices.Contains(health.Alarms(), f.Alarm) {
		t.Errorf("%s is not in the list of all alarms", f.Alarm)
	}
}

func TestWorstAndOldestFirst(t *testing.T) {
	s := good()
	second := good().Jobs[0]
	second.Name = "web"
	s.Jobs = append(s.Jobs, second)
	job := &s.Jobs[0]
	job.RTO = time.Minute                                                                                              // since 3 days
	newest(job).Items[0].Stored = 1                                                                                    // since 8 hours
	job.Places[1].Newest = at.Add(-56 * hour)                                                                          // since 30 hours
	job.Tasks[0].Attempt, job.Tasks[0].Result = at.Add(-2*hour), "failed"                                              // since 2 hours
	s.Jobs[1].Proofs = append(s.Jobs[1].Proofs, proof(-day, -day-hour, holdfast.Failed, "main"))                       // since a day
	s.Jobs[1].Places[1].Down = "no route"                                                                              // nobody knows since when
	s.Jobs[1].Proofs = append(s.Jobs[1].Proofs, proof(-hour, -day, holdfast.CannotTest, "main"))                       // since an hour
	s.Keys[0].Created, s.Service.Channels[0] = at.Add(-900*day), health.Channel{"mail", "timeout", at.Add(-20 * hour)} // not known; since 20 hours
	want := []string{
		"drill_failed/web//", "failed/app//",
		"store_down/web/away/", "key_due///ops/age", "objective_missed/app//rto", "copy_missing/app/away/", "channel_failing///mail", "size/app//db/db.sql", "drill_impossible/web//",
	}
	findings := health.Judge(s, health.Limits{})
	if got := keys(findings); !slices.Equal(got, want) {
		t.Errorf("in the order %q\nwant %q", got, want)
	}
	if text := health.Sentence(s, findings); text != "CRITICAL: job web: the drill of backup backup0007 failed (and 8 more)" {
		t.Error(text)
	}
}

func TestKeysAreThoseOfConditions(t *testing.T) {
	s := good()
	job := &s.Jobs[0]
	job.Backups, job.Due, job.RPO = series(9, 30*hour, day), time.Time{}, hour
	job.Places[1] = health.Place{Store: "away", Newest: at.Add(-100 * hour), Damaged: 1}
	s.Stores[0].Used, s.Stores[0].Free = free(10, 5*size, size), 5*size
	s.Keys[0].Checked = at.Add(-150 * day)
	before := health.Judge(s, health.Limits{})
	s.At = s.At.Add(5 * hour)
	s.Stores[0].Free -= size / 4
	job.Places[1].Damaged++
	after := health.Judge(s, health.Limits{})
	if len(before) != 6 || !slices.Equal(slices.Sorted(slices.Values(keys(before))), slices.Sorted(slices.Values(keys(after)))) {
		t.Errorf("five hours later the same is called otherwise:\n%q\n%q", keys(before), keys(after))
	}
	seen := map[string]bool{}
	for _, f := range []health.Finding{
		{Alarm: health.Stale, Job: "a"}, {Alarm: health.Stale, Job: "b"}, {Alarm: health.RunFailed, Job: "a"}, {Alarm: health.CopyMissing, Job: "a", Store: "x"},
		{Alarm: health.CopyMissing, Job: "a", Store: "y"}, {Alarm: health.SizeOdd, Job: "a", What: "db/x"}, {Alarm: health.SizeOdd, Job: "a", What: "db/y"}, {Alarm: health.DiskFull, Store: "x"},
	} {
		if seen[f.Key()] {
			t.Errorf("two conditions are called %s", f.Key())
		}
		seen[f.Key()] = true
	}
}

func TestSentence(t *testing.T) {
	two := good()
	two.Jobs = append(two.Jobs, health.Job{Name: "new"})
	for _, c := range []struct {
		state    health.State
		findings []health.Finding
		want     string
	}{
		{health.State{}, nil, "there is no job to look at"},
		{good(), nil, "all is well: 1 job, 1 of them proven by a drill"},
		{two, nil, "all is well: 2 jobs, 1 of them proven by a drill"},
		{good(), []health.Finding{{Alarm: health.Stale, Job: "app", Text: "it is old"}}, "CRITICAL: job app: it is old"},
		{good(), []health.Finding{{Alarm: health.CopyMissing, Job: "app", Store: "away", Text: "it lacks something"}, {}}, "WARNING: job app, store away: it lacks something (and 1 more)"},
		{health.State{}, []health.Finding{{Alarm: health.AuditBroken, Text: "the journal is not what was signed"}}, "CRITICAL: the journal is not what was signed"},
	} {
		if got := health.Sentence(c.state, c.findings); got != c.want {
			t.Errorf("%q\nwant %q", got, c.want)
		}
	}
}

// TestCounts: what is counted is told in one and in several.
func TestCounts(t *testing.T) {
	for n, want := range map[int]string{1: "1 copy did not stand the last check", 5: "5 copies did not stand the last check"} {
		s := good()
		s.Jobs[0].Places[0].Damaged = n
		if f := told(t, s, health.VerifyFailed); f.Text != want {
			t.Errorf("%q, want %q", f.Text, want)
		}
	}
	s := good()
	s.Jobs[0].Places[0].Hidden = 2
	if f := told(t, s, health.VerifyFailed); !strings.HasPrefix(f.Text, "the manifest of 2 copies was ") {
		t.Error(f.Text)
	}
}

func TestNext(t *testing.T) {
	job := good().Jobs[0]
	if got := job.NextDrill(); !got.IsZero() {
		t.Errorf("with no drill on the schedule, the next one is due at %v", got)
	}
	for i, task := range job.Tasks {
		job.Tasks[i].Next = map[holdfast.Task]time.Time{
			holdfast.TaskBackup: at.Add(hour), holdfast.TaskKeyCheck: at.Add(2 * hour), holdfast.TaskDrill: at.Add(9 * hour), holdfast.TaskDrillOld: at.Add(3 * hour),
		}[task.Task]
	}
	if backup, drill := job.Next(), job.NextDrill(); !backup.Equal(at.Add(hour)) || !drill.Equal(at.Add(3*hour)) {
		t.Errorf("the next backup is due at %v, the next drill at %v", backup, drill)
	}
}

// TestLastGood is the moment that health and the metrics go by.
func TestLastGood(t *testing.T) {
	job := func(change func(*health.Job)) health.Job {
		job := good().Jobs[0]
		job.Tasks[0].Success = at.Add(-hour)
		change(&job)
		return job
	}
	down := func(i int) func(*health.Job) {
		return func(job *health.Job) { job.Places[i] = health.Place{Store: job.Places[i].Store, Down: "no route"} }
	}
	for _, c := range []struct {
		name   string
		change func(*health.Job)
		want   time.Time
	}{
		{"the stores tell", func(*health.Job) {}, at.Add(-8 * hour)},
		{"a mirror is down", down(1), at.Add(-8 * hour)},
		{"the own store is down", down(0), at.Add(-hour)},
		{"the own store is down, and a mirror has a newer one", func(job *health.Job) { down(0)(job); job.Tasks[0].Success = at.Add(-day) }, at.Add(-8 * hour)},
		{"the newest is incomplete", func(job *health.Job) { job.Backups[29].Complete = false }, at.Add(-32 * hour)},
		{"one lies in the future", func(job *health.Job) {
			job.Backups = append(job.Backups, health.Backup{Time: at.Add(day), Complete: true})
		}, at.Add(-8 * hour)},
		{"a run lies in the future", func(job *health.Job) { down(0)(job); job.Tasks[0].Success = at.Add(day) }, at.Add(-8 * hour)},
		{"nothing", func(job *health.Job) { *job = health.Job{} }, time.Time{}},
	} {
		if got := job(c.change).LastGood(at); !got.Equal(c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-hour: "0 s", 0: "0 s", 59*time.Second + 999*time.Millisecond: "59 s", time.Minute: "1 min", 2*hour - 1: "119 min", 2 * hour: "2 h", 48*hour - 1: "47 h", 48 * hour: "2 days", 400*day + hour: "400 days",
	} {
		if got := health.Span(d); got != want {
			t.Errorf("%d is %q, want %q", d, got, want)
		}
	}
}

func TestGrace(t *testing.T) {
	for interval, want := range map[time.Duration]time.Duration{
		0: 30 * time.Minute, time.Minute: 30 * time.Minute, 6 * hour: 30 * time.Minute, 12 * hour: hour, day: 2 * hour, 6 * day: 12 * hour, 365 * day: 12 * hour,
	} {
		if got := (health.Limits{}).GraceFor(interval); got != want {
			t.Errorf("%v have %v, want %v", interval, got, want)
		}
	}
	if got := (health.Limits{Grace: 7}).GraceFor(day); got != 7 {
		t.Errorf("what is set is %v", got)
	}
}

// TestLimits sets each limit so that what is good by default is not.
func TestLimits(t *testing.T) {
	s := good()
	job := &s.Jobs[0]
	newest(job).Items[0].Stored += size / 10
	newest(job).Took *= 2
	s.Stores[0].Used, s.Stores[0].Free = free(10, 50*size, size), 50*size
	if findings := health.Judge(s, health.Limits{}); len(findings) != 0 {
		t.Fatalf("by default there is %q", keys(findings))
	}
	for want, limits := range map[string]health.Limits{
		"size/app//db/db.sql":   {Size: 0.05},
		"duration/app//":        {Duration: 1.5},
		"disk_full//main/":      {DiskDays: 51},
		"key_due///ops/expires": {KeyDays: 200},
	} {
		if got := keys(health.Judge(s, limits)); !slices.Equal(got, []string{want}) {
			t.Errorf("found %q, want %s", got, want)
		}
	}
	job.Interval, job.Due, job.RPO = 8*hour-time.Minute, time.Time{}, 0
	if got := keys(health.Judge(s, health.Limits{Grace: time.Second})); !slices.Equal(got, []string{"stale/app//"}) {
		t.Errorf("with a grace of a second: %q", got)
	}
}

func TestErrorsOfSeveralLinesComeOnOne(t *testing.T) {
	s := good()
	s.Jobs[0].Places[1].Down = "list commits: refused\nlist runs: refused\x1b[2J"
	if f := told(t, s, health.StoreDown); f.Text != "it cannot be looked at: list commits: refused; list runs: refused; [2J" {
		t.Errorf("%q", f.Text)
	}
}
