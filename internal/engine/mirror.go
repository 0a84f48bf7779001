package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/store"
)

// Destination is another store, which gets copies.
type Destination struct {
	Name    string
	Mirror  store.Mirror     // a store.Comparer compares what was copied by itself
	Archive *archive.Archive // over the same store: else what was copied is read back through it
}

// MirrorPlan is one pass over one job.
type MirrorPlan struct {
	Job       holdfast.JobName
	Host, Who string
	Now       func() time.Time
}

// Mirrored is what a pass did.
type Mirrored struct {
	Backups int // that are now whole in the destination, and were not
	Objects int
	Bytes   int64
}

// Mirror brings to a destination what it lacks of a job, byte for byte: the newest backup first, of each backup its objects,
// then what was copied is read back and compared with the signed manifest, then the manifest. It goes on where an earlier pass
// ended, overwrites nothing and deletes nothing. A backup that is damaged in from is not copied; the others are, and the error is
// holdfast.ErrDifference.
func Mirror(ctx context.Context, from *archive.Archive, to Destination, plan MirrorPlan, observe holdfast.Observer) (Mirrored, error) {
	observe = orQuiet(observe)
	var done Mirrored
	groups, err := from.Lacking(ctx, to.Mirror, plan.Job)
	if err != nil {
		return done, interrupted(ctx, err)
	}
	var problems []error
	for _, group := range groups {
		err := copyGroup(ctx, from, to, plan, group, observe, &done)
		if ctx.Err() != nil {
			return done, interrupted(ctx, errors.Join(append(problems, err)...))
		}
		if err == nil {
			continue
		}
		problems = append(problems, err)
		if !errors.Is(err, holdfast.ErrDifference) {
			break // the store, which will fail for the next one too
		}
	}
	return done, errors.Join(problems...)
}

func copyGroup(ctx context.Context, from *archive.Archive, to Destination, plan MirrorPlan, group archive.Group, observe holdfast.Observer, done *Mirrored) error {
	push := func(objects []store.Object, open func(context.Context, string) (io.ReadCloser, error)) error {
		if len(objects) == 0 {
			return nil
		}
		if err := to.Mirror.Push(ctx, objects, open); err != nil {
			return err
		}
		for _, o := range objects {
			done.Objects++
			done.Bytes += o.Size
		}
		return nil
	}
	if group.Entry.ID == "" {
		err := push(group.Objects, from.OpenRecord)
		if err == nil {
			err = push(group.Last, from.OpenRecord)
		}
		return errors.Join(err, group.Err)
	}
	if group.Err != nil {
		return fmt.Errorf("backup %s: %w", group.Entry.ID, group.Err)
	}
	observe(holdfast.Event{Kind: holdfast.EventPhase, Job: plan.Job, Backup: group.Entry.ID, Message: fmt.Sprintf("copy %s to %s", group.Entry.ID, to.Name)})
	b, err := from.Open(ctx, group.Entry)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a prune was faster
	}
	if err != nil {
		return err
	}
	if err := b.CheckParts(ctx); err != nil {
		return err
	}
	if err := push(group.Objects, b.OpenCopy); err != nil {
		return fmt.Errorf("backup %s: %w", group.Entry.ID, err)
	}
	if err := readBack(ctx, b, to); err != nil {
		if errors.Is(err, holdfast.ErrDifference) {
			err = holdfast.WithHint(fmt.Errorf("in %s: %w", to.Name, err), "this copy does not count: `holdfast verify "+string(group.Entry.ID)+"` says whether the first one is whole; then delete the copy's objects at "+to.Name+" by hand, and mirror again")
		}
		return err
	}
	if err := push(group.Last, b.OpenCopy); err != nil {
		return fmt.Errorf("backup %s: %w", group.Entry.ID, err)
	}
	done.Backups++
	observe(holdfast.Event{Kind: holdfast.EventItem, Job: plan.Job, Backup: group.Entry.ID, Item: string(group.Entry.ID), Bytes: group.Bytes(), Stored: group.Bytes()})
	_, err = to.Archive.PutVerification(ctx, b, holdfast.L1, true, archive.Verification{Time: plan.Now(), Host: plan.Host, Who: plan.Who})
	return err
}

// readBack compares what lies in the destination with what the manifest recorded.
func readBack(ctx context.Context, b *archive.Backup, to Destination) error {
	comparer, is := to.Mirror.(store.Comparer)
	if !is {
		return b.VerifyIn(ctx, to.Archive)
	}
	different, err := comparer.Check(ctx, b.ObjectNames(), b.OpenCopy)
	if err != nil {
		return err
	}
	if len(different) > 0 {
		return fmt.Errorf("%w: backup %s: %s is not what was sent", holdfast.ErrDifference, b.Entry.ID, different[0])
	}
	return nil
}
