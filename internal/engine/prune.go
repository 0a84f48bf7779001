package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

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
	shelves  []Shelf // all of them, also those that [Review.Only] leaves out
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
	Err      error
}

// pruning is what a review is made from.
type pruning struct {
	plan    PrunePlan
	shelves []Shelf
	entries []map[holdfast.BackupID]archive.Entry // by shelf
	merged  map[holdfast.BackupID]archive.Entry   // with the proofs and pins of all shelves
	deleted []time.Time                           // of what was pruned before, from any shelf
	review  Review
}

// ReviewPrune decides what retention no longer keeps of a job, in each of its stores. Proofs and pins that a decision would lean on
// are read and their signatures checked: a name alone deletes nothing.
func ReviewPrune(ctx context.Context, shelves []Shelf, plan PrunePlan) (Review, error) {
	p := &pruning{plan: plan, shelves: shelves, merged: map[holdfast.BackupID]archive.Entry{}, review: Review{plan: plan, shelves: shelves}}
	input := retention.Input{Now: plan.Now, Force: plan.Force}
	var failed time.Time
	for i, shelf := range shelves {
		p.entries = append(p.entries, map[holdfast.BackupID]archive.Entry{})
		review := StoreReview{Name: shelf.Name, Err: shelf.Err, archive: shelf.Archive}
		last, err := p.look(ctx, i, &review)
		if ctx.Err() != nil {
			return Review{}, interrupted(ctx, ctx.Err())
		}
		review.Err = cmp.Or(review.Err, err)
		if last.After(failed) {
			failed = last
		}
		p.review.Stores = append(p.review.Stores, review)
	}
	if plan.Imported != nil && len(shelves) > 0 {
		for _, entry := range plan.Imported {
			p.entries[0][entry.ID] = entry
			p.merge(entry)
		}
	}
	p.believe(ctx)
	newest := time.Time{}
	for _, entry := range p.sorted() {
		input.Backups = append(input.Backups, p.backup(entry))
		if entry.Kind != archive.KindImported && entry.Kind != "safety" && entry.Time.After(newest) {
			newest = entry.Time
		}
	}
	if !failed.IsZero() {
		input.LastRun = &retention.Run{Time: failed, Failed: failed.After(newest)}
	}
	input.Deleted = p.deleted
	for i, shelf := range shelves {
		s := retention.Store{Name: shelf.Name, Reachable: p.review.Stores[i].Err == nil, Policy: shelf.Policy, Copies: map[holdfast.BackupID]retention.Copy{}}
		for id, entry := range p.entries[i] {
			s.Copies[id] = retention.Copy{Present: true, Damaged: entry.Damaged()}
		}
		input.Stores = append(input.Stores, s)
	}
	decided, err := p.decide(ctx, &input)
	if err != nil {
		return Review{}, interrupted(ctx, err)
	}
	for i, plan := range decided.Stores {
		if p.review.Stores[i].Err == nil {
			p.fill(ctx, i, plan)
		}
	}
	return p.review, nil
}

// askedAtOnce bounds how many backups a store is asked about at a time.
const askedAtOnce = 8

// decide lets retention decide, and asks the stores where something goes: everything that is kept must have a manifest that opens, since a
// name that somebody put into a store must not take the place of a backup, and what goes may be locked. Then it is decided anew.
func (p *pruning) decide(ctx context.Context, input *retention.Input) (retention.Plan, error) {
	asked := make([]map[question]bool, len(p.shelves))
	for i := range asked {
		asked[i] = map[question]bool{}
	}
	for {
		plan := retention.Decide(*input)
		changed := false
		for i, store := range plan.Stores {
			if p.review.Stores[i].Err != nil || !slices.ContainsFunc(store.Decisions, func(d retention.Decision) bool { return !d.Keep }) {
				continue
			}
			learned, err := p.ask(ctx, i, store, input.Stores[i].Copies, asked[i])
			if err != nil {
				if ctx.Err() != nil {
					return plan, err
				}
				p.review.Stores[i].Err = err
				input.Stores[i].Reachable, input.Stores[i].Copies = false, nil
				changed = true
				continue
			}
			for id, c := range learned {
				changed = changed || c != input.Stores[i].Copies[id]
				input.Stores[i].Copies[id] = c
			}
		}
		if !changed {
			return plan, nil
		}
		for n, b := range input.Backups {
			whole := slices.ContainsFunc(input.Stores, func(s retention.Store) bool { return s.Copies[b.ID].Present && !s.Copies[b.ID].Damaged })
			input.Backups[n].Complete = b.Complete && whole
		}
	}
}

