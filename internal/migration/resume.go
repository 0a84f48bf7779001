package migration

import (
	"context"
	"errors"
	"fmt"

	"holdfast"
)

// Resume ends what a death or an error left, by the rule of the package. If nothing is left it changes nothing. Errors are those of
// [Migration.Run], and wrap [holdfast.ErrUsage] if there is no migration.
func (m Migration) Resume(ctx context.Context) (Report, error) {
	s, found, err := m.load()
	if err != nil {
		return Report{}, err
	}
	r := &run{Migration: m, s: s}
	if !found || s.Course == "" {
		return r.report(), m.none()
	}
	switch s.Course {
	case rehearsing:
		if err := r.clearRehearsal(ctx); err != nil {
			return r.report(), err
		}
		return r.report(), nil
	case rollingBack:
		return r.rollback(ctx, errors.New(s.Reason))
	case restoring:
		return r.resumeRestore(ctx)
	case finishing:
		return r.remove(ctx)
	case ended:
		return r.report(), r.record(ctx)
	}
	switch {
	case s.Done == Watched:
		return r.report(), r.record(ctx)
	case s.passed(Watched):
		return r.resumeOpening(ctx)
	case s.passed(Switched):
		err = r.untouched(ctx)
		if order(s.Done) > order(Switched) {
			// The server may be down since, or somebody worked on it: what came after the switch is done again.
			r.s.Done, r.s.Doing = Switched, Started
		}
	case s.passed(Closed):
		err = r.backToClosing(ctx)
	default:
		_, err = r.gate(ctx)
		if err != nil {
			return r.report(), err
		}
	}
	if err != nil {
		return r.rollback(ctx, fmt.Errorf("resume: %w", err))
	}
	return r.forward(ctx)
}

func (m Migration) none() error {
	return holdfast.WithHint(fmt.Errorf("%w: there is no migration to %s", holdfast.ErrUsage, m.o.Volume), "run: holdfast volume migrate --from DIRECTORY --to "+m.o.Volume)
}

// backToClosing goes on from the stop, if nobody wrote since; otherwise all from shutting out on is done again.
func (r *run) backToClosing(ctx context.Context) error {
	_, serving, err := r.where(ctx)
	if err != nil {
		return err
	}
	if order(r.s.Done) >= order(Stopped) && serving == None && r.untouched(ctx) == nil {
		return nil
	}
	if check := r.proven(ctx, &Plan{}); !check.Good {
		return holdfast.WithHint(fmt.Errorf("%w: %s", ErrNoGo, check.Text), check.Fix)
	}
	r.s.Done, r.s.Doing = Copied, Closed
	return r.ensure(ctx, Old)
}

// resumeOpening lets applications in, which the last run may have done or not.
func (r *run) resumeOpening(ctx context.Context) (Report, error) {
	place, serving, err := r.where(ctx)
	if err != nil {
		return r.report(), err
	}
	if place.Side == Old {
		// Only a roll back that could not be written down puts the old directory back.
		return r.rollback(ctx, errors.New("resume: the server has the old directory again"))
	}
	if serving != Sealed {
		if err := r.untouched(ctx); err != nil {
			return r.report(), holdfast.WithHint(fmt.Errorf("both directories may have been written, and no program can tell which counts: %w", err),
				fmt.Sprintf("stop the server, compare %s with %s, and keep the one that is right under the name %s", place.Old, r.o.To, r.o.From))
		}
	}
	return r.forward(ctx)
}
