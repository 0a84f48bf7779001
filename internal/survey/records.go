package survey

import (
	"time"

	"holdfast"
	"holdfast/internal/health"
	"holdfast/internal/journal"
)

// Records is what a journal tells of jobs. Its zero value has seen nothing.
type Records struct {
	tasks   map[holdfast.JobName]map[holdfast.Task]health.Task
	pruned  map[inStore]time.Time
	blocked map[inStore]block
	free    map[string][]health.Sample
	checked time.Time // of keys
}

type inStore struct {
	job   holdfast.JobName
	store string
}

type block struct {
	why   string
	since time.Time
}

// freeWindow is how far back the free space of stores is followed.
const freeWindow = 14 * 24 * time.Hour

// Add takes a record in. Records come in their order.
func (r *Records) Add(rec journal.Record) {
	switch rec.Event {
	case journal.BackupCreated, journal.BackupIncomplete, journal.BackupFailed:
		task := holdfast.TaskBackup
		if rec.Detail == "hourly" {
			task = holdfast.TaskHourly
		}
		r.tried(rec, task)
		if free, known := rec.Figures["free"]; known {
			r.sample(rec.Store, health.Sample{Time: rec.Time, Free: int64(free)})
		}
	case journal.Mirrored:
		r.tried(rec, holdfast.TaskMirror)
	case journal.Verified:
		r.tried(rec, holdfast.TaskVerify)
	case journal.Drilled:
		r.tried(rec, holdfast.TaskDrill)
	case journal.KeyChecked:
		r.tried(rec, holdfast.TaskKeyCheck)
		if rec.Result == "good" {
			r.checked = rec.Time
		}
	case journal.PruneDone:
		r.tried(rec, holdfast.TaskPrune)
		set(&r.pruned, inStore{rec.Job, rec.Store}, rec.Time)
	case journal.PruneBlocked:
		r.tried(rec, holdfast.TaskPrune)
		at := inStore{rec.Job, rec.Store}
		b := block{rec.Detail, rec.Time}
		// It is blocked since the first of those that nothing went through between.
		if before, was := r.blocked[at]; was && !r.pruned[at].After(before.since) {
			b.since = before.since
		}
		set(&r.blocked, at, b)
	}
}

func set[K comparable, V any](into *map[K]V, key K, value V) {
	if *into == nil {
		*into = map[K]V{}
	}
	(*into)[key] = value
}

func (r *Records) tried(rec journal.Record, task holdfast.Task) {
	t := r.tasks[rec.Job][task]
	t.Task, t.Attempt, t.Result = task, rec.Time, rec.Result
	t.Took = time.Duration(rec.Figures["seconds"] * float64(time.Second))
	if rec.Result == "good" || rec.Result == string(holdfast.Proven) {
		t.Success = rec.Time
	}
	of := r.tasks[rec.Job]
	set(&of, task, t)
	set(&r.tasks, rec.Job, of)
}

func (r *Records) sample(store string, s health.Sample) {
	all := r.free[store]
	for len(all) > 0 && s.Time.Sub(all[0].Time) > freeWindow {
		all = all[1:]
	}
	set(&r.free, store, append(all, s))
}

// Task returns what the journal knows of a task; its Attempt is zero when that is nothing.
func (r *Records) Task(job holdfast.JobName, task holdfast.Task) health.Task {
	return r.tasks[job][task]
}

// Free are the samples of a store's free space.
func (r *Records) Free(store string) []health.Sample { return r.free[store] }

// KeyChecked is when it was last recorded here that an identity opened something.
func (r *Records) KeyChecked() time.Time { return r.checked }

// Complete adds to a job what the journal knows and the stores do not: the newer of two accounts of one task counts.
func (r *Records) Complete(job *health.Job) {
	for _, task := range holdfast.Tasks() {
		t := r.Task(job.Name, task)
		if t.Attempt.IsZero() {
			continue
		}
		known := false
		for i, other := range job.Tasks {
			if other.Task != task {
				continue
			}
			known = true
			if !other.Attempt.After(t.Attempt) {
				t.Success = maxTime(t.Success, other.Success)
				job.Tasks[i] = t
			}
		}
		if !known {
			job.Tasks = append(job.Tasks, t)
		}
	}
	for i := range job.Places {
		p := &job.Places[i]
		at := inStore{job.Name, p.Store}
		p.Pruned = r.pruned[at]
		if b, is := r.blocked[at]; is {
			p.Blocked, p.Since = b.why, b.since
		}
	}
}

func maxTime(x, y time.Time) time.Time {
	if x.After(y) {
		return x
	}
	return y
}
