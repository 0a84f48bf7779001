package migration

import (
	"context"
	"errors"
	"fmt"

	"holdfast"
)

// Rollback brings the server back to the old directory. After writes were accepted that directory lacks them: then it takes a backup of the
// volume, drills it, says what the old directory lacks, and restores the backup into a new directory beside the old one; what goes wrong on
// that way leaves the server on the volume, and the error wraps [ErrKept]. A way that cannot be gone is refused before anybody is shut out: where
// no backup can be proven, or applications cannot be kept out. reason is recorded, and needed. Errors wrap [holdfast.ErrUsage] if there is nothing
// to roll back, or applications cannot be kept out. One that says that the audit trail lacks it comes after all was done.
func (m Migration) Rollback(ctx context.Context, reason string) (Report, error) {
	s, found, err := m.load()
	if err != nil {
		return Report{}, err
	}
	r := &run{Migration: m, s: s}
	switch {
	case !found || s.Course == "":
		return r.report(), m.none()
	case s.Course == ended, s.Course == finishing:
		return r.report(), holdfast.WithHint(fmt.Errorf("%w: the migration is over: %s", holdfast.ErrUsage, r.report().Step), "to move the data again, run: holdfast volume migrate")
	case reason == "":
		return r.report(), holdfast.WithHint(fmt.Errorf("%w: a roll back has a reason, which is recorded", holdfast.ErrUsage), "give it with --reason")
	case s.Course == rehearsing:
		if err := r.clearRehearsal(ctx); err != nil {
			return r.report(), err
		}
		return r.report(), nil
	case s.Course == restoring:
		return r.resumeRestore(ctx)
	case s.Course == moving && s.passed(Watched):
		return r.restore(ctx, reason)
	}
	after, err := r.goBack(ctx, errors.New(reason))
	if err == nil {
		err = after // to be rolled back is what was asked for
	}
	return r.report(), err
}

// rollback goes back because of cause. Its error wraps cause, and ErrRolledBack if all went well.
func (r *run) rollback(ctx context.Context, cause error) (Report, error) {
	after, err := r.goBack(ctx, cause)
	if err == nil {
		err = fmt.Errorf("%w: %w", ErrRolledBack, cause)
	}
	if after != nil {
		err = fmt.Errorf("%w; then: %w", err, after)
	}
	return r.report(), err
}

// goBack gives the server its old directory again and lets applications in. Nobody wrote to the volume but the server itself, so nothing
// is lost. It is not interrupted: half of it would leave applications shut out. If err is nil the server is back, and after says what could not
// be written down about it.
func (r *run) goBack(ctx context.Context, cause error) (after, err error) {
	ctx = context.WithoutCancel(ctx)
	touched := r.s.passed(Closed)
	if r.s.Course != rollingBack {
		r.s.Course, r.s.Back, r.s.Reason = rollingBack, r.w.Now(), holdfast.Sentence(cause)
	}
	// A full disk must not keep applications shut out. Whoever resumes from an older state finds the server on the old directory.
	saved := r.keep()
	r.say("roll back: " + r.s.Reason)
	if touched {
		if err := r.bringBack(ctx); err != nil {
			return nil, retry(fmt.Errorf("roll back, because of %w: %w", cause, err),
				"the old directory is whole; when what is in the way is gone, run: holdfast volume migrate resume")
		}
		r.opened()
	}
	r.s.Course, r.s.Done, r.s.Doing, r.s.WayBack = ended, RolledBack, "", r.w.Now().Sub(r.s.Back)
	entry := Entry{Kind: EntryRolledBack, Reason: r.s.Reason, Text: "the server has its old directory, as it was; nothing is lost"}
	if touched {
		entry.Took = r.s.ShutOut
	}
	r.due(entry)
	if after := r.keep(); after != nil {
		return errors.Join(saved, after), nil
	}
	return r.record(ctx), nil
}

func (r *run) bringBack(ctx context.Context) error {
	place, serving, err := r.where(ctx)
	if err != nil {
		return err
	}
	if place.Side == Restored || serving == Restored {
		return errors.New("the server has a restored directory, which no step of a migration gave it")
	}
	if serving == Sealed || serving == Old && place.Side != Old {
		if err := r.halt(ctx); err != nil {
			return err
		}
		serving = None
	}
	if serving == None {
		if err := r.w.Switch.To(ctx, Old); err != nil {
			return err
		}
	}
	if err := r.ensure(ctx, Old); err != nil {
		return fmt.Errorf("start the server on the old directory: %w", err)
	}
	if err := r.w.Health(ctx); err != nil {
		return fmt.Errorf("ask whether the server is healthy: %w", err)
	}
	if err := r.w.OpenConnections(ctx); err != nil {
		return fmt.Errorf("let applications in: %w", err)
	}
	return nil
}

// halt stops the server and sees that it stopped.
func (r *run) halt(ctx context.Context) error {
	if err := r.w.Stop(ctx, r.o.Grace); err != nil {
		return fmt.Errorf("stop the server: %w", err)
	}
	_, serving, err := r.where(ctx)
	if err == nil && serving != None {
		err = errors.New("the server was stopped, and runs")
	}
	return err
}
