package daemon

import (
	"cmp"
	"context"
	"time"

	"github.com/riverqueue/river"

	"holdfast"
)

// Task is one kind of work of one job, with the times at which it is due.
type Task struct {
	Job  holdfast.JobName
	Task holdfast.Task
	// Due tells the last due time that is not after at, and the next one; zero where there is none. It may be called at once from several
	// goroutines, with any time.
	Due func(at time.Time) (last, next time.Time)
	// Held reports whether nothing may be started now: a pause, a maintenance window. nil: never.
	Held func(at time.Time) bool
	// Queue is where the task waits, of which daemons choose; "" is one that is called default.
	Queue string
	// Alone is what tasks share that never run at once, on any machine of the queue. "" runs beside everything.
	Alone string
	// Retries is how often a run that failed is tried again, the first time after RetryWait, and each further time after twice as long.
	Retries   int
	RetryWait time.Duration
}

const defaultQueue = river.QueueDefault

func (t Task) queue() string { return cmp.Or(t.Queue, defaultQueue) }

// Name is what the queue calls the task.
func (t Task) Name() string { return string(t.Job) + "/" + string(t.Task) }

// Run is one try at a task that was due.
type Run struct {
	Task    Task
	Due     time.Time
	Attempt int // from 1
	Began   time.Time
}

// Outcome is what a run came to, as far as the queue must know.
type Outcome int

// The outcomes.
const (
	Good      Outcome = iota
	Failed            // it may be tried again
	Refused           // trying again would end the same: a bad configuration, a difference that was found
	Busy              // somebody else is at it: again in a while, which is no further try
	Cancelled         // the service ends: again when it is back
)

// Runner does the work. It returns when everything that it started has ended, soon after ctx was cancelled. The error says what went wrong.
type Runner func(ctx context.Context, run Run) (Outcome, error)

// priority is the order in which tasks are started that wait for a free worker; the queue knows 1 to 4.
func priority(task holdfast.Task) int {
	switch task {
	case holdfast.TaskBackup, holdfast.TaskHourly:
		return 1
	case holdfast.TaskMirror, holdfast.TaskVerify:
		return 2
	case holdfast.TaskPrune:
		return 4
	}
	return 3
}
