package health_test

import (
	"testing"
	"time"

	"holdfast/internal/health"
)

// newest returns the newest backup of a job, to be changed.
func newest(job *health.Job) *health.Backup { return &job.Backups[len(job.Backups)-1] }

func TestSizes(t *testing.T) {
	stored := func(n int64) func(*health.State, *health.Job) {
		return func(_ *health.State, job *health.Job) { newest(job).Items[0].Stored = n }
	}
	const million = 1_000_000
	// usually makes the sizes of the days before what they are given, oldest first.
	usually := func(now int64, before ...int64) func(*health.State, *health.Job) {
		return func(_ *health.State, job *health.Job) {
			job.Backups = series(len(before)+1, 8*hour, day)
			for i, n := range append(before, now) {
				job.Backups[i].Items[0].Stored, job.Backups[i].Items[0].Plain = n, n
			}
		}
	}
	odd := []string{"size/app//db/db.sql"}
	for _, c := range []condition{
		{"30 % larger", usually(1_300_000, million, million, million), nil},
		{"more", usually(1_300_001, million, million, million), odd},
		{"30 % smaller", usually(700_000, million, million, million), nil},
		{"less", usually(699_999, million, million, million), odd},
		{"half", stored(size / 2), odd},
		{"nothing", stored(0), odd},
		{"nothing before", usually(9 * million), nil},
		{"two before are no median", usually(9*million, million, million), nil},
		{"three are", usually(9*million, million, million, million), odd},
		{"the median of four", usually(1_900_000, 1_000_000, 1_000_000, 2_000_000, 2_000_000), nil},
		{"one odd day before changes no median", usually(million, million, 50*million, million, million), nil},
		{"small ones vary", usually(900, 4000, 4000, 4000), nil},
		{"small ones by 4 KiB", usually(500, 4596, 4596, 4596), odd},
		{"small ones by less", usually(501, 4596, 4596, 4596), nil},
		{"a small one is empty now", func(s *health.State, job *health.Job) {
			usually(900, 900, 900, 900)(s, job)
			newest(job).Items[0].Plain = 0
		}, odd},
		{"it was always empty", usually(0, 0, 0, 0, 0), nil},
		{"it was always empty, and is not now", usually(million, 0, 0, 0, 0), odd},
		{"what is older than a week does not count", func(s *health.State, job *health.Job) {
			job.Backups = series(10, 8*hour, day)
			for i := range 7 { // of these, some are in the week before the newest
				job.Backups[i].Items[0].Stored = 10 * size
			}
		}, odd},
		{"7 days to the second", func(s *health.State, job *health.Job) {
			usually(9*million, million, million, million)(s, job)
			job.Backups[0].Time = newest(job).Time.Add(-7 * day)
		}, odd},
		{"and a second more", func(s *health.State, job *health.Job) {
			usually(9*million, million, million, million)(s, job)
			job.Backups[0].Time = newest(job).Time.Add(-7*day - time.Second)
		}, nil},
		{"another kind is not compared", func(_ *health.State, job *health.Job) {
			for i := range len(job.Backups) - 1 {
				job.Backups[i].Kind, job.Backups[i].Items[0].Stored = "hourly", 10*size
			}
		}, nil},
		{"incomplete ones are not compared", func(_ *health.State, job *health.Job) {
			for i := range len(job.Backups) - 1 {
				job.Backups[i].Complete, job.Backups[i].Items[0].Stored = i < 10, 10*size
			}
		}, nil},
		{"both items", func(_ *health.State, job *health.Job) {
			newest(job).Items[0].Stored, newest(job).Items[1].Stored = 1, 9*size
		}, []string{"size/app//db/db.sql", "size/app//web/web.tar"}},
		{"one appears", func(_ *health.State, job *health.Job) {
			newest(job).Items = append(newest(job).Items, health.Item{Source: "new", Name: "new.tar", Plain: 9 * size, Stored: 9 * size})
		}, nil},
		{"one vanishes", func(_ *health.State, job *health.Job) { newest(job).Items = newest(job).Items[:1] }, []string{"size/app//web/web.tar"}},
		{"one vanished three days ago", func(_ *health.State, job *health.Job) {
			for i := len(job.Backups) - 3; i < len(job.Backups); i++ {
				job.Backups[i].Items = job.Backups[i].Items[:1]
			}
		}, []string{"size/app//web/web.tar"}},
		{"one vanished so long ago that most are without", func(_ *health.State, job *health.Job) {
			for i := len(job.Backups) - 5; i < len(job.Backups); i++ {
				job.Backups[i].Items = job.Backups[i].Items[:1]
			}
		}, nil},
		{"one vanishes that was there three times, and more is not known", func(_ *health.State, job *health.Job) {
			for i := range len(job.Backups) - 1 {
				if i < 26 {
					job.Backups[i].Items = nil
				}
			}
			newest(job).Items = newest(job).Items[:1]
		}, []string{"size/app//web/web.tar"}},
		{"one vanished, and half are without", func(_ *health.State, job *health.Job) {
			job.Backups = job.Backups[len(job.Backups)-7:]
			for i := 3; i < len(job.Backups); i++ {
				job.Backups[i].Items = job.Backups[i].Items[:1]
			}
		}, nil},
		{"one was there only twice", func(_ *health.State, job *health.Job) {
			for i := range job.Backups {
				if i < 27 || i == 29 {
					job.Backups[i].Items = job.Backups[i].Items[:1]
				}
			}
		}, nil},
		{"the newest manifest was not read", func(_ *health.State, job *health.Job) { newest(job).Items = nil }, nil},
		{"no earlier manifest was read", func(_ *health.State, job *health.Job) {
			for i := range len(job.Backups) - 1 {
				job.Backups[i].Items = nil
			}
			newest(job).Items[0].Stored = 1
		}, nil},
	} {
		c.run(t)
	}
}

