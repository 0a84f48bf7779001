package health_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/health"
)

const (
	hour = time.Hour
	day  = 24 * hour
	size = 1 << 20
)

var at = time.Date(2026, 7, 10, 10, 0, 0, 0, time.UTC)

// series are n backups of one kind, the newest so old, so far apart from one another.
func series(n int, newest, apart time.Duration) []health.Backup {
	var all []health.Backup
	for i := n - 1; i >= 0; i-- {
		all = append(all, health.Backup{
			ID: holdfast.BackupID(fmt.Sprintf("backup%04d", i)), Kind: "full", Time: at.Add(-newest - time.Duration(i)*apart), Complete: true, Stored: size, Took: 10 * time.Minute,
			Items: []health.Item{{Source: "db", Name: "db.sql", Plain: 4 * size, Stored: size}, {Source: "web", Name: "web.tar", Plain: size, Stored: size}},
		})
	}
	return all
}

// times are when backups were made.
func times(backups []health.Backup) []time.Time {
	var all []time.Time
	for _, b := range backups {
		all = append(all, b.Time)
	}
	return all
}

// good is a state in which nothing is wrong: a job that backs up every day at 2 and was looked at at 10.
func good() health.State {
	backups := series(30, 8*hour, day)
	job := health.Job{
		Name: "app", Scheduled: true, Interval: day, Due: at.Add(-8 * hour), First: at.Add(-400 * day), RPO: day, RTO: 4 * hour, Backups: backups,
		Places: []health.Place{
			{Store: "main", Copies: 30, Newest: at.Add(-8 * hour), Verified: at.Add(-day), Pruned: at.Add(-4 * hour)},
			{Store: "away", Copies: 30, Newest: at.Add(-8 * hour)},
		},
		Tasks: []health.Task{
			{Task: holdfast.TaskBackup, Interval: day, Attempt: at.Add(-8*hour + 10*time.Minute), Success: at.Add(-8*hour + 10*time.Minute), Result: "good", Took: 10 * time.Minute, Next: at.Add(16 * hour)},
			{Task: holdfast.TaskDrill, Interval: 7 * day},
			{Task: holdfast.TaskDrillCopy, Interval: 30 * day},
			{Task: holdfast.TaskDrillOld, Interval: 91 * day},
			{Task: holdfast.TaskKeyCheck, Interval: 91 * day},
		},
		Proofs: []health.Proof{
			proof(-40*day, -55*day, holdfast.Proven, "main"),
			proof(-20*day, -20*day-hour, holdfast.Proven, "away"),
			proof(-3*day, -3*day-hour, holdfast.Proven, "main"),
		},
	}
	return health.State{
		At: at, Host: "app1", Jobs: []health.Job{job},
		Stores: []health.Store{{Name: "main", Free: 100 * size, Used: free(14, 100*size, 0)}, {Name: "away", Free: -1}},
		Keys:   []health.Key{{Name: "ops", Created: at.Add(-200 * day), Expires: at.Add(165 * day), Checked: at.Add(-50 * day), Needed: true}, {Name: "old"}},
		Audit:  health.Audit{Records: 4711, Checked: at},
		Service: health.Service{
			Running: true, Started: at.Add(-100 * day), Channels: []health.Channel{{Name: "mail"}},
		},
	}
}

// proof is a verdict so long ago, of a backup so long ago.
func proof(when, of time.Duration, verdict holdfast.Verdict, store string) health.Proof {
	return health.Proof{Time: at.Add(when), Backup: "backup0007", Of: at.Add(of), Verdict: verdict, Store: store, Trusted: true, Compared: 100, RTO: hour}
}

// free are samples of the last days, which end at so many bytes and lose so many every day.
func free(days int, now, daily int64) []health.Sample {
	var all []health.Sample
	for i := days; i >= 0; i-- {
		all = append(all, health.Sample{Time: at.Add(-time.Duration(i) * day), Free: now + int64(i)*daily})
	}
	return all
}

func keys(findings []health.Finding) []string {
	keys := []string{}
	for _, f := range findings {
		keys = append(keys, f.Key())
	}
	return keys
}

// condition is a state that was good until something happened to it, and the keys of what must be found.
type condition struct {
	name   string
	change func(s *health.State, job *health.Job)
	want   []string
}

func (c condition) run(t *testing.T) {
	t.Run(c.name, func(t *testing.T) {
		s := good()
		c.change(&s, &s.Jobs[0])
		findings := health.Judge(s, health.Limits{})
		if got := keys(findings); !slices.Equal(got, append([]string{}, c.want...)) {
			t.Errorf("found %q\nwant  %q", got, c.want)
		}
		for _, f := range findings {
			checkTexts(t, f)
		}
	})
}

// told returns the one finding of an alarm.
func told(t *testing.T, s health.State, alarm health.Alarm) health.Finding {
	t.Helper()
	var found []health.Finding
	for _, f := range health.Judge(s, health.Limits{}) {
		if f.Alarm == alarm {
			found = append(found, f)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d findings of %s, want one: %q", len(found), alarm, keys(found))
	}
	return found[0]
}
