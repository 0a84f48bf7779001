package migration

import (
	"context"
	"fmt"
	"strings"

	"holdfast"
)

// What is written down about a way back after writes were accepted.
const (
	preparing Step = "preparing" // the applications are shut out, or not yet; it is not resumed but given up
	opening   Step = "opening"   // they may have been let in on the restored directory
)

// restore goes back after writes were accepted: the volume's backup, drilled, becomes a directory beside the old one.
func (r *run) restore(ctx context.Context, reason string) (Report, error) {
	if err := r.mayRestore(ctx); err != nil {
		return r.report(), err
	}
	r.s.Course, r.s.Back, r.s.Reason, r.s.Doing = restoring, r.w.Now(), reason, preparing
	if err := r.keep(); err != nil {
		return r.report(), err
	}
	if err := r.restoreSteps(ctx); err != nil {
		return r.giveUp(ctx, err)
	}
	r.s.Doing = opening
	if err := r.keep(); err != nil {
		return r.giveUp(ctx, err)
	}
	return r.endRestore(ctx)
}

// mayRestore refuses a way back that would be given up, before anybody is shut out for it.
func (r *run) mayRestore(ctx context.Context) error {
	if err := r.w.CanProve(ctx); err != nil {
		return fmt.Errorf("the way back needs a new backup, which could not be proven: %w", err)
	}
	if err := r.ensure(ctx, Sealed); err != nil {
		return fmt.Errorf("the way back begins on the volume: %w", err)
	}
	found, err := r.w.Obstacles(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("look whether applications can be shut out: %w", err)
	case len(found) > 0:
		return holdfast.WithHint(fmt.Errorf("%w: the way back shuts applications out, and that cannot be: %s", holdfast.ErrUsage, strings.Join(found, "; ")),
			"mend this first, and roll back then; the server runs on the volume as before")
	}
	return nil
}

func (r *run) restoreSteps(ctx context.Context) error {
	var now []Database
	for _, a := range []struct {
		text string
		do   func() error
	}{
		{"shut applications out", func() error { r.s.Closed = r.w.Now(); return r.w.CloseConnections(ctx) }},
		{"take the facts of every database", func() (err error) { now, err = r.w.Facts(ctx); return err }},
		{"back up the volume", func() (err error) { r.s.Backup, err = r.w.BackupNew(ctx); return err }},
		{"drill the backup", func() error { return r.w.Drill(ctx, r.s.Backup) }},
		{"say what the old directory lacks", func() error { r.tellLost(now); return nil }},
		{"restore the backup beside the old directory", func() error { return r.w.RestoreTo(ctx, r.s.Backup, r.o.RestoredPath()) }},
		{"stop the server", func() error { return r.halt(ctx) }},
		{"switch to the restored directory", func() error { return r.w.Switch.To(ctx, Restored) }},
		{"start the server on the restored directory", func() error { return r.ensure(ctx, Restored) }},
		{"ask whether the server is healthy", func() error { return r.w.Health(ctx) }},
		{"take the facts again, and compare", func() error { return r.compareFacts(ctx, now) }},
	} {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r.say(a.text)
		if err := a.do(); err != nil {
			return fmt.Errorf("%s: %w", a.text, err)
		}
	}
	return nil
}

// tellLost says what was written since the facts of the migration were taken. It is only said: all of it is in the backup.
func (r *run) tellLost(now []Database) {
	then, err := r.readFacts(r.s.Facts)
	if err != nil {
		r.lost = []string{"what it lacks is not known: " + err.Error()}
	} else if r.lost, _ = drifts(then, now); len(r.lost) == 0 {
		r.lost = []string{"nothing that facts show"}
	}
	for _, line := range r.lost {
		r.warn("the old directory lacks: " + line)
	}
}

// endRestore lets applications in on the restored directory.
func (r *run) endRestore(ctx context.Context) (Report, error) {
	ctx = context.WithoutCancel(ctx)
	r.say("let applications in")
	if err := r.ensure(ctx, Restored); err != nil {
		return r.report(), retry(err, "when what is in the way is gone, run: holdfast volume migrate resume")
	}
	if err := r.w.OpenConnections(ctx); err != nil {
		return r.report(), retry(fmt.Errorf("let applications in: %w", err), "run: holdfast volume migrate resume")
	}
	r.opened()
	r.s.Course, r.s.Done, r.s.Doing, r.s.WayBack = ended, WentBack, "", r.s.Opened.Sub(r.s.Back)
	r.due(Entry{Kind: EntryRolledBack, Good: true, Reason: r.s.Reason, Backup: r.s.Backup, Took: r.s.ShutOut,
		Text: "the server has a directory restored from a backup of the volume, with all that was written"})
	if err := r.keep(); err != nil {
		return r.report(), err
	}
	return r.report(), r.record(ctx)
}

// giveUp goes on with the volume, which lacks nothing: applications were shut out since.
func (r *run) giveUp(ctx context.Context, cause error) (Report, error) {
	ctx = context.WithoutCancel(ctx)
	r.say("stay on the volume: " + holdfast.Sentence(cause))
	if err := r.stay(ctx); err != nil {
		return r.report(), retry(fmt.Errorf("stay on the volume, because of %w: %w", cause, err), "when what is in the way is gone, run: holdfast volume migrate resume")
	}
	r.s.Course, r.s.Done, r.s.Doing, r.s.Back = moving, Watched, "", r.s.Opened
	r.due(Entry{Kind: EntryKept, Reason: r.s.Reason, Text: "the way back was given up: " + holdfast.Sentence(cause) + "; the server runs on the volume, which lacks nothing"})
	err := fmt.Errorf("%w: %w", ErrKept, cause)
	after := r.keep()
	if after == nil {
		after = r.record(ctx)
	}
	if after != nil {
		err = fmt.Errorf("%w; then: %w", err, after)
	}
	return r.report(), err
}

func (r *run) stay(ctx context.Context) error {
	place, serving, err := r.where(ctx)
	if err != nil {
		return err
	}
	if serving == Restored || serving == Sealed && place.Side != Sealed {
		if err := r.halt(ctx); err != nil {
			return err
		}
		serving = None
	}
	if serving == None {
		if err := r.w.Switch.To(ctx, Sealed); err != nil {
			return err
		}
	}
	if err := r.ensure(ctx, Sealed); err != nil {
		return fmt.Errorf("start the server on the volume: %w", err)
	}
	if err := r.w.Health(ctx); err != nil {
		return fmt.Errorf("ask whether the server is healthy: %w", err)
	}
	if err := r.w.OpenConnections(ctx); err != nil {
		return fmt.Errorf("let applications in: %w", err)
	}
	// It is a copy of the data on a bare disk that nobody needs.
	return r.w.Remove(ctx, r.o.RestoredPath())
}

// resumeRestore ends a way back that died: it is given up, unless applications may have written to the restored directory.
func (r *run) resumeRestore(ctx context.Context) (Report, error) {
	if r.s.Doing == opening {
		return r.endRestore(ctx)
	}
	return r.giveUp(ctx, fmt.Errorf("%w before it ended", holdfast.ErrInterrupted))
}
