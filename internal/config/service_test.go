package config_test

import (
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/config"
)

const scheduled = base + `
jobs:
  app:
    sources: [db]
    store: main
    recipients: [ops]
    schedule: {%s}
`

func schedules(t *testing.T, text string) config.Job {
	t.Helper()
	c, err := config.Parse("f.yaml", []byte(strings.Replace(scheduled, "%s", text, 1)), noEnv, now)
	if err != nil {
		t.Fatal(err)
	}
	return c.Jobs[0]
}

func TestScheduleDefaults(t *testing.T) {
	job := schedules(t, `backup: "0 2 * * *"`)
	for task, text := range map[holdfast.Task]string{
		holdfast.TaskBackup: "0 2 * * *", holdfast.TaskHourly: "never", holdfast.TaskMirror: "never", holdfast.TaskVerify: "30 4 * * *",
		holdfast.TaskDrill: "0 5 * * sun", holdfast.TaskDrillCopy: "never", holdfast.TaskDrillOld: "0 5 15 1,4,7,10 *",
		holdfast.TaskKeyCheck: "0 6 15 1,4,7,10 *", holdfast.TaskPrune: "never",
	} {
		if got := job.Schedule.Times[task].String(); got != text {
			t.Errorf("%s: %q, want %q", task, got, text)
		}
	}
	if job.Schedule.Zone != time.Local {
		t.Errorf("zone %v", job.Schedule.Zone)
	}
}

// A full backup takes the place of an hourly one that is due at the same time.
func TestHourlyWithDailyFull(t *testing.T) {
	s := schedules(t, `backup: "0 2 * * *", hourly: "@hourly", zone: UTC`).Schedule
	at := time.Date(2026, 11, 22, 0, 30, 0, 0, time.UTC)
	var due []string
	for range 3 {
		_, next := s.At("app", holdfast.TaskHourly, at)
		due = append(due, next.Format("15:04"))
		at = next
	}
	if got := strings.Join(due, " "); got != "01:00 03:00 04:00" {
		t.Errorf("hourly backups at %s", got)
	}
	if last, _ := s.At("app", holdfast.TaskHourly, time.Date(2026, 11, 22, 2, 30, 0, 0, time.UTC)); last.Hour() != 1 {
		t.Errorf("the last one before 02:30 is that of %s", last)
	}
	for _, c := range []struct {
		hour, minute int
		want         bool
	}{{2, 0, true}, {2, 20, true}, {3, 0, false}, {1, 59, false}} {
		if got := s.LeftOut(holdfast.TaskHourly, time.Date(2026, 11, 22, c.hour, c.minute, 7, 0, time.UTC)); got != c.want {
			t.Errorf("left out at %d:%02d: %v", c.hour, c.minute, got)
		}
	}
	if s.LeftOut(holdfast.TaskBackup, time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC)) || (config.Schedule{}).LeftOut(holdfast.TaskHourly, at) {
		t.Error("a full backup is left out, or one of a job without a schedule")
	}
	if task := s.Kind(at); task != holdfast.TaskHourly {
		t.Errorf("what comes most often is %q", task)
	}
}

// With jitter the times stay in order, each is late by less than it, and always by the same.
func TestJitteredTimes(t *testing.T) {
	s := schedules(t, `backup: "0 2 * * *", zone: UTC, jitter: 90m`).Schedule
	at := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	late := map[time.Duration]bool{}
	for day := range 30 {
		due := time.Date(2026, 11, 20+day, 2, 0, 0, 0, time.UTC)
		_, next := s.At("app", holdfast.TaskBackup, at)
		if by := next.Sub(due); by < 0 || by >= 90*time.Minute {
			t.Fatalf("due %s, late by %s", due, by)
		} else {
			late[by] = true
		}
		if last, _ := s.At("app", holdfast.TaskBackup, next); !last.Equal(next) {
			t.Errorf("at %s the last one is %s", next, last)
		}
		if last, again := s.At("app", holdfast.TaskBackup, next.Add(-1)); !again.Equal(next) || !last.Before(due) {
			t.Errorf("just before %s: last %s, next %s", next, last, again)
		}
		at = next
	}
	if len(late) < 10 {
		t.Errorf("only %d different delays on 30 days", len(late))
	}
}

func TestScheduleMistakes(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"expression", `backup: "61 2 * * *"`, "jobs.app.schedule.backup"},
		{"no backup", `verify: "@daily"`, "says nothing of backups"},
		{"prune without keep", `backup: "@daily", prune: "@daily"`, "nothing says what the job keeps"},
		{"mirror without mirrors", `backup: "@daily", mirror: "@daily"`, "the job has no mirrors"},
		{"hourly when full", `backup: "*/30 * * * *", hourly: "@hourly"`, "would never be made"},
		{"jitter", `backup: "@daily", hourly: "@hourly", jitter: 90m`, "1h30m is longer than the 1h between two times of hourly"},
		{"jitter of minutes", `backup: "0,20 2 * * *", jitter: 30m`, "30m is longer than the 20m between two times of backup"},
		{"zone", `backup: "@daily", zone: Mars/Base`, `"Mars/Base" is not a time zone`},
		{"window", `backup: "@daily", windows: ["0 2 * * *"]`, "jobs.app.schedule.windows[0]"},
		{"unknown key", `backups: "@daily"`, `did you mean "backup"?`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := config.Parse("f.yaml", []byte(strings.Replace(scheduled, "%s", c.text, 1)), noEnv, now)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "f.yaml:") {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	// One mistake is told once.
	if _, err := config.Parse("f.yaml", []byte(strings.Replace(scheduled, "%s", `backup: "61 2 * * *"`, 1)), noEnv, now); err == nil || strings.Contains(err.Error(), "says nothing") {
		t.Errorf("an expression that cannot be read: %v", err)
	}
	if job := schedules(t, `backup: never, drill: "@weekly"`); job.Schedule.Times[holdfast.TaskDrill].IsZero() || job.Schedule.Kind(now) != "" {
		t.Errorf("a machine that only drills: %+v", job.Schedule.Times)
	}
	for _, c := range []struct{ text, want string }{
		{"service: {listen: here}", "service.listen: must be an address and a port"},
		{"service: {workers: 0}", "service.workers"},
		{"service: {zone: Local}", "service.zone"},
	} {
		if _, err := config.Parse("f.yaml", []byte("version: 1\n"+c.text+"\n"), noEnv, now); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.text, err, c.want)
		}
	}
}
