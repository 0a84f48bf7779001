package health_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"holdfast"
	"holdfast/internal/health"
)

// draw makes a state of anything that a survey could find, and of much that it could not.
func draw(t *rapid.T) health.State {
	s := health.State{At: at, Host: "app1"}
	for i := range rapid.IntRange(0, 3).Draw(t, "jobs") {
		s.Jobs = append(s.Jobs, drawJob(t, holdfast.JobName(fmt.Sprintf("job%d", i))))
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "stores") {
		store := health.Store{Name: fmt.Sprintf("store%d", i), Down: drawWhy(t), Free: rapid.Int64Range(-1, 100).Draw(t, "free")}
		for range rapid.IntRange(0, 5).Draw(t, "samples") {
			store.Used = append(store.Used, health.Sample{Time: drawTime(t), Free: rapid.Int64Min(0).Draw(t, "sample")})
		}
		slices.SortFunc(store.Used, func(x, y health.Sample) int { return x.Time.Compare(y.Time) })
		s.Stores = append(s.Stores, store)
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "keys") {
		s.Keys = append(s.Keys, health.Key{Name: fmt.Sprintf("key%d", i), Created: drawTime(t), Expires: drawTime(t), Checked: drawTime(t), Needed: rapid.Bool().Draw(t, "needed")})
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "volumes") {
		s.Volumes = append(s.Volumes, drawVolume(t, fmt.Sprintf("volume%d", i)))
	}
	s.Audit.Broken, s.Service.Config, s.Service.Clock = drawWhy(t), drawWhy(t), drawWhy(t)
	s.Service.Channels = []health.Channel{{Name: "mail", Failed: drawWhy(t), Since: drawTime(t)}, {Name: "chat", Failed: drawWhy(t)}}
	return s
}

func drawJob(t *rapid.T, name holdfast.JobName) health.Job {
	job := health.Job{
		Name: name, Scheduled: rapid.Bool().Draw(t, "scheduled"), Paused: rapid.Bool().Draw(t, "paused"), Interval: drawSpan(t), Due: drawTime(t), First: drawTime(t), RPO: drawSpan(t), RTO: drawSpan(t),
		Recipient: rapid.SampledFrom([][]string{nil, nil, {"age1x"}}).Draw(t, "recipients"),
	}
	for i := range rapid.IntRange(0, 12).Draw(t, "backups") {
		b := health.Backup{
			ID: holdfast.BackupID(fmt.Sprintf("backup%d", i)), Kind: rapid.SampledFrom([]string{"full", "full", "full", "hourly"}).Draw(t, "kind"), Time: drawMoment(t),
			Complete: rapid.IntRange(0, 4).Draw(t, "complete") > 0, Took: drawSpan(t),
		}
		for _, item := range []string{"a", "b"} {
			if rapid.IntRange(0, 4).Draw(t, "item") > 0 {
				b.Items = append(b.Items, health.Item{Source: "db", Name: item, Plain: drawSize(t), Stored: drawSize(t)})
			}
		}
		job.Backups = append(job.Backups, b)
	}
	most := 0
	if len(job.Backups) > 0 { // there is one that is old, and one that a drill was of
		most, job.Backups[0].Time = 5, at.Add(-40*day)
	}
	slices.SortStableFunc(job.Backups, func(x, y health.Backup) int { return x.Time.Compare(y.Time) })
	for i := range rapid.IntRange(0, 3).Draw(t, "places") {
		job.Places = append(job.Places, health.Place{
			Store: fmt.Sprintf("store%d", i), Down: drawWhy(t), Newest: drawTime(t), Damaged: rapid.IntRange(0, 1).Draw(t, "damaged"), Hidden: rapid.IntRange(0, 1).Draw(t, "hidden"),
			Pruned: drawTime(t), Blocked: drawWhy(t), Since: drawTime(t),
		})
	}
	for range rapid.IntRange(0, most).Draw(t, "proofs") {
		moment := drawMoment(t)
		job.Proofs = append(job.Proofs, health.Proof{
			Time: moment, Of: moment.Add(-time.Duration(rapid.Int64Range(0, int64(20*day)).Draw(t, "of"))), Verdict: rapid.SampledFrom([]holdfast.Verdict{holdfast.Proven, holdfast.Proven, holdfast.Failed, holdfast.CannotTest, holdfast.Restores}).Draw(t, "verdict"),
			Store: rapid.SampledFrom([]string{"", "store0", "store1"}).Draw(t, "in"), Trusted: rapid.Bool().Draw(t, "trusted"), RTO: drawSpan(t),
		})
	}
	slices.SortStableFunc(job.Proofs, func(x, y health.Proof) int { return x.Time.Compare(y.Time) })
	for _, task := range holdfast.Tasks() {
		if rapid.Bool().Draw(t, "task") {
			job.Tasks = append(job.Tasks, health.Task{
				Task: task, Interval: drawSpan(t), Attempt: drawTime(t), Success: drawTime(t), Next: drawTime(t),
				Result: rapid.SampledFrom([]string{"", "good", "failed", "incomplete", "interrupted"}).Draw(t, "result"),
			})
		}
	}
	return job
}