// question is what a store is asked about a backup: does it open, when it is kept, and is it locked, when it goes.
type question struct {
	id   holdfast.BackupID
	keep bool
}

// ask asks a store what it was not asked yet, and returns the copies that turned out to be damaged or locked.
func (p *pruning) ask(ctx context.Context, i int, plan retention.StorePlan, copies map[holdfast.BackupID]retention.Copy, asked map[question]bool) (map[holdfast.BackupID]retention.Copy, error) {
	var mu sync.Mutex // guards learned and the warnings
	learned := map[holdfast.BackupID]retention.Copy{}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(askedAtOnce)
	for _, d := range plan.Decisions {
		own, c, q := p.entries[i][d.ID], copies[d.ID], question{d.ID, d.Keep}
		if own.Kind == archive.KindImported || asked[q] || d.Keep && !d.Complete || !d.Keep && plan.Blocked != "" {
			continue
		}
		asked[q] = true
		group.Go(func() error {
			var err error
			if d.Keep {
				_, err = p.shelves[i].Archive.Open(ctx, own)
			} else {
				err = p.shelves[i].Archive.Retained(ctx, own)
			}
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil, !d.Keep && errors.Is(err, fs.ErrNotExist): // another janitor was faster
				return nil
			case errors.Is(err, store.ErrRetained):
				c.Locked, c.LockedUntil = true, retainedUntil(err)
			case d.Keep && (errors.Is(err, holdfast.ErrDifference) || errors.Is(err, fs.ErrNotExist)):
				c.Damaged = true
				p.review.Warnings = append(p.review.Warnings, fmt.Errorf("backup %s in store %s counts for nothing: %w", own.ID, p.shelves[i].Name, err))
			default:
				return err
			}
			learned[d.ID] = c
			return nil
		})
	}
	return learned, group.Wait()
}

// look lists what a shelf has, and returns when its newest run failed.
func (p *pruning) look(ctx context.Context, i int, review *StoreReview) (time.Time, error) {
	shelf := p.shelves[i]
	if shelf.Archive == nil {
		return time.Time{}, cmp.Or(shelf.Err, errors.New("it cannot be reached"))
	}
	entries, err := shelf.Archive.List(ctx, p.plan.Job)
	if err != nil {
		return time.Time{}, err
	}
	left, err := shelf.Archive.Leftovers(ctx, p.plan.Job)
	if err != nil {
		return time.Time{}, err
	}
	run, _, err := shelf.Archive.FailedRun(ctx, p.plan.Job)
	if err != nil {
		return time.Time{}, err
	}
	deleted, err := shelf.Archive.PrunedTimes(ctx, p.plan.Job)
	if err != nil {
		return time.Time{}, err
	}
	p.deleted = append(p.deleted, deleted...)
	for _, entry := range entries {
		p.entries[i][entry.ID] = entry
		p.merge(entry)
	}
	for _, l := range left {
		if l.Pruned || p.plan.Now.Sub(l.Newest) > unfinishedAfter && p.plan.Now.Sub(l.Entry.Time) > unfinishedAfter {
			review.Leftovers = append(review.Leftovers, l)
		}
	}
	return run.Time, nil
}

// merge brings together what stores know of one backup.
func (p *pruning) merge(entry archive.Entry) {
	if known, seen := p.merged[entry.ID]; seen {
		entry = archive.Merge([]archive.Entry{known}, []archive.Entry{entry})[0]
	}
	p.merged[entry.ID] = entry
}

