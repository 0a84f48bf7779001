package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
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
	if !known && d.data.shared && d.opt.Now().Sub(job.Args.Due) < unknownFor {
		return river.JobSnooze(time.Minute) // another machine may have it in its configuration
	}
	if !known {
		d.finished(name)
		log.Warn("left out: the configuration has no such task any more")
		return river.JobCancel(errors.New("the configuration has no such task any more"))
	}
	if task.Held != nil && task.Held(d.opt.Now()) {
		d.waits(name, false)
		return river.JobSnooze(tick)
	}
	if d.outranked(task, job.Args.Due) {
		d.waits(name, true)
		return river.JobSnooze(busyWait)
	}
	select {
	case d.slots <- struct{}{}:
		defer func() { <-d.slots }()
	default:
		return river.JobSnooze(slotWait) // another machine may have one
	}
	grip, err := d.data.locks.try(ctx, d.exclusive(task, job.ID)...)
	if err != nil {
		log.Error("its lock cannot be had", "error", sentence(err))
		return river.JobSnooze(busyWait)
	}
	d.waits(name, grip == nil)
	if grip == nil {
		return river.JobSnooze(busyWait)
	}
	defer func() { d.letGo(grip, job) }()
	if d.data.shared {
		if err := d.mayBegin(ctx, task, job, log); err != nil {
			return err
		}
	}
	running, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer grip.watch(func() { cancel(errLockLost) })()
	run := Run{Task: task, Due: job.Args.Due, Attempt: job.Attempt, Began: d.opt.Now()}
	d.began(name, run)
	start := time.Now()
	outcome, err := d.do(running, run, log)
	last := job.Attempt >= job.MaxAttempts
	again := outcome == Busy || outcome == Cancelled || outcome == Failed && !last
	lost := errors.Is(context.Cause(running), errLockLost)
	d.ended(name, again || lost)
	if lost {
		log.Warn("the queue's server could not be reached; the run was ended")
		if grip, err = d.afterLoss(ctx, grip, job); err != nil {
			return err
		}
	}
	log = log.With("attempt", job.Attempt, "seconds", time.Since(start).Seconds())
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

// do runs it. A mistake of the program itself ends that run alone.
func (d *Daemon) do(ctx context.Context, run Run, log *slog.Logger) (outcome Outcome, err error) {
	defer func() {
		if mistake := recover(); mistake != nil {
			log.Error("a mistake in holdfast itself: please report it", "panic", fmt.Sprint(mistake), "stack", string(debug.Stack()))
			outcome, err = Failed, fmt.Errorf("a mistake in holdfast itself: %v", mistake)
		}
	}()
	return d.opt.Run(ctx, run)
}

func sentence(err error) string { return holdfast.Sentence(orUnknown(err)) }

func orUnknown(err error) error {
	if err == nil {
		return errors.New("it failed without saying why")
	}
	return err
}

// outranked reports whether a task that excludes this one goes before it and is still to be done: a prune waits for the backup that was due with
// it, whichever worker was free first; and a backup that is due while the one before it runs waits for the prune that was due before.
func (d *Daemon) outranked(task Task, due time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if task.Alone == "" {
		return false
	}
	for name, other := range d.tasks {
		of, open := d.open[name]
		if !open || other.Alone != task.Alone {
			continue
		}
		if priority(other.Task.Task) < priority(task.Task) && !of.After(due) || d.blocked[name] && of.Before(due) {
			return true
		}
	}
	return false
}

// waits takes down whether a task waits for nothing but another one that it must not run beside.
func (d *Daemon) waits(name string, does bool) {
	if d.data.shared {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if delete(d.blocked, name); does {
		d.blocked[name] = true
	}
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
	delete(d.open, name)
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