// drawTime is mostly in the last weeks, and sometimes none, in the future, or out of all reason.
func drawTime(t *rapid.T) time.Time {
	switch rapid.IntRange(0, 9).Draw(t, "when") {
	case 0:
		return time.Time{}
	case 1:
		return at.Add(drawSpan(t))
	case 2:
		return rapid.SampledFrom([]time.Time{time.Unix(0, 0), time.Unix(1<<40, 0), at.AddDate(900, 0, 0)}).Draw(t, "odd time")
	}
	return at.Add(-time.Duration(rapid.Int64Range(0, int64(30*day)).Draw(t, "ago")))
}

// drawMoment is a time that there always is.
func drawMoment(t *rapid.T) time.Time {
	if moment := drawTime(t); !moment.IsZero() {
		return moment
	}
	return at
}

func drawSpan(t *rapid.T) time.Duration {
	return rapid.SampledFrom([]time.Duration{0, 0, 1, time.Minute, hour, hour + 1, day, 7 * day, 400 * day, 1 << 62}).Draw(t, "span")
}

func drawSize(t *rapid.T) int64 {
	return rapid.SampledFrom([]int64{0, 1, 4 << 10, 9 << 10, 1 << 20, 1 << 21, 1 << 62}).Draw(t, "size")
}

func drawWhy(t *rapid.T) string {
	return rapid.SampledFrom([]string{"", "", "", "it is\nso", "no route"}).Draw(t, "why")
}

func TestLawsOfFindings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := draw(t)
		findings := health.Judge(s, health.Limits{})
		seen := map[string]bool{}
		for i, f := range findings {
			checkTexts(t, f)
			if seen[f.Key()] {
				t.Errorf("%s is found twice", f.Key())
			}
			seen[f.Key()] = true
			if i == 0 {
				continue
			}
			before := findings[i-1]
			if order := cmp.Or(cmp.Compare(f.Alarm.Severity(), before.Alarm.Severity()), before.Since.Compare(f.Since)); order > 0 {
				t.Errorf("%s stands before %s", before.Key(), f.Key())
			}
		}
		if again := health.Judge(s, health.Limits{}); !slices.Equal(again, findings) {
			t.Errorf("the same state is judged otherwise: %q, %q", keys(findings), keys(again))
		}
		if text := health.Sentence(s, findings); len(findings) > 0 != (strings.HasPrefix(text, "CRITICAL: ") || strings.HasPrefix(text, "WARNING: ")) {
			t.Errorf("%d findings are told as %q", len(findings), text)
		}
	})
}

// worsening is something that can become worse, with the alarms whose findings may end by that.
type worsening struct {
	change func(t *rapid.T, s *health.State, job *health.Job)
	ends   []health.Alarm
}

