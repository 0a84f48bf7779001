package survey

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/health"
)

// memory is what was read of one job. It has what the last look needed, and so does not grow with the years.
type memory struct {
	facts  map[entryKey]facts
	proofs map[proofKey]health.Proof
}

// entryKey is a whole name: whoever copies an ID into another one must not be believed for it.
type entryKey struct {
	id       holdfast.BackupID
	time     time.Time
	kind     string
	complete bool
	size     int64
}

func keyOf(e archive.Entry) entryKey { return entryKey{e.ID, e.Time, e.Kind, e.Complete, e.Size} }

type proofKey struct {
	of    entryKey
	proof archive.ProofEntry
	store string
}

// facts are what a manifest says.
type facts struct {
	again bool // it must be read again at the next look: not every place that was asked for it had it as it should be
	items []health.Item
	took  time.Duration
	keys  []string
	holds []holdfast.SourceName
	lacks []holdfast.SourceName
}

// reader reads for one look.
type reader struct {
	surveyor *Surveyor
	slots    chan struct{} // one for each object that is read at once
}

// read opens the manifests and proofs that matter.
func (r reader) read(ctx context.Context, l *look) {
	r.surveyor.mu.Lock()
	before := r.surveyor.jobs[l.job.Name]
	r.surveyor.mu.Unlock()
	now := memory{map[entryKey]facts{}, map[proofKey]health.Proof{}}
	if newest := r.newest(ctx, l, before, now); newest >= 0 {
		r.compare(ctx, l, newest, before, now)
	}
	l.copies()
	r.sources(ctx, l, before, now)
	l.attempts()
	r.proofs(ctx, l, before, now)
	r.surveyor.mu.Lock()
	defer r.surveyor.mu.Unlock()
	if r.surveyor.jobs == nil {
		r.surveyor.jobs = map[holdfast.JobName]memory{}
	}
	r.surveyor.jobs[l.job.Name] = now
}

// newest finds the newest complete backup whose manifest says the same as its name; -1: there is none. What is newer and was signed by
// nobody who counts is no backup. One that cannot be read for another reason may be one. Behind very many false names only what was read
// before is believed.
func (r reader) newest(ctx context.Context, l *look, before, now memory) int {
	for range mostFalse {
		at := -1
		for i, b := range l.job.Backups {
			if b.Complete {
				at = i
			}
		}
		if at < 0 {
			return -1
		}
		f, err := r.factsOf(ctx, l, l.merged[at], before)
		if !errors.Is(err, holdfast.ErrDifference) {
			if err == nil {
				l.note(at, f, now)
				l.keys = f.keys
			}
			return at
		}
		l.drop(at)
	}
	at := -1
	for i, entry := range l.merged {
		if f, known := before.facts[keyOf(entry)]; known && entry.Complete {
			at, l.keys = i, f.keys
		}
	}
	l.doubt(at + 1)
	if at >= 0 {
		l.note(at, before.facts[keyOf(l.merged[at])], now)
	}
	return at
}

// note keeps what the manifest of a backup says.
func (l *look) note(i int, f facts, now memory) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := &l.job.Backups[i]
	b.Items, b.Took, b.Holds, b.Lacks = f.items, f.took, f.holds, f.lacks
	if !f.again {
		now.facts[keyOf(l.merged[i])] = f
	}
}

// compare reads the manifests that the newest backup is compared with.
func (r reader) compare(ctx context.Context, l *look, newest int, before, now memory) {
	var group sync.WaitGroup
	for _, i := range compared(l.job.Backups, newest) {
		group.Go(func() {
			if f, err := r.factsOf(ctx, l, l.merged[i], before); err == nil {
				l.note(i, f, now)
			}
		})
	}
	group.Wait()
}

// compared chooses of the backups of the same kind in the days before the newest the first of each slot of time: the same ones at the next
// look, when there is a newer one.
func compared(backups []health.Backup, newest int) []int {
	const slot = int64(window / time.Second / (mostManifests - 1))
	var chosen []int
	last := int64(-1)
	for i, b := range backups[:newest] {
		at := b.Time.Unix() / slot
		if b.Complete && b.Kind == backups[newest].Kind && backups[newest].Time.Sub(b.Time) <= window && at != last {
			chosen, last = append(chosen, i), at
		}
	}
	return chosen
}

// factsOf reads a manifest in the first place that has it and can be read. What is not what was signed, in whichever place, is counted.
func (r reader) factsOf(ctx context.Context, l *look, entry archive.Entry, before memory) (facts, error) {
	if f, known := before.facts[keyOf(entry)]; known {
		return f, nil
	}
	var problem error
	for place := range l.in {
		b, err := r.open(ctx, l, place, entry)
		if b == nil {
			problem = cmp.Or(problem, err)
			continue
		}
		// Manifests have whole seconds, and 0 is what is not known.
		f := facts{again: problem != nil, took: max(b.Manifest.Finished.Sub(b.Manifest.Time), time.Second), keys: b.Manifest.Keys, holds: holds(b.Manifest)}
		for _, missing := range b.Manifest.Missing {
			f.lacks = append(f.lacks, missing.Name)
		}
		for _, item := range b.Manifest.Items {
			if item.Role == archive.RoleData {
				f.items = append(f.items, health.Item{Source: item.Source, Name: item.Name, Plain: item.PlainSize, Stored: item.StoredSize})
			}
		}
		return f, nil
	}
	return facts{}, cmp.Or(problem, error(fs.ErrNotExist))
}

// open opens a backup in one place; nil without an error when it is not there, or not any more.
func (r reader) open(ctx context.Context, l *look, place int, entry archive.Entry) (*archive.Backup, error) {
	if l.in[place] == nil {
		return nil, nil
	}
	at := slices.IndexFunc(l.lists[place], func(e archive.Entry) bool { return keyOf(e) == keyOf(entry) })
	if at < 0 {
		return nil, nil
	}
	var b *archive.Backup
	try := func() (err error) {
		b, err = l.in[place].Open(ctx, l.lists[place][at])
		return err
	}
	err := r.slot(ctx, try)
	if errors.Is(err, holdfast.ErrDifference) {
		err = r.slot(ctx, try) // a prune that is between the manifest and its signature is not taken for damage
	}
	switch {
	case err == nil:
		return b, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil // a prune was faster
	case errors.Is(err, holdfast.ErrDifference):
		l.damaged(place, entry)
	case ctx.Err() == nil:
		l.unreadable(place, err)
	}
	return nil, err
}

// slot does something with a store when there is room for it.
func (r reader) slot(ctx context.Context, do func() error) error {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
		return do()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
