package migration

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"holdfast"
)

// Finish removes the old directory; nothing else does. Before that it sees that the server runs where it should and is healthy, and that a
// backup taken since applications were let in is proven and no older than Options.MaxAge: if there is none it takes one and drills it. After a way
// back over a backup it does the same for the directory that was restored. reason is recorded, and needed.
func (m Migration) Finish(ctx context.Context, reason string) (Report, error) {
	s, found, err := m.load()
	if err != nil {
		return Report{}, err
	}
	r := &run{Migration: m, s: s}
	switch {
	case !found || s.Course == "":
		return r.report(), m.none()
	case s.Course == finishing:
		return r.remove(ctx)
	case reason == "":
		return r.report(), holdfast.WithHint(fmt.Errorf("%w: the removal of the old directory has a reason, which is recorded", holdfast.ErrUsage), "give it with --reason")
	case s.Course == moving && s.Done == Watched, s.Course == ended && s.Done == WentBack:
	case s.Course == ended:
		return r.report(), holdfast.WithHint(fmt.Errorf("%w: there is nothing to finish: %s", holdfast.ErrUsage, s.Done), "holdfast volume status shows where the data is")
	default:
		return r.report(), m.underWay(s)
	}
	side := Sealed
	if s.Done == WentBack {
		side = Restored
	}
	if err := r.onSide(ctx, side); err != nil {
		return r.report(), fmt.Errorf("the old directory is kept: %w", err)
	}
	if err := r.w.Health(ctx); err != nil {
		return r.report(), fmt.Errorf("the old directory is kept: the server is not healthy: %w", err)
	}
	proof, err := r.proveAgain(ctx)
	if err != nil {
		return r.report(), retry(fmt.Errorf("the old directory is kept: %w", err), "see why, and run finish again")
	}
	place, _, err := r.where(ctx)
	if err != nil {
		return r.report(), err
	}
	r.s.Course, r.s.Doing, r.s.Reason, r.s.Removing, r.s.Backup = finishing, Finished, reason, place.Old, proof
	if side == Sealed {
		r.s.Ours = false // it is the only one from now on, and nothing to copy over
	}
	if err := r.keep(); err != nil {
		return r.report(), err
	}
	return r.remove(ctx)
}

// proveAgain returns a proven backup of what applications wrote since they were let in.
func (r *run) proveAgain(ctx context.Context) (holdfast.BackupID, error) {
	proof, err := r.w.Proven(ctx)
	if err == nil && proof.Taken.After(r.s.Opened) && r.w.Now().Sub(proof.Taken) <= r.o.MaxAge {
		return proof.Backup, nil
	}
	if err := r.w.CanProve(ctx); err != nil {
		return "", fmt.Errorf("a new backup could not be proven: %w", err)
	}
	r.say("back up and drill, before the old directory is removed")
	backup, err := r.w.BackupNew(ctx)
	if err != nil {
		return "", fmt.Errorf("back up: %w", err)
	}
	if err := r.w.Drill(ctx, backup); err != nil {
		return "", fmt.Errorf("drill backup %s: %w", backup, err)
	}
	return backup, nil
}

// remove ends what Finish decided. What is half removed is no way back any more.
func (r *run) remove(ctx context.Context) (Report, error) {
	r.say("remove " + r.s.Removing)
	if r.s.Removing != "" {
		if err := r.w.Remove(ctx, r.s.Removing); err != nil {
			return r.report(), retry(err, "when what is in the way is gone, run: holdfast volume migrate resume")
		}
	}
	if err := os.Remove(r.o.Facts); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return r.report(), fmt.Errorf("remove the facts: %w", err)
	}
	r.s.Course, r.s.Done, r.s.Doing = ended, Finished, ""
	r.due(Entry{Kind: EntryFinished, Good: true, Reason: r.s.Reason, Backup: r.s.Backup, Text: fmt.Sprintf("%s was removed", r.s.Removing)})
	if err := r.keep(); err != nil {
		return r.report(), err
	}
	return r.report(), r.record(ctx)
}
