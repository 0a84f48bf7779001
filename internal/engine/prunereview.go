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

// pruning is what a review is made from.
type pruning struct {
	plan    PrunePlan
	shelves []Shelf
	entries []map[holdfast.BackupID]archive.Entry // by shelf
	doubted []map[holdfast.BackupID]bool          // by shelf: what counts for nothing there
	merged  map[holdfast.BackupID]archive.Entry   // with the proofs and pins of all shelves
	twins   map[holdfast.BackupID]bool            // under one id several things are said: they count for nothing anywhere
	deleted []time.Time                           // of what was pruned before, from any shelf
	review  Review
}

// ReviewPrune decides what retention no longer keeps of a job, in each of its stores. Whatever a decision leans on beyond the name of a
// backup that goes is read and its signature checked: manifests of what stays, proofs and failed drills, checks of copies, ends of pins.
// What cannot be accepted counts for nothing, which can only keep more. A manifest that cannot be read ends the review of that store, and
// a drill that no store can give away now ends the whole.
func ReviewPrune(ctx context.Context, shelves []Shelf, plan PrunePlan) (Review, error) {
	p := &pruning{
		plan: plan, shelves: shelves, merged: map[holdfast.BackupID]archive.Entry{}, twins: map[holdfast.BackupID]bool{},
		review: Review{plan: plan},
	}
	input := retention.Input{Now: plan.Now, Force: plan.Force}
	var failed time.Time
	for i, shelf := range shelves {
		p.entries = append(p.entries, map[holdfast.BackupID]archive.Entry{})
		p.doubted = append(p.doubted, map[holdfast.BackupID]bool{})
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
	if err := p.believe(ctx); err != nil {
		return Review{}, interrupted(ctx, err)
	}
	for _, entry := range p.sorted() {
		input.Backups = append(input.Backups, p.backup(entry))
	}
	if !failed.IsZero() {
		input.LastRun = &retention.Run{Time: failed}
	}
	input.Deleted = p.deleted
	for i, shelf := range shelves {
		s := retention.Store{Name: shelf.Name, Reachable: p.review.Stores[i].Err == nil, Policy: shelf.Policy, Copies: map[holdfast.BackupID]retention.Copy{}}
		for id, entry := range p.entries[i] {
			s.Copies[id] = retention.Copy{Present: true, Damaged: entry.Damaged(), Superseded: entry.Superseded(), Doubtful: p.doubted[i][id] || p.twins[id]}
		}
		input.Stores = append(input.Stores, s)
	}
	decided, err := p.decide(ctx, &input)
	if err != nil {
		return Review{}, interrupted(ctx, err)
	}
	for i, plan := range decided.Stores {
		if p.review.Stores[i].Err == nil {
			p.review.shelves = append(p.review.shelves, shelves[i])
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
		var newest time.Time // of what the job's own runs made
		for n, b := range input.Backups {
			accepted := slices.ContainsFunc(input.Stores, func(s retention.Store) bool { return s.Copies[b.ID].Present && !s.Copies[b.ID].Doubtful })
			input.Backups[n].Complete = b.Complete && accepted
			if accepted && b.Kind != retention.Imported && b.Kind != retention.Safety && b.Time.After(newest) {
				newest = b.Time
			}
		}
		if input.LastRun != nil {
			input.LastRun.Failed = input.LastRun.Time.After(newest)
		}
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
				p.doubted[i][id] = p.doubted[i][id] || c.Doubtful
				if own := p.entries[i][id]; own.Superseded() && !c.Superseded {
					own.SupersededBy = ""
					p.entries[i][id] = own
				}
			}
		}
		if !changed {
			return plan, nil
		}
	}
}

// question is what a store is asked about a backup: does it open, when it is kept; does its re-sealed copy stand for it, when it goes for
// its sake; and is it locked, when it goes.
type question struct {
	id               holdfast.BackupID
	keep, superseded bool
}

// refused reports whether something was read, or looked for, and is not what its name says.
func refused(err error) bool {
	return errors.Is(err, holdfast.ErrDifference) || errors.Is(err, fs.ErrNotExist)
}

func (p *pruning) warn(format string, args ...any) {
	p.review.Warnings = append(p.review.Warnings, fmt.Errorf(format, args...))
}

