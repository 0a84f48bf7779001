package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"holdfast"
)

// slowest is how long River may need until the end of a run is written. After that it has given up: the disk was full for a while.
const slowest = time.Minute

// over is how a row ended, as River was told.
type over struct {
	task  string
	at    time.Time
	done  bool // there is nothing more to do
	again bool // what there was counts for no try
}

// suspects takes down what River says went wrong. It logs nothing: River says the same again and again.
func (d *Daemon) suspects(text string) {
	d.mu.Lock()
	d.suspect = text
	d.mu.Unlock()
	d.poke()
}

// examine finds out whether the queue can be written, when there is a doubt, and brings into it what River could not write.
func (d *Daemon) examine(ctx context.Context) {
	d.mu.Lock()
	doubt, suspect := d.trouble != "" || d.suspect != "", d.suspect
	d.suspect = ""
	d.mu.Unlock()
	if doubt {
		if err := d.data.probe(ctx); d.wrote(ctx, err) != nil {
			return
		}
		if suspect != "" {
			d.opt.Log.Warn("the queue had trouble", "error", suspect)
		}
	}
	if d.data.shared {
		return // another machine may run by now what this one could not tell of: the sweeper sees who holds what
	}
	if err := d.settle(ctx); err != nil && ctx.Err() == nil {
		d.opt.Log.Error("the queue cannot be put right", "error", holdfast.Sentence(err))
	}
}

// wrote takes down whether the queue could be written, and returns the error that it is given.
func (d *Daemon) wrote(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return err // the end of the service is no trouble
	}
	d.mu.Lock()
	was := d.trouble
	d.trouble = ""
	if err != nil {
		d.trouble = "the queue cannot be written: " + holdfast.Sentence(err)
	}
	trouble := d.trouble
	d.mu.Unlock()
	switch {
	case trouble == was:
		return err
	case trouble != "" && was == "":
		d.opt.Log.Error(trouble)
	case trouble == "":
		d.opt.Log.Info("the queue can be written again")
	}
	d.changed()
	return err
}

// begun takes down that a row is run. Rows of a shared queue are their sweeper's.
func (d *Daemon) begun(row int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.over, row)
}

// told takes down what River is told of the end of a row.
func (d *Daemon) told(row int64, o over) {
	if d.data.shared {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over[row] = o
}

// settle marks the rows whose end River could not write: else they would seem to run until the next start, and their task with them.
func (d *Daemon) settle(ctx context.Context) error {
	d.mu.Lock()
	old := map[int64]over{}
	for id, o := range d.over {
		if time.Since(o.at) >= slowest {
			old[id] = o
		}
	}
	d.mu.Unlock()
	if len(old) == 0 {
		return nil
	}
	list, err := d.client.JobList(ctx, river.NewJobListParams().First(mostRows).States(rivertype.JobStateRunning))
	if err != nil {
		return fmt.Errorf("read the queue: %w", err)
	}
	var left []ended
	for _, row := range list.Jobs {
		if o, is := old[row.ID]; is && d.isOver(row.ID, o) {
			left = append(left, ended{row, o})
		}
	}
	if err := d.data.giveBack(ctx, left); err != nil {
		return fmt.Errorf("write the queue: %w", err)
	}
	d.mu.Lock()
	for id, o := range old {
		if d.over[id] == o {
			delete(d.over, id)
		}
	}
	d.mu.Unlock()
	for _, row := range left {
		d.opt.Log.Warn("the queue did not hear of the end of a run, and does now", "task", old[row.ID].task, "attempt", row.Attempt)
	}
	return nil
}

// isOver reports whether the row was not begun again since.
func (d *Daemon) isOver(id int64, o over) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.over[id] == o
}