func worse() map[string]worsening {
	place := func(do func(p *health.Place)) func(*rapid.T, *health.State, *health.Job) {
		return func(t *rapid.T, _ *health.State, job *health.Job) {
			if n := len(job.Places); n > 0 {
				do(&job.Places[rapid.IntRange(0, n-1).Draw(t, "place")])
			}
		}
	}
	all := map[string]worsening{
		"time goes by": {func(t *rapid.T, s *health.State, _ *health.Job) {
			s.At = s.At.Add(time.Duration(rapid.Int64Range(0, int64(60*day)).Draw(t, "later")))
		}, []health.Alarm{health.ClockOff, health.VolumeUnlockFailed}},
		"a copy is damaged":       {place(func(p *health.Place) { p.Damaged++ }), nil},
		"a copy is hidden":        {place(func(p *health.Place) { p.Hidden++ }), nil},
		"a prune is blocked":      {place(func(p *health.Place) { p.Blocked = "a gap" }), nil},
		"a mirror lost its copy":  {place(func(p *health.Place) { p.Newest = time.Time{} }), nil},
		"an unknown recipient":    {func(_ *rapid.T, _ *health.State, job *health.Job) { job.Recipient = append(job.Recipient, "age1y") }, nil},
		"less may be lost":        {func(_ *rapid.T, _ *health.State, job *health.Job) { job.RPO = min(job.RPO, 1) }, []health.Alarm{health.ObjectiveMissed}},
		"the journal is broken":   {func(_ *rapid.T, s *health.State, _ *health.Job) { s.Audit.Broken = "x" }, nil},
		"a channel fails":         {func(_ *rapid.T, s *health.State, _ *health.Job) { s.Service.Channels[0].Failed = "x" }, nil},
		"the clock is odd":        {func(_ *rapid.T, s *health.State, _ *health.Job) { s.Service.Clock = "x" }, nil},
		"the configuration is":    {func(_ *rapid.T, s *health.State, _ *health.Job) { s.Service.Config = "x" }, nil},
		"all verdicts are gone":   {func(_ *rapid.T, _ *health.State, job *health.Job) { job.Proofs = nil }, []health.Alarm{health.DrillFailed, health.DrillImpossible, health.DrillOverdue, health.ObjectiveMissed, health.ClockOff}},
		"no verdict counts":       {func(_ *rapid.T, _ *health.State, job *health.Job) { distrust(job) }, []health.Alarm{health.ObjectiveMissed}},
		"a drill fails":           {func(_ *rapid.T, _ *health.State, job *health.Job) { fail(job) }, []health.Alarm{health.DrillImpossible}},
		"all backups are gone":    {func(_ *rapid.T, _ *health.State, job *health.Job) { lose(job) }, []health.Alarm{health.Incomplete, health.CopyMissing, health.StoreDown, health.SizeOdd, health.DurationOdd, health.DrillOverdue}},
		"a run fails":             {func(_ *rapid.T, s *health.State, job *health.Job) { failRun(s, job) }, nil},
		"an item becomes larger":  {func(t *rapid.T, _ *health.State, job *health.Job) { resize(t, job) }, []health.Alarm{health.SizeOdd}},
		"a backup lies ahead":     {func(_ *rapid.T, s *health.State, job *health.Job) { plant(s, job) }, nil},
		"a good verdict is faked": {func(_ *rapid.T, s *health.State, job *health.Job) { fake(s, job) }, nil},
		"a store is down": {place(func(p *health.Place) {
			*p = health.Place{Store: p.Store, Down: "no route", Damaged: p.Damaged, Hidden: p.Hidden, Blocked: p.Blocked}
		}),
			[]health.Alarm{health.StoreDown, health.CopyMissing, health.DrillOverdue, health.DrillImpossible, health.KeyDue, health.Stale, health.ObjectiveMissed, health.VolumeHeaderBackup}},
	}
	maps.Copy(all, worseVolume())
	return all
}

func distrust(job *health.Job) {
	job.Proofs = slices.Clone(job.Proofs)
	for i := range job.Proofs {
		job.Proofs[i].Trusted = false
	}
}

func fail(job *health.Job) {
	job.Proofs = append(slices.Clone(job.Proofs), health.Proof{Time: at.Add(-time.Second), Of: at.Add(-time.Hour), Verdict: holdfast.Failed, Trusted: true})
	slices.SortStableFunc(job.Proofs, func(x, y health.Proof) int { return x.Time.Compare(y.Time) })
}

// lose empties stores that can be looked at. That there was something is known.
func lose(job *health.Job) {
	job.First, job.Backups = at.Add(-900*day), nil
	for i := range job.Places {
		job.Places[i].Down = ""
	}
}

func failRun(s *health.State, job *health.Job) {
	job.Tasks = append(slices.Clone(job.Tasks), health.Task{Task: holdfast.TaskBackup, Attempt: s.At.AddDate(1000, 0, 0), Result: "failed"})
}

