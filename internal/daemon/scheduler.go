package daemon

import (
	"context"
	"fmt"
	"slices"
	"time"

	"holdfast"
)

const (
	// tick is the longest wait between two looks at the wall clock: timers stand still while a machine sleeps, and a clock may be set.
	tick = 30 * time.Second
	// setBack is how far behind what was already due the clock must be to count as set back.
	setBack = time.Minute
)

// scheduled is a task and where the scheduler is with it.
type scheduled struct {
	Task
	last time.Time // the due time that was put into the queue last, or the time from which on it counts
	next time.Time // when it must be looked at again; zero: never
}

// pair is a task that is due.
type pair struct {
	task Task
	due  time.Time
}

// Plan replaces what is scheduled. What runs goes on; what waits is run as the new plan says, and left out when it is not in it.
func (d *Daemon) Plan(ctx context.Context, tasks []Task) error {
	known, err := d.data.lastDue(ctx)
	if err != nil {
		return fmt.Errorf("read the queue: %w", err)
	}
	now := d.opt.Now()
	fresh := make(map[string]*scheduled, len(tasks))
	for _, task := range tasks {
		name := task.Name()
		last, found := known[name]
		if !found {
			// Nothing that was due before the task was heard of is made up for, unless others know that it was done before.
			last = now
			if d.opt.Seen != nil {
				if seen := d.opt.Seen(task); !seen.IsZero() && seen.Before(now) {
					last = seen
				}
			}
			if err := setDue(ctx, d.data.db, name, last); err != nil {
				return fmt.Errorf("write the queue: %w", err)
			}
		}
		_, next := task.Due(now)
		fresh[name] = &scheduled{Task: task, last: last, next: next}
	}
	d.mu.Lock()
	d.tasks, d.looked = fresh, time.Time{}
	d.mu.Unlock()
	d.poke()
	return nil
}

// schedule puts what is due into the queue until ctx is cancelled.
func (d *Daemon) schedule(ctx context.Context) {
	for {
		wait := d.look(ctx)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-d.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// look puts what is due now into the queue, and returns how long nothing will be.
func (d *Daemon) look(ctx context.Context) time.Duration {
	d.examine(ctx)
	now := d.opt.Now()
	due, wait, back := d.due(now)
	if back > 0 && !d.data.shared {
		d.opt.Log.Warn("the clock was set back", "seconds", back.Seconds(), "now", now)
		if err := d.data.hurry(ctx, d.client, now); err != nil && ctx.Err() == nil {
			d.opt.Log.Error("what waits may wait for as long as the clock was set back", "error", holdfast.Sentence(err))
		}
	}
	if len(due) > 0 && d.data.shared {
		due = d.notElsewhere(ctx, due)
	}
	if len(due) == 0 {
		return wait
	}
	// A run may begin and end before this returns, so that they count as open before.
	d.mu.Lock()
	for _, p := range due {
		if !d.data.shared {
			d.open[p.task.Name()] = p.due
		}
	}
	d.mu.Unlock()
	fresh, err := d.data.insert(ctx, d.client, due)
	d.mu.Lock()
	for _, p := range due {
		name := p.task.Name()
		if !slices.Contains(fresh, name) {
			delete(d.open, name)
		}
		switch s := d.tasks[name]; {
		case s == nil:
		case err != nil:
			s.next = now // it is still due, and tried again at the next look
		default:
			s.last = p.due
		}
	}
	d.mu.Unlock()
	d.wrote(ctx, err)
	d.changed()
	return wait
}

// notElsewhere leaves out what others have put into the queue, and what they are still at, which is looked at again.
func (d *Daemon) notElsewhere(ctx context.Context, due []pair) []pair {
	rows, err := unfinished(ctx, d.client)
	if err != nil {
		return due // what is wrong is told when it is inserted
	}
	open := map[string]time.Time{}
	for _, row := range rows {
		if args, err := argsOf(row); err == nil && args.Due.After(open[args.Task]) {
			open[args.Task] = args.Due
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.DeleteFunc(due, func(p pair) bool {
		of, is := open[p.task.Name()]
		if s := d.tasks[p.task.Name()]; s != nil && is {
			if of.Before(p.due) {
				s.next = d.looked
			} else {
				s.last = p.due
			}
		}
		return is
	})
}

// due tells what is due and is not yet in the queue, how long until it must be looked again, and by how much the clock was set back; 0: it
// was not. Of several due times of one task that nobody saw, it is the last.
func (d *Daemon) due(now time.Time) (due []pair, wait, back time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	// What was computed for a later time says nothing, once the clock is earlier.
	all := d.looked.IsZero() || now.Before(d.looked)
	if !d.looked.IsZero() {
		back = d.looked.Sub(now)
	}
	wait, d.looked = tick, now
	for name, s := range d.tasks {
		if by := s.last.Sub(now); by > setBack {
			// What is due from now on is run; what was run already has its row, and is not run again.
			back, s.last = max(back, by), now
		}
		if all || !s.next.IsZero() && !s.next.After(now) {
			last, next := s.Due(now)
			s.next = next
			if last.After(s.last) {
				if _, open := d.open[name]; !open && (s.Held == nil || !s.Held(now)) {
					due = append(due, pair{s.Task, last})
				} else {
					s.next = now // what is held, or still at it, is looked at again
				}
			}
		}
		if !s.next.IsZero() && s.next.After(now) {
			wait = min(wait, s.next.Sub(now))
		}
	}
	if back <= setBack {
		back = 0
	}
	return due, wait, back
}
