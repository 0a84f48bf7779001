package holdfast

import "slices"

// Task is one kind of work that a job has on its schedule. The words are the keys of `schedule` in the configuration, and labels of
// metrics.
type Task string

// The tasks.
const (
	TaskBackup    Task = "backup"     // a run of kind full, with its copies
	TaskHourly    Task = "hourly"     // a run of kind hourly, with its copies
	TaskMirror    Task = "mirror"     // what mirrors lack, besides what the runs copy
	TaskVerify    Task = "verify"     // L1 of the copy that was looked at longest ago
	TaskDrill     Task = "drill"      // of the newest backup
	TaskDrillCopy Task = "drill_copy" // of the newest backup in a mirror
	TaskDrillOld  Task = "drill_old"  // of a random backup that is two to three weeks old
	TaskKeyCheck  Task = "key_check"  // that the identity opens what was sealed last
	TaskPrune     Task = "prune"
)

// Tasks are all of them, what matters most first: in this order they are started when several are due.
func Tasks() []Task {
	return []Task{TaskBackup, TaskHourly, TaskMirror, TaskVerify, TaskDrill, TaskDrillCopy, TaskDrillOld, TaskKeyCheck, TaskPrune}
}

// Opens reports whether the task needs an identity, which the host that backs up does not have.
func (t Task) Opens() bool {
	return slices.Contains([]Task{TaskDrill, TaskDrillCopy, TaskDrillOld, TaskKeyCheck}, t)
}

// BacksUp reports whether the task makes a backup.
func (t Task) BacksUp() bool { return t == TaskBackup || t == TaskHourly }
