package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/retention"
	"holdfast/internal/store"
)

// unfinishedAfter is how long objects without a manifest are left alone: whoever makes or copies a backup may still be at it.
const unfinishedAfter = 7 * 24 * time.Hour

// Shelf is one store of a job as a prune sees it.
type Shelf struct {
	Name    string
	Archive *archive.Archive // nil: it cannot be reached, and Err says why
	Err     error
	Policy  retention.Policy
}

// PrunePlan is one look at one job.
type PrunePlan struct {
	Job       holdfast.JobName
	Host, Who string
	Now       time.Time
	Force     bool // in spite of what blocks; never in spite of what protects
	// Imported are files of other tools that are kept by the same rules, on the first shelf. RemoveImported deletes one;
	// nil: they are only looked at.
	Imported       []archive.Entry
	RemoveImported func(ctx context.Context, entry archive.Entry, record archive.Prune) error
}

// Review is what a prune would do, and why. Nothing was changed for it.
type Review struct {
	Stores   []StoreReview
	Warnings []error // what was not believed: it counts for nothing, which can only keep more
	plan     PrunePlan
	shelves  []Shelf // all that could be looked at, also those that [Review.Only] leaves out
}

// Only is the review of those stores that are named, and with no name the whole.
func (r Review) Only(names []string) Review {
	if len(names) == 0 {
		return r
	}
	all := r.Stores
	r.Stores = nil
	for _, s := range all {
		if slices.Contains(names, s.Name) {
			r.Stores = append(r.Stores, s)
		}
	}
	return r
}

// Unseen names the stores that could not be looked at, as holdfast.ErrIncomplete.
func (r Review) Unseen() error {
	var problems []error
	for _, s := range r.Stores {
		if s.Err != nil {
			problems = append(problems, fmt.Errorf("%w: store %s was not looked at: %w", holdfast.ErrIncomplete, s.Name, s.Err))
		}
	}
	return errors.Join(problems...)
}

// StoreReview is what a prune would do in one store.
type StoreReview struct {
	Name      string
	Err       error // it cannot be reached, or not be read; nothing is done there
	Blocked   string
	Decisions []Decided
	Leftovers []archive.Leftover // those that may go: a prune that was cut, and runs that never ended
	archive   *archive.Archive
}

// Open reports whether a prune may delete something there.
func (s StoreReview) Open() bool { return s.Err == nil && s.Blocked == "" }

// Decided is one backup in one store.
type Decided struct {
	Entry    archive.Entry
	Keep     bool
	Why      string
	Until    time.Time // when it would go if backups go on as now; zero: not known, or never
	ReadOnly bool      // an imported file that only an explicit word deletes
	rule     archive.PruneRule
}

// Deletion is one backup that a prune deleted from one store, or tried to.
type Deletion struct {
	Store    string
	Entry    archive.Entry
	Why      string
	Objects  int
	Retained time.Time // the store refuses to delete it before; zero and Held: it does not say until when
	Held     bool
	Pinned   bool // it is pinned in this store, and stays
	Err      error
}

// Prune does what a review says. Oldest first; what cannot be deleted stops only its own store. A store that retains a backup keeps
// it, which is no error. about is told each deletion as it is done.
func Prune(ctx context.Context, review Review, about func(Deletion)) error {
	problems := []error{review.Unseen()}
	for _, s := range review.Stores {
		if !s.Open() {
			continue
		}
		err := s.prune(ctx, review, about)
		if err != nil && ctx.Err() != nil {
			return interrupted(ctx, err)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("store %s: %w", s.Name, err))
		}
	}
	return errors.Join(problems...)
}

// apart fails when a record that is in one store shows in another: under two names for one place the last copy would look like one of two.
// Without a record, which a full store does not take, those that are there already must tell the two apart.
func (r Review) apart(ctx context.Context, s StoreReview, record string) error {
	var own []string
	if record == "" {
		var err error
		if own, err = s.archive.OwnRecords(ctx, r.plan.Job); err != nil {
			return err
		}
	}
	for _, other := range r.shelves {
		if other.Archive == nil || other.Archive == s.archive {
			continue
		}
		there, err := other.Archive.OwnRecords(ctx, r.plan.Job)
		if err != nil {
			return fmt.Errorf("look whether store %s is another place: %w", other.Name, err)
		}
		if record != "" && slices.Contains(there, record) || record == "" && slices.Equal(own, there) {
			return holdfast.WithHint(fmt.Errorf("%w: stores %s and %s look like one place: what is written into one shows in the other, so that nothing was deleted", holdfast.ErrUsage, s.Name, other.Name),
				"let each store of a job be a place of its own")
		}
	}
	return nil
}

func (s StoreReview) prune(ctx context.Context, review Review, about func(Deletion)) error {
	plan := review.plan
	// Before the first deletion it is made sure that this store is no other one under a second name.
	var sure func(record string) error
	if len(review.shelves) > 1 {
		sure = func(record string) error {
			sure = nil
			return review.apart(ctx, s, record)
		}
	}
	// remove deletes one backup and tells of it. What the store retains is told, and no error.
	remove := func(entry archive.Entry, rule archive.PruneRule, why string) error {
		deletion := Deletion{Store: s.Name, Entry: entry, Why: why}
		record := archive.Prune{Rule: rule, Why: why, Time: plan.Now, Host: plan.Host, Who: plan.Who}
		var err error
		if entry.Kind == archive.KindImported {
			err = plan.RemoveImported(ctx, entry, record)
		} else {
			deletion.Objects, err = s.archive.Delete(ctx, entry, record, sure)
		}
		if errors.Is(err, archive.ErrCommitted) {
			return nil // since the review somebody ended what looked left over
		}
		if errors.Is(err, archive.ErrPinned) {
			deletion.Pinned, err = true, nil
		}
		if errors.Is(err, store.ErrRetained) {
			deletion.Held, deletion.Retained, err = true, retainedUntil(err), nil
		}
		deletion.Err = err
		about(deletion)
		return err
	}
	var changed []error
	for _, d := range s.Decisions {
		if d.Keep || d.ReadOnly {
			continue
		}
		err := remove(d.Entry, d.rule, d.Why)
		if errors.Is(err, holdfast.ErrDifference) {
			changed = append(changed, err) // a file that is not what was imported; the others are
			continue
		}
		if err != nil {
			return err
		}
	}
	for _, left := range s.Leftovers {
		rule, why := archive.PruneUnfinished, "left from a run that never ended"
		if left.Pruned {
			rule, why = archive.PruneRetention, "left from a prune that was cut"
		}
		if err := remove(left.Entry, rule, why); err != nil {
			return err
		}
	}
	return errors.Join(changed...)
}

func retainedUntil(err error) time.Time {
	var retained *store.RetainedError
	if errors.As(err, &retained) {
		return retained.Until
	}
	return time.Time{}
}