func (p *pruning) sorted() []archive.Entry {
	entries := slices.Collect(maps.Values(p.merged))
	archive.Sort(entries)
	return entries
}

// believe drops from the merged entries what names say and signed records do not: a proof that would take the protection from
// an older one, and the end of a pin.
func (p *pruning) believe(ctx context.Context) {
	entries := p.sorted()
	for _, entry := range slices.Backward(entries) {
		proof, proven := entry.Proven()
		if !proven || entry.Kind == archive.KindImported {
			continue
		}
		err := p.onAny(entry, func(a *archive.Archive, own archive.Entry) error {
			b, err := a.Open(ctx, own)
			if err != nil {
				return err
			}
			_, _, err = a.ReadProof(ctx, b, proof)
			return err
		})
		if err == nil {
			break
		}
		p.review.Warnings = append(p.review.Warnings, fmt.Errorf("backup %s does not count as proven: %w", entry.ID, err))
		entry.Proofs = nil
		p.merged[entry.ID] = entry
	}
	for _, entry := range entries {
		entry = p.merged[entry.ID]
		if len(entry.Pins) == 0 || entry.PinnedAt(p.plan.Now) {
			continue
		}
		last := entry.Pins[len(entry.Pins)-1]
		err := p.onAny(entry, func(a *archive.Archive, own archive.Entry) error {
			_, _, err := a.ReadPin(ctx, own, last)
			return err
		})
		if err != nil {
			p.review.Warnings = append(p.review.Warnings, fmt.Errorf("backup %s counts as pinned: %w", entry.ID, err))
			entry.Pins = []archive.PinEntry{{Pinned: true}}
			p.merged[entry.ID] = entry
		}
	}
}

// onAny tries read on each shelf that has a copy until it succeeds.
func (p *pruning) onAny(entry archive.Entry, read func(*archive.Archive, archive.Entry) error) error {
	err := errors.New("no store that can be reached has it")
	for i, shelf := range p.shelves {
		own, has := p.entries[i][entry.ID]
		if !has || shelf.Archive == nil {
			continue
		}
		if err = read(shelf.Archive, own); err == nil {
			return nil
		}
	}
	return err
}

func (p *pruning) backup(entry archive.Entry) retention.Backup {
	b := retention.Backup{
		ID: entry.ID, Kind: retention.Kind(entry.Kind), Time: entry.Time, Complete: entry.Complete, Superseded: entry.Superseded(),
		DrillFailed: entry.State() == string(holdfast.Failed), Pinned: entry.PinnedAt(p.plan.Now),
	}
	_, b.Proven = entry.Proven()
	if b.Pinned {
		b.PinnedUntil = entry.Pins[len(entry.Pins)-1].Until
	}
	return b
}

// fill writes one store's part of the review. What is kept is looked at before anything is deleted for its sake.
func (p *pruning) fill(ctx context.Context, i int, plan retention.StorePlan) {
	review := &p.review.Stores[i]
	review.Blocked = plan.Blocked
	deletes := false
	for _, d := range plan.Decisions {
		own, has := p.entries[i][d.ID]
		if !has {
			continue
		}
		decided := Decided{Entry: own, Keep: d.Keep, Why: d.Why, Until: d.Until, rule: archive.PruneRetention}
		switch {
		case d.Keep:
		case own.Superseded():
			decided.rule = archive.PruneSuperseded
		case !own.Complete:
			decided.rule = archive.PruneIncomplete
		case p.plan.Force:
			decided.rule = archive.PruneForced
		}
		decided.ReadOnly = own.Kind == archive.KindImported && p.plan.RemoveImported == nil
		if !decided.Keep && decided.rule == archive.PruneSuperseded {
			if err := p.copyNames(ctx, p.shelves[i].Archive, i, own); err != nil {
				decided.Keep, decided.Why = true, "its copy does not say that it was made from this one: "+holdfast.Sentence(err)
			}
		}
		deletes = deletes || !decided.Keep && !decided.ReadOnly
		review.Decisions = append(review.Decisions, decided)
	}
	slices.SortStableFunc(review.Decisions, func(x, y Decided) int { return x.Entry.Time.Compare(y.Entry.Time) })
	if !deletes || review.Blocked != "" {
		return
	}
	if err := p.newestIsWhole(ctx, i, review.Decisions); err != nil {
		review.Blocked = "the newest backup that is kept is not whole: " + holdfast.Sentence(err)
	}
}