func resize(t *rapid.T, job *health.Job) {
	if n := len(job.Backups); n > 0 {
		b := &job.Backups[n-1]
		b.Items = slices.Clone(b.Items)
		for i := range b.Items {
			b.Items[i].Stored += rapid.Int64Range(0, 1<<61).Draw(t, "more")
		}
	}
}

func plant(s *health.State, job *health.Job) {
	job.Backups = append(slices.Clone(job.Backups), health.Backup{ID: "planted", Kind: "full", Time: s.At.AddDate(1, 0, 0), Complete: true})
	slices.SortStableFunc(job.Backups, func(x, y health.Backup) int { return x.Time.Compare(y.Time) })
}

func fake(s *health.State, job *health.Job) {
	job.Proofs = append(slices.Clone(job.Proofs), health.Proof{Time: s.At, Of: s.At, Verdict: holdfast.Proven, RTO: 1})
	slices.SortStableFunc(job.Proofs, func(x, y health.Proof) int { return x.Time.Compare(y.Time) })
}

// takeFuture takes out what lies in the future: it becomes better by itself, when its time has come.
func takeFuture(job *health.Job) {
	job.Backups = slices.DeleteFunc(job.Backups, func(b health.Backup) bool { return b.Time.After(at) })
	job.Proofs = slices.DeleteFunc(job.Proofs, func(p health.Proof) bool { return p.Time.After(at) })
	for i := range job.Tasks {
		if job.Tasks[i].Success.After(at) {
			job.Tasks[i].Success = at
		}
	}
	for i := range job.Places {
		if job.Places[i].Newest.After(at) {
			job.Places[i].Newest = at
		}
	}
}

// TestWorseEndsNoOtherAlarm: what becomes worse is found besides what was found before, and in no one's place.
func TestWorseEndsNoOtherAlarm(t *testing.T) {
	for name, row := range worse() {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				s := draw(t)
				if len(s.Jobs) == 0 {
					t.Skip("no job")
				}
				for i := range s.Jobs {
					takeFuture(&s.Jobs[i])
				}
				for i := range s.Volumes {
					takeFutureOf(&s.Volumes[i])
				}
				before := health.Judge(s, health.Limits{})
				job := s.Jobs[0]
				job.Places, job.Backups = slices.Clone(job.Places), slices.Clone(job.Backups)
				s.Jobs = append([]health.Job{job}, s.Jobs[1:]...)
				s.Service.Channels = slices.Clone(s.Service.Channels)
				row.change(t, &s, &s.Jobs[0])
				after := keys(health.Judge(s, health.Limits{}))
				for _, f := range before {
					if !slices.Contains(after, f.Key()) && !slices.Contains(row.ends, f.Alarm) {
						t.Errorf("%s is over: %s\nnow there is %q", f.Key(), f.Text, after)
					}
				}
			})
		})
	}
}

// TestFreshAndGood: where all is fresh and good there is nothing to say, whatever the intervals are.
func TestFreshAndGood(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := good()
		job := &s.Jobs[0]
		interval := time.Duration(rapid.Int64Range(int64(time.Minute), int64(40*day)).Draw(t, "interval"))
		age := time.Duration(rapid.Int64Range(0, int64(interval)).Draw(t, "age"))
		n := rapid.IntRange(1, 60).Draw(t, "backups")
		job.Interval, job.RPO, job.Due, job.Scheduled = interval, 2*interval, at.Add(-age), rapid.Bool().Draw(t, "scheduled")
		job.Backups = series(n, age, interval)
		for i := range job.Backups {
			b := &job.Backups[i]
			b.Took = min(b.Took, age)
			for k := range b.Items {
				b.Items[k].Stored = rapid.Int64Range(900_000, 1_000_000).Draw(t, "size")
			}
		}
		job.Places[0].Newest, job.Places[1].Newest = at.Add(-age), at.Add(-age)
		job.Tasks[0].Attempt, job.Tasks[0].Success = at.Add(-age), at.Add(-age)
		if findings := health.Judge(s, health.Limits{}); len(findings) != 0 {
			t.Errorf("found %q: %s", keys(findings), findings[0].Text)
		}
	})
}
