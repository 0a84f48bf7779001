package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/riverqueue/river"

	"holdfast"
)

// worker does what River hands out.
type worker struct {
	river.WorkerDefaults[work]
	d *Daemon
}

// NextRetry is when a row is tried again that failed.
func (w *worker) NextRetry(job *river.Job[work]) time.Time {
	wait := 10 * time.Minute
	if task, known := w.d.task(job.Args.Task); known && task.RetryWait > 0 {
		wait = task.RetryWait
	}
	return time.Now().UTC().Add(wait << max(0, job.Attempt-1)) // by the clock that River has
}

// Work runs one row. What it returns says to River whether it is done, to be tried again, or given up.
func (w *worker) Work(ctx context.Context, job *river.Job[work]) error {
	w.d.begun(job.ID)
	err := w.work(ctx, job)
	var later *river.JobSnoozeError
	var never *river.JobCancelError
	w.d.told(job.ID, over{task: job.Args.Task, at: time.Now(), done: err == nil || errors.As(err, &never), again: errors.As(err, &later)})
	return err
}

func (w *worker) work(ctx context.Context, job *river.Job[work]) error {
	d, name := w.d, job.Args.Task
	log := d.opt.Log.With("task", name, "due", job.Args.Due)
	task, known := d.task(name)
	if !known && d.data.shared {
		return river.JobSnooze(time.Minute) // another machine may have it in its configuration
	}
	if !known {
		d.finished(name)
		log.Warn("left out: the configuration has no such task any more")
		return river.JobCancel(errors.New("the configuration has no such task any more"))
	}
	if task.Held != nil && task.Held(d.opt.Now()) {
		return river.JobSnooze(tick)
	}
	if d.outranked(task) {
		return river.JobSnooze(busyWait)
	}
	grip, err := d.data.locks.try(ctx, d.exclusive(task, job.ID)...)
	if err != nil {
		log.Error("its lock cannot be had", "error", sentence(err))
		return river.JobSnooze(busyWait)
	}
	if grip == nil {
		return river.JobSnooze(busyWait)
	}
	defer d.letGo(grip, job)
	if d.data.shared {
		mine, err := d.stillMine(ctx, job)
		if err != nil || !mine {
			return errGivenBack
		}
	}
	running, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer grip.watch(func() { cancel(errLockLost) })()
	run := Run{Task: task, Due: job.Args.Due, Attempt: job.Attempt, Began: d.opt.Now()}
	d.began(name, run)
	outcome, err := d.opt.Run(running, run)
	if errors.Is(context.Cause(running), errLockLost) {
		log.Warn("the queue's server could not be reached; the run was ended")
		if err := d.afterLoss(ctx, job); err != nil {
			d.ended(name, false)
			return err
		}
	}
	last := job.Attempt >= job.MaxAttempts
	again := outcome == Busy || outcome == Cancelled || outcome == Failed && !last
	d.ended(name, again)
	log = log.With("attempt", job.Attempt, "seconds", d.opt.Now().Sub(run.Began).Seconds())
	switch outcome {
	case Good:
		log.Info("done")
		return nil
	case Busy:
		log.Info("held by another run; again in a minute")
		return river.JobSnooze(time.Minute)
	case Cancelled:
		log.Warn("interrupted; again when the service is back")
		return river.JobSnooze(0)
	case Refused:
		log.Error("failed, and would fail again", "error", sentence(err))
		return river.JobCancel(orUnknown(err))
	}
	if last {
		log.Error("failed; the next time is by the schedule", "error", sentence(err))
	} else {
		log.Error("failed; it is tried again", "error", sentence(err), "next", w.NextRetry(job))
	}
	return orUnknown(err)
}

func sentence(err error) string { return holdfast.Sentence(orUnknown(err)) }

func orUnknown(err error) error {
	if err == nil {
		return errors.New("it failed without saying why")
	}
	return err
}

// outranked reports whether a task that excludes this one goes before it and is still to be done: a prune waits for the backup that was due
// with it, whichever worker was free first.
func (d *Daemon) outranked(task Task) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if task.Alone == "" || d.data.shared {
		return false
	}
	for name, other := range d.tasks {
		if other.Alone == task.Alone && priority(other.Task.Task) < priority(task.Task) && d.open[name] > 0 {
			return true
		}
	}
	return false
}

// task returns what a name of the queue stands for.
func (d *Daemon) task(name string) (Task, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s, known := d.tasks[name]
	if !known {
		return Task{}, false
	}
	return s.Task, true
}

// parseName is the task that a name of the queue stands for, without its times.
func parseName(name string) Task {
	job, task, _ := strings.Cut(name, "/")
	return Task{Job: holdfast.JobName(job), Task: holdfast.Task(task)}
}

func (d *Daemon) began(name string, run Run) {
	d.opt.Log.Info("started", "task", name, "due", run.Due, "attempt", run.Attempt, "late", fmt.Sprintf("%.1fs", run.Began.Sub(run.Due).Seconds()))
	d.mu.Lock()
	d.running[name] = run
	d.mu.Unlock()
	d.changed()
}

func (d *Daemon) ended(name string, again bool) {
	d.mu.Lock()
	delete(d.running, name)
	d.mu.Unlock()
	if again {
		d.changed()
		return
	}
	d.finished(name)
}

// finished takes down that a row is done for good: the next due time of its task may come.
func (d *Daemon) finished(name string) {
	d.mu.Lock()
	if d.open[name]--; d.open[name] <= 0 {
		delete(d.open, name)
	}
	d.mu.Unlock()
	d.poke()
	d.changed()
}

// poke lets the scheduler look again.
func (d *Daemon) poke() {
	select {
	case d.wake <- struct{}{}:
	default: // it has been told, and has not looked yet
	}
}