// newestIsWhole looks at the objects of the newest complete backup of a store: a retention that leans on it must find it there.
func (p *pruning) newestIsWhole(ctx context.Context, i int, decisions []Decided) error {
	for _, d := range slices.Backward(decisions) {
		if !d.Keep || !d.Entry.Complete || d.Entry.Kind == archive.KindImported || d.Entry.Kind == "safety" {
			continue
		}
		b, err := p.shelves[i].Archive.Open(ctx, d.Entry)
		if err != nil {
			return err
		}
		return b.Verify(ctx, holdfast.L0, nil)
	}
	return nil
}

// copyNames checks that the signed manifest of the copy which stands for entry names it.
func (p *pruning) copyNames(ctx context.Context, a *archive.Archive, i int, entry archive.Entry) error {
	copied, has := p.entries[i][entry.SupersededBy]
	if !has {
		return errors.New("it is not in this store")
	}
	b, err := a.Open(ctx, copied)
	if err != nil {
		return err
	}
	if b.Manifest.Resealed == nil || b.Manifest.Resealed.From != entry.ID {
		return fmt.Errorf("%w: the manifest of %s names another one", holdfast.ErrDifference, copied.ID)
	}
	return nil
}

// Prune does what a review says. Oldest first; what cannot be deleted stops only its own store. A store that retains a backup keeps
// it, which is no error. about is told each deletion as it is done.
func Prune(ctx context.Context, review Review, about func(Deletion)) error {
	var problems []error
	for _, s := range review.Stores {
		err := s.Err
		if s.Open() {
			err = s.prune(ctx, review, about)
		}
		if err != nil && ctx.Err() != nil {
			return interrupted(ctx, err)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("store %s: %w", s.Name, err))
		}
	}
	return errors.Join(problems...)
}

// apart fails when a record that was written into one store shows in another: under two names for one place the last copy would look
// like one of two.
func (r Review) apart(ctx context.Context, s StoreReview, record string) error {
	for _, other := range r.shelves {
		if other.Archive == nil || other.Archive == s.archive {
			continue
		}
		same, err := other.Archive.HasRecord(ctx, record)
		if err != nil {
			return fmt.Errorf("look whether store %s is another place: %w", other.Name, err)
		}
		if same {
			return holdfast.WithHint(fmt.Errorf("%w: stores %s and %s are one place: what is written into one shows in the other, so that nothing was deleted", holdfast.ErrUsage, s.Name, other.Name),
				"let each store of a job be a place of its own")
		}
	}
	return nil
}

func (s StoreReview) prune(ctx context.Context, review Review, about func(Deletion)) error {
	plan := review.plan
	checked := len(review.shelves) == 1
	// remove deletes one backup and tells of it. What the store retains is told, and no error.
	remove := func(entry archive.Entry, rule archive.PruneRule, why string) error {
		deletion := Deletion{Store: s.Name, Entry: entry, Why: why}
		record := archive.Prune{Rule: rule, Why: why, Time: plan.Now, Host: plan.Host, Who: plan.Who}
		var err error
		if entry.Kind == archive.KindImported {
			err = plan.RemoveImported(ctx, entry, record)
		} else {
			if !checked {
				var name string
				if name, err = s.archive.RecordPrune(ctx, entry, record); err == nil {
					err, checked = review.apart(ctx, s, name), true
				}
			}
			if err == nil || errors.Is(err, store.ErrFull) { // a full store is what a prune is for
				deletion.Objects, err = s.archive.Delete(ctx, entry, record)
			}
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
