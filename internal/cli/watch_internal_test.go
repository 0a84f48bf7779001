package cli

import (
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/health"
)

// TestWhatWasSeenCounts: when the stores of a job are away, what a watchman saw before tells how old its newest backup is, and how often one is
// made; while they can be looked at they alone tell.
func TestWhatWasSeenCounts(t *testing.T) {
	up, down := health.Place{Store: "box"}, health.Place{Store: "box", Down: "no route to host"}
	seen := func(places ...health.Place) health.Job {
		job := health.Job{Name: "app", Places: places}
		for n := range 5 {
			job.Backups = append(job.Backups, health.Backup{Time: noon.Add(time.Duration(n-5) * time.Hour), Complete: true})
		}
		return job
	}
	m := newWatchMemory()
	add := func(what string, job health.Job, gap time.Duration, success time.Time) {
		t.Helper()
		got := m.add(&job, noon)
		if task, _ := job.Task(holdfast.TaskBackup); got != gap || !task.Success.Equal(success) {
			t.Errorf("%s: one every %s, the last one at %s", what, got, task.Success)
		}
	}
	newest := noon.Add(-time.Hour)
	add("all are there", seen(up), time.Hour, time.Time{})
	add("all are away", health.Job{Name: "app", Places: []health.Place{down}}, time.Hour, newest)
	behind := seen(health.Place{Store: "mirror"}, down)
	behind.Backups = behind.Backups[:2]
	add("a mirror that is behind is there", behind, time.Hour, newest)
	add("all are away again", health.Job{Name: "app", Places: []health.Place{down}}, time.Hour, newest)
	run := health.Job{Name: "app", Places: []health.Place{down}, Tasks: []health.Task{{Task: holdfast.TaskBackup, Attempt: noon, Success: noon, Result: "failed"}}}
	add("a record tells of a later one", run, time.Hour, noon)
	add("one that was never seen", health.Job{Name: "app2", Places: []health.Place{down}}, 24*time.Hour, time.Time{})
	fewer := seen(up)
	fewer.Backups = fewer.Backups[:1]
	add("they are there again", fewer, 24*time.Hour, time.Time{})
	add("all are away at last", health.Job{Name: "app", Places: []health.Place{down}}, 24*time.Hour, noon.Add(-5*time.Hour))
	ahead := seen(up)
	ahead.Backups = append(ahead.Backups, health.Backup{Time: noon.Add(900 * time.Hour), Complete: true})
	add("one is planted in the future", ahead, time.Hour, time.Time{})
	if last := m.Newest["app"].Time; !last.Equal(newest) {
		t.Errorf("of that it remembers %s", last)
	}
}