// ask asks a store what it was not asked yet, and returns the copies that turned out to be doubtful, not superseded, or locked.
func (p *pruning) ask(ctx context.Context, i int, plan retention.StorePlan, copies map[holdfast.BackupID]retention.Copy, asked map[question]bool) (map[holdfast.BackupID]retention.Copy, error) {
	var mu sync.Mutex // guards learned and the warnings
	learned := map[holdfast.BackupID]retention.Copy{}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(askedAtOnce)
	for _, d := range plan.Decisions {
		own, c, q := p.entries[i][d.ID], copies[d.ID], question{d.ID, d.Keep, !d.Keep && copies[d.ID].Superseded}
		if own.Kind == archive.KindImported || asked[q] || !d.Keep && plan.Blocked != "" {
			continue
		}
		asked[q] = true
		group.Go(func() error {
			var err error
			if d.Keep {
				_, err = p.shelves[i].Archive.Open(ctx, own)
			} else if q.superseded {
				err = p.copyStands(ctx, i, own)
			}
			stands := err == nil
			if !d.Keep && stands {
				err = p.shelves[i].Archive.Retained(ctx, own)
			}
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil, !d.Keep && stands && errors.Is(err, fs.ErrNotExist): // another janitor was faster
				return nil
			case errors.Is(err, store.ErrRetained):
				c.Locked, c.LockedUntil = true, retainedUntil(err)
			case d.Keep && refused(err):
				c.Doubtful = true
				p.warn("backup %s in store %s counts for nothing, and is not deleted: %w", own.ID, p.shelves[i].Name, err)
			case q.superseded && !stands && refused(err):
				c.Superseded = false
				p.warn("backup %s in store %s is not superseded, and its copy counts for nothing: %w", own.ID, p.shelves[i].Name, err)
				if copied := copies[own.SupersededBy]; copied.Present {
					copied = cmp.Or(learned[own.SupersededBy], copied)
					copied.Doubtful = true
					learned[own.SupersededBy] = copied
				}
			default:
				return err
			}
			c.Doubtful = c.Doubtful || learned[d.ID].Doubtful // another's question may have shown it
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
		if _, known := p.entries[i][entry.ID]; known {
			p.twin(entry.ID)
			continue
		}
		p.entries[i][entry.ID] = entry
		if entry, err = p.checks(ctx, i, entry); err != nil {
			return time.Time{}, err
		}
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

// twin notes that several backups go by one id.
func (p *pruning) twin(id holdfast.BackupID) {
	if !p.twins[id] {
		p.warn("several manifests are named after backup %s: they count for nothing, and none is deleted", id)
	}
	p.twins[id] = true
}

// doubt notes that what a store has of a backup cannot be accepted.
func (p *pruning) doubt(i int, id holdfast.BackupID, cause error) {
	if _, has := p.entries[i][id]; has && !p.doubted[i][id] {
		p.warn("backup %s in store %s counts for nothing, and is not deleted: %w", id, p.shelves[i].Name, cause)
	}
	p.doubted[i][id] = true
}

// open opens the manifest of what a store has of a backup. One that cannot be accepted is doubted from then on.
func (p *pruning) open(ctx context.Context, i int, own archive.Entry) (*archive.Backup, error) {
	b, err := p.shelves[i].Archive.Open(ctx, own)
	if refused(err) {
		p.doubt(i, own.ID, err)
	}
	return b, err
}

// checks drops from an entry, where its copy was once found damaged, the checks that no signed record tells of: neither damage nor its
// end is believed of a name. Damage that somebody else recorded leaves the copy in doubt.
func (p *pruning) checks(ctx context.Context, i int, entry archive.Entry) (archive.Entry, error) {
	if !slices.ContainsFunc(entry.Verifications, func(v archive.VerificationEntry) bool { return !v.Good }) {
		return entry, nil
	}
	b, err := p.open(ctx, i, entry)
	if refused(err) {
		return entry, nil
	}
	if err != nil {
		return entry, err
	}
	var kept []archive.VerificationEntry
	for _, v := range entry.Verifications {
		_, _, err := p.shelves[i].Archive.ReadVerification(ctx, b, v)
		switch {
		case err == nil:
			kept = append(kept, v)
		case refused(err) && v.Good:
			p.warn("a check of backup %s in store %s is not believed: %w", entry.ID, p.shelves[i].Name, err)
		case refused(err):
			p.doubt(i, entry.ID, err)
		default:
			return entry, err
		}
	}
	entry.Verifications = kept
	return entry, nil
}

// merge brings together what stores know of one backup.
func (p *pruning) merge(entry archive.Entry) {
	if known, seen := p.merged[entry.ID]; seen {
		if !known.Time.Equal(entry.Time) || known.Kind != entry.Kind || known.Complete != entry.Complete {
			p.twin(entry.ID)
		}
		entry = archive.Merge([]archive.Entry{known}, []archive.Entry{entry})[0]
	}
	p.merged[entry.ID] = entry
}

func (p *pruning) sorted() []archive.Entry {
	entries := slices.Collect(maps.Values(p.merged))
	archive.Sort(entries)
	return entries
}

// believe drops from the merged entries what names say and signed records do not: drills, and the ends of pins.
func (p *pruning) believe(ctx context.Context) error {
	proven := false // there is a proven backup that is newer
	for _, entry := range slices.Backward(p.sorted()) {
		if entry.Kind != archive.KindImported {
			var err error
			if entry, err = p.drills(ctx, entry, proven); err != nil {
				return err
			}
		}
		_, is := entry.Proven()
		proven = proven || is
		entry = p.pins(ctx, entry)
		p.merged[entry.ID] = entry
	}
	return nil
}

// drills drops the newest conclusive drills of an entry until one is what its name says. Of what passed and never failed only the newest
// matters; a failure that somebody else recorded leaves the backup in doubt.
func (p *pruning) drills(ctx context.Context, entry archive.Entry, proven bool) (archive.Entry, error) {
	failed := slices.ContainsFunc(entry.Proofs, func(proof archive.ProofEntry) bool { return proof.Verdict == holdfast.Failed })
	if proven && !failed {
		return entry, nil
	}
	for n := len(entry.Proofs) - 1; n >= 0; n-- {
		proof := entry.Proofs[n]
		if proof.Verdict != holdfast.Proven && proof.Verdict != holdfast.Failed {
			continue
		}
		err := p.onAny(entry, func(i int, own archive.Entry) error {
			b, err := p.open(ctx, i, own)
			if err != nil {
				return err
			}
			_, _, err = p.shelves[i].Archive.ReadProof(ctx, b, proof)
			return err
		})
		if err == nil {
			break
		}
		if !refused(err) {
			return entry, fmt.Errorf("read drill %s of backup %s: %w", proof.ID, entry.ID, err)
		}
		if proof.Verdict == holdfast.Failed {
			for i := range p.shelves {
				p.doubt(i, entry.ID, fmt.Errorf("drill %s: %w", proof.ID, err))
			}
		} else {
			p.warn("drill %s of backup %s is not believed: %w", proof.ID, entry.ID, err)
		}
		entry.Proofs = slices.Delete(slices.Clone(entry.Proofs), n, n+1)
	}
	return entry, nil
}

// pins lets an entry be pinned whose pin ended by a name alone.
func (p *pruning) pins(ctx context.Context, entry archive.Entry) archive.Entry {
	if len(entry.Pins) == 0 || entry.PinnedAt(p.plan.Now) {
		return entry
	}
	last := entry.Pins[len(entry.Pins)-1]
	err := p.onAny(entry, func(i int, own archive.Entry) error {
		_, _, err := p.shelves[i].Archive.ReadPin(ctx, own, last)
		return err
	})
	if err != nil {
		p.warn("backup %s counts as pinned: %w", entry.ID, err)
		entry.Pins = []archive.PinEntry{{Pinned: true}}
	}
	return entry
}

// onAny tries read on each shelf that has a copy until it succeeds. The error is one of those that say most: a shelf that could not be
// read might have had it.
func (p *pruning) onAny(entry archive.Entry, read func(i int, own archive.Entry) error) error {
	result := fmt.Errorf("no store that can be reached has it: %w", fs.ErrNotExist)
	for i, shelf := range p.shelves {
		own, has := p.entries[i][entry.ID]
		if !has || shelf.Archive == nil {
			continue
		}
		err := read(i, own)
		if err == nil {
			return nil
		}
		if refused(result) {
			result = err
		}
	}
	return result
}

func (p *pruning) backup(entry archive.Entry) retention.Backup {
	b := retention.Backup{
		ID: entry.ID, Kind: retention.Kind(entry.Kind), Time: entry.Time, Complete: entry.Complete,
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

// copyStands checks that the copy which stands for entry names it in its signed manifest, and is whole as far as is known.
func (p *pruning) copyStands(ctx context.Context, i int, entry archive.Entry) error {
	copied, has := p.entries[i][entry.SupersededBy]
	if !has {
		return fmt.Errorf("%w: %s is not in this store", holdfast.ErrDifference, entry.SupersededBy)
	}
	if copied.Damaged() || p.merged[copied.ID].State() == string(holdfast.Failed) {
		return fmt.Errorf("%w: %s was found damaged", holdfast.ErrDifference, copied.ID)
	}
	b, err := p.shelves[i].Archive.Open(ctx, copied)
	if err != nil {
		return err
	}
	if b.Manifest.Resealed == nil || b.Manifest.Resealed.From != entry.ID {
		return fmt.Errorf("%w: the manifest of %s names another one", holdfast.ErrDifference, copied.ID)
	}
	return b.Verify(ctx, holdfast.L0, nil)
}
