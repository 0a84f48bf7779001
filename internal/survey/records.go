package survey

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/health"
	"holdfast/internal/journal"
)

// Records is what a journal tells of jobs and of encrypted volumes. Its zero value has seen nothing.
type Records struct {
	tasks   map[holdfast.JobName]map[holdfast.Task]health.Task
	pruned  map[inStore]prune
	blocked map[inStore]block
	free    map[string][]health.Sample
	first   map[holdfast.JobName]time.Time // when the first backup was made
	volumes map[string]volumeRecords
}

type inStore struct {
	job   holdfast.JobName
	store string
}

// prune is what one came to that went through.
type prune struct {
	time          time.Time
	kept, deleted int
}

type block struct {
	why   string
	since time.Time
}

// freeWindow is how far back the free space of stores is followed.
const freeWindow = 14 * 24 * time.Hour

// Add takes a record in. Records come in their order, which is the one of their chain: the clock may have been set back between two.
func (r *Records) Add(rec journal.Record) {
	if rec.Volume != "" {
		r.addVolume(rec)
		return
	}
	at := inStore{rec.Job, rec.Store}
	switch rec.Event {
	case journal.BackupCreated, journal.BackupIncomplete, journal.BackupFailed:
		r.ran(rec)
	case journal.Interrupted:
		r.tried(rec, holdfast.Task(rec.Detail))
	case journal.Mirrored:
		r.tried(rec, holdfast.TaskMirror)
	case journal.Verified:
		r.tried(rec, holdfast.TaskVerify)
	case journal.Drilled:
		r.tried(rec, cmp.Or(rec.Task, holdfast.TaskDrill))
	case journal.KeyChecked:
		r.tried(rec, holdfast.TaskKeyCheck)
	case journal.PruneDone:
		r.tried(rec, holdfast.TaskPrune)
		set(&r.pruned, at, prune{rec.Time, int(rec.Figures["kept"]), int(rec.Figures["deleted"])})
		delete(r.blocked, at)
	case journal.PruneBlocked:
		r.tried(rec, holdfast.TaskPrune)
		b := block{rec.Detail, rec.Time}
		// It is blocked since the first of those that nothing went through between.
		if before, was := r.blocked[at]; was {
			b.since = before.since
		}
		set(&r.blocked, at, b)
	}
	if free, known := rec.Figures["free"]; known {
		r.sample(rec.Store, health.Sample{Time: rec.Time, Free: int64(free)})
	}
}

// ran takes in how a run ended.
func (r *Records) ran(rec journal.Record) {
	task := holdfast.TaskBackup
	if rec.Detail == "hourly" {
		task = holdfast.TaskHourly
	}
	if rec.Event == journal.BackupIncomplete {
		rec.Result = "incomplete" // whatever else went wrong
	}
	r.tried(rec, task)
	if rec.Event == journal.BackupCreated {
		// There is a backup, even if something that came after it failed.
		t := r.tasks[rec.Job][task]
		t.Success = rec.Time
		r.tasks[rec.Job][task] = t
		if first, is := r.first[rec.Job]; !is || rec.Time.Before(first) {
			set(&r.first, rec.Job, rec.Time)
		}
	}
}

func set[K comparable, V any](into *map[K]V, key K, value V) {
	if *into == nil {
		*into = map[K]V{}
	}
	(*into)[key] = value
}

func (r *Records) tried(rec journal.Record, task holdfast.Task) {
	if !slices.Contains(holdfast.Tasks(), task) {
		return // a later version knows more
	}
	t := r.tasks[rec.Job][task]
	t.Task, t.Attempt, t.Result = task, rec.Time, rec.Result
	t.Took = span(rec.Figures["seconds"])
	if rec.Result == "good" || rec.Result == string(holdfast.Proven) {
		t.Success = rec.Time
	}
	of := r.tasks[rec.Job]
	set(&of, task, t)
	set(&r.tasks, rec.Job, of)
}

func (r *Records) sample(store string, s health.Sample) {
	all := r.free[store]
	// What lies after it was noted by a clock that was wrong.
	for len(all) > 0 && all[len(all)-1].Time.After(s.Time) {
		all = all[:len(all)-1]
	}
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

// Stores are those whose free space was noted, sorted.
func (r *Records) Stores() []string { return slices.Sorted(maps.Keys(r.free)) }

// Block is a store in which a job's last prune deleted nothing.
type Block struct {
	Store, Why string
	Since      time.Time
}

// Blocks are the stores in which a job's last prune deleted nothing, sorted.
func (r *Records) Blocks(job holdfast.JobName) []Block {
	var all []Block
	for at, b := range r.blocked {
		if at.job == job {
			all = append(all, Block{at.store, b.why, b.since})
		}
	}
	slices.SortFunc(all, func(x, y Block) int { return cmp.Compare(x.Store, y.Store) })
	return all
}

// Complete adds to a job what the journal knows and the stores do not: the newer of two accounts of one task counts.
func (r *Records) Complete(job *health.Job) {
	for _, task := range holdfast.Tasks() {
		t := r.Task(job.Name, task)
		if t.Attempt.IsZero() {
			continue
		}
		at := slices.IndexFunc(job.Tasks, func(other health.Task) bool { return other.Task == task })
		if at < 0 {
			job.Tasks = append(job.Tasks, t)
			continue
		}
		other := &job.Tasks[at]
		if t.Success.After(other.Success) {
			other.Success = t.Success
		}
		if !other.Attempt.After(t.Attempt) {
			other.Attempt, other.Result, other.Took = t.Attempt, t.Result, t.Took
		}
	}
	if first, is := r.first[job.Name]; is && (job.First.IsZero() || first.Before(job.First)) {
		job.First = first
	}
	for i := range job.Places {
		p := &job.Places[i]
		at := inStore{job.Name, p.Store}
		if done, is := r.pruned[at]; is {
			p.Pruned, p.Kept, p.Deleted = done.time, done.kept, done.deleted
		}
		if b, is := r.blocked[at]; is {
			p.Blocked, p.Since = b.why, b.since
		}
	}
}

// span is a number of seconds, as records have it.
func span(seconds float64) time.Duration {
	return time.Duration(seconds * float64(time.Second))
}