func TestSizeTexts(t *testing.T) {
	for _, c := range []struct {
		change func(*health.Backup)
		want   string
	}{
		{func(b *health.Backup) { b.Items[0].Stored = size / 4 }, "source db: db.sql is 75 % smaller than the median of the last 7 days"},
		{func(b *health.Backup) { b.Items[0].Stored = 3*size - 1 }, "source db: db.sql is 199 % larger than the median of the last 7 days"},
		{func(b *health.Backup) { b.Items[0].Plain = 0 }, "source db: db.sql is empty, and was not in the last 7 days"},
		{func(b *health.Backup) { b.Items = b.Items[1:] }, "source db: db.sql is gone, and was there in the last 7 days"},
	} {
		s := good()
		c.change(newest(&s.Jobs[0]))
		if f := told(t, s, health.SizeOdd); f.Text != c.want || !f.Since.Equal(newest(&s.Jobs[0]).Time) {
			t.Errorf("since %v: %s\nwant %s", f.Since, f.Text, c.want)
		}
	}
	s := good()
	for i := range s.Jobs[0].Backups {
		s.Jobs[0].Backups[i].Items[0].Stored = 0
	}
	newest(&s.Jobs[0]).Items[0].Stored = 1 << 62
	if f := told(t, s, health.SizeOdd); f.Text != "source db: db.sql was empty in the last 7 days, and is not any more" {
		t.Error(f.Text)
	}
}

func TestDurations(t *testing.T) {
	took := func(now time.Duration, before ...time.Duration) func(*health.State, *health.Job) {
		return func(_ *health.State, job *health.Job) {
			job.Backups = series(len(before)+1, 8*hour, day)
			for i, d := range append(before, now) {
				job.Backups[i].Took = d
			}
			job.Tasks[0].Attempt, job.Tasks[0].Success = at.Add(-8*hour), at.Add(-8*hour)
		}
	}
	const m = time.Minute
	odd := []string{"duration/app//"}
	for _, c := range []condition{
		{"three times", took(30*m, 10*m, 10*m, 10*m), nil},
		{"more", took(30*m+1, 10*m, 10*m, 10*m), odd},
		{"two before", took(90*m, 10*m, 10*m), nil},
		{"two of three before are known", took(90*m, 10*m, 0, 10*m), nil},
		{"by less than a minute", took(61*time.Second, 2*time.Second, 2*time.Second, 2*time.Second), nil},
		{"by a minute", took(62*time.Second, 2*time.Second, 2*time.Second, 2*time.Second), odd},
		{"not known", took(0, 10*m, 10*m, 10*m), nil},
		{"less than nothing", took(-hour, 10*m, 10*m, 10*m), nil},
		{"faster", took(1, 10*m, 10*m, 10*m), nil},
	} {
		c.run(t)
	}
}
