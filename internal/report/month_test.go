package report_test

import (
	"slices"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/report"
)

func TestMissing(t *testing.T) {
	at := time.Date(2026, 11, 3, 2, 0, 0, 0, time.UTC)
	drill := func(verdict holdfast.Verdict, differ int, rto time.Duration) report.MonthDrill {
		return report.MonthDrill{Time: at, Backup: "40323samuq", Verdict: verdict, Differ: differ, RTO: report.Seconds(rto)}
	}
	passed := drill(holdfast.Proven, 0, time.Hour)
	day := report.Gap{From: at, Until: at.Add(24 * time.Hour)}
	for _, c := range []struct {
		name     string
		rpo, rto time.Duration
		change   func(*report.MonthJob)
		want     []string
	}{
		{"nothing", 24 * time.Hour, time.Hour, func(*report.MonthJob) {}, nil},
		{"nothing was done", 0, 0, func(j *report.MonthJob) { j.Good, j.Drills = 0, nil }, []string{"no complete backup was made", "nothing was proven by a drill"}},
		{"differences", 0, 0, func(j *report.MonthJob) {
			j.Drills = append(j.Drills, drill(holdfast.Failed, 2, 0), drill(holdfast.Failed, 1, 0))
		}, []string{"the drill of 40323samuq on 2026-11-03 found 2 differences", "the drill of 40323samuq on 2026-11-03 found 1 difference"}},
		{"nothing came back", 0, 0, func(j *report.MonthJob) { j.Drills = append(j.Drills, drill(holdfast.Failed, 0, 0)) },
			[]string{"the drill of 40323samuq on 2026-11-03 failed"}},
		{"could not test", 0, 0, func(j *report.MonthJob) { j.Drills = append(j.Drills, drill(holdfast.CannotTest, 0, 0)) },
			[]string{"the drill of 40323samuq on 2026-11-03 could not test"}},
		{"too slow", 0, 90 * time.Minute, func(j *report.MonthJob) { j.Drills = append(j.Drills, drill(holdfast.Proven, 0, 2*time.Hour)) },
			[]string{"the drill on 2026-11-03 took 2h0m0s, and a restore may take 1h30m"}},
		{"a gap", 0, 0, func(j *report.MonthJob) { j.Gaps = []report.Gap{day} }, []string{"no complete backup from 2026-11-03 02:00 to 2026-11-04 02:00"}},
		{"a gap as long as the RPO", 24 * time.Hour, 0, func(j *report.MonthJob) { j.Gaps = []report.Gap{day} }, []string{"no complete backup from 2026-11-03 02:00 to 2026-11-04 02:00"}},
		{"a longer one", 6 * time.Hour, 0, func(j *report.MonthJob) { j.Gaps = []report.Gap{day} },
			[]string{"no complete backup from 2026-11-03 02:00 to 2026-11-04 02:00, and at most 6h of work may be lost (RPO)"}},
	} {
		job := report.NewMonthJob("app", c.rpo, c.rto)
		job.Good, job.Drills = 1, []report.MonthDrill{passed}
		c.change(&job)
		if got := job.Missing(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
