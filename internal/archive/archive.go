// Package archive keeps backups as ordinary sealed files that stock tools open: layout 1, docs/archive-format.md.
//
// It hides object names, the order of writing, manifests, signatures, parts and digests. Its law: a backup exists if and
// only if its manifest exists; the manifest is written last, after everything it names was read back and found whole. It
// is not its job to know what items mean, when to make a backup, or which to keep.
package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast"
	"holdfast/internal/seal"
	"holdfast/internal/store"
)

// maxPart is the stored size at which an item continues in a further object.
const maxPart = 64 << 30

// Options configure an archive. Writing needs Seal and Signer; opening data needs Identities.
type Options struct {
	Seal       seal.Options     // how items are compressed and to whom they are sealed
	Signer     *seal.Signer     // signs manifests and verdicts
	Identities []seal.Identity  // what opens items; none: only manifests can be read
	Trusted    []seal.PublicKey // whose manifests are accepted; none: any, and the caller says "signer not checked"
	Version    string           // of holdfast, for the manifest
	Now        func() time.Time // required
	PartSize   int64            // stored bytes per object, default 64 GiB
}

// Archive is layout 1 over one store. Safe for concurrent use.
type Archive struct {
	store *store.Store
	opt   Options
}

// New returns an archive over s.
func New(s *store.Store, opt Options) *Archive {
	if opt.PartSize == 0 {
		opt.PartSize = maxPart
	}
	if opt.Seal.Compression == "" {
		opt.Seal.Compression = seal.Zstd
	}
	return &Archive{s, opt}
}

// List tells every backup, oldest first, from listings of names alone. With a job it tells that job's.
func (a *Archive) List(ctx context.Context, job holdfast.JobName) ([]Entry, error) {
	names, err := a.listings(ctx, job, append([]string{commitPrefix, resealPrefix}, about...))
	if err != nil {
		return nil, err
	}
	var entries []Entry
	for _, object := range names[commitPrefix] {
		if entry, ok := parseCommit(object.Name); ok {
			entry.Hidden, entry.Versions = object.Hidden, object.Versions
			entries = append(entries, entry)
		}
	}
	markCopies(entries, names[resealPrefix])
	attach(entries, names)
	Sort(entries)
	return entries, nil
}

// about holds the prefixes of what is recorded about backups.
var about = []string{proofPrefix, pinPrefix, verificationPrefix}

// Attach adds to entries what listings tell of their proofs, pins and verifications. Those of imported files are not in this archive, and
// their proofs are.
func (a *Archive) Attach(ctx context.Context, job holdfast.JobName, entries []Entry) error {
	names, err := a.listings(ctx, job, about)
	if err != nil {
		return err
	}
	attach(entries, names)
	return nil
}

// listings lists what a job, or with "" every job, has under each prefix, all at once: a store far away takes its time for each.
func (a *Archive) listings(ctx context.Context, job holdfast.JobName, prefixes []string) (map[string][]store.Object, error) {
	within := ""
	if job != "" {
		within = string(job) + "/"
	}
	found := make([][]store.Object, len(prefixes))
	group, ctx := errgroup.WithContext(ctx)
	for i, prefix := range prefixes {
		group.Go(func() error {
			for object, err := range a.store.List(ctx, prefix+within) {
				if err != nil {
					return fmt.Errorf("list %s: %w", strings.TrimSuffix(prefix, "/"), err)
				}
				found[i] = append(found[i], object)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	names := make(map[string][]store.Object, len(prefixes))
	for i, prefix := range prefixes {
		names[prefix] = found[i]
	}
	return names, nil
}

func attach(entries []Entry, names map[string][]store.Object) {
	proofs := make(map[string][]ProofEntry)
	for _, object := range names[proofPrefix] {
		if key, proof, ok := parseProof(object.Name); ok {
			proofs[key] = append(proofs[key], proof)
		}
	}
	pins := make(map[string][]PinEntry)
	for _, object := range names[pinPrefix] {
		if key, pin, ok := parsePin(object.Name); ok {
			pins[key] = append(pins[key], pin)
		}
	}
	verifications := make(map[string][]VerificationEntry)
	for _, object := range names[verificationPrefix] {
		if key, v, ok := parseVerification(object.Name); ok {
			verifications[key] = append(verifications[key], v)
		}
	}
	for i := range entries {
		key := entries[i].key()
		entries[i].Proofs = proofs[key]
		slices.SortStableFunc(entries[i].Proofs, func(x, y ProofEntry) int { return x.Time.Compare(y.Time) })
		entries[i].Pins = pins[key]
		slices.SortFunc(entries[i].Pins, PinEntry.order)
		entries[i].Verifications = verifications[key]
		slices.SortStableFunc(entries[i].Verifications, func(x, y VerificationEntry) int { return x.Time.Compare(y.Time) })
	}
}

// Merge makes one list of what several stores have, oldest first: proofs and pins made in any of them are about all copies, and
// what speaks of one copy (verifications, versions) is that of the first store that has it.
func Merge(lists ...[]Entry) []Entry {
	at := map[holdfast.BackupID]int{}
	var merged []Entry
	for _, list := range lists {
		for _, entry := range list {
			i, known := at[entry.ID]
			if !known {
				at[entry.ID] = len(merged)
				merged = append(merged, entry)
				continue
			}
			merged[i] = merged[i].and(entry)
		}
	}
	Sort(merged)
	return merged
}

func (e Entry) and(other Entry) Entry {
	for _, proof := range other.Proofs {
		if !slices.ContainsFunc(e.Proofs, func(p ProofEntry) bool { return p.ID == proof.ID }) {
			e.Proofs = append(slices.Clone(e.Proofs), proof)
		}
	}
	slices.SortStableFunc(e.Proofs, func(x, y ProofEntry) int { return x.Time.Compare(y.Time) })
	for _, pin := range other.Pins {
		if !slices.ContainsFunc(e.Pins, func(p PinEntry) bool { return p.ID == pin.ID }) {
			e.Pins = append(slices.Clone(e.Pins), pin)
		}
	}
	slices.SortFunc(e.Pins, PinEntry.order)
	if e.SupersededBy == "" {
		e.SupersededBy = other.SupersededBy
	}
	if e.From == "" {
		e.From = other.From
	}
	return e
}

// HasSome reports whether the store has any object of a backup's data.
func (a *Archive) HasSome(ctx context.Context, entry Entry) (bool, error) {
	for _, err := range a.store.List(ctx, entry.dataName("")) {
		return err == nil, err
	}
	return false, nil
}

// Sort orders entries as List does, oldest first.
func Sort(entries []Entry) {
	slices.SortStableFunc(entries, func(x, y Entry) int {
		if c := x.Time.Compare(y.Time); c != 0 {
			return c
		}
		if x.Superseded() != y.Superseded() {
			// Whoever takes the last one means the one that today's identities open.
			if x.Superseded() {
				return -1
			}
			return 1
		}
		return strings.Compare(string(x.ID), string(y.ID))
	})
}

// Find returns the one entry whose ID begins with text, or the newest for the empty text.
func Find(entries []Entry, text string) (Entry, error) {
	if len(entries) == 0 {
		return Entry{}, holdfast.WithHint(errors.New("the store holds no backup"), "make one with `holdfast backup`")
	}
	if text == "" {
		return entries[len(entries)-1], nil
	}
	var found []Entry
	for _, entry := range entries {
		if strings.HasPrefix(string(entry.ID), text) {
			found = append(found, entry)
		}
	}
	switch len(found) {
	case 0:
		return Entry{}, holdfast.WithHint(fmt.Errorf("%w: no backup has the ID %q", holdfast.ErrUsage, text), "`holdfast list` shows the IDs")
	case 1:
		return found[0], nil
	}
	return Entry{}, holdfast.WithHint(fmt.Errorf("%w: %d backups have an ID that begins with %q", holdfast.ErrUsage, len(found), text), "give more of the ID")
}

// Clean deletes what an interrupted run of ours left: the data objects of the backup that was begun as entry and has
// no manifest, and the marker of a copy. It returns how many objects it deleted. A backup that was committed is left alone.
func (a *Archive) Clean(ctx context.Context, entry Entry) (int, error) {
	if name, err := a.commitOf(ctx, entry); err != nil || name != "" {
		return 0, cmp.Or(err, checkOurs(name))
	}
	if entry.From != "" {
		if err := a.store.Delete(ctx, entry.resealName()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, fmt.Errorf("delete %s: %w", entry.resealName(), err)
		}
	}
	return a.deleteAll(ctx, entry.dataName(""))
}

// commitOf is the name of what stands in the place of the backup's manifest, "" when nothing does.
func (a *Archive) commitOf(ctx context.Context, entry Entry) (string, error) {
	for object, err := range a.store.List(ctx, commitPrefix+string(entry.Job)+"/"+entry.stem()+".") {
		if err != nil {
			return "", fmt.Errorf("look for the manifest of %s: %w", entry.ID, err)
		}
		return object.Name, nil
	}
	return "", nil
}

// checkOurs refuses to conclude anything from an object in a commit's place whose name is not a commit's.
func checkOurs(name string) error {
	if _, ok := parseCommit(name); !ok {
		return fmt.Errorf("object %s stands in the place of a manifest and is none", name)
	}
	return nil
}

func (a *Archive) deleteAll(ctx context.Context, prefix string) (int, error) {
	var names []string
	for object, err := range a.store.List(ctx, prefix) {
		if err != nil {
			return 0, fmt.Errorf("list %s: %w", prefix, err)
		}
		names = append(names, object.Name)
	}
	for i, name := range names {
		if err := a.store.Delete(ctx, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return i, fmt.Errorf("delete %s: %w", name, err)
		}
	}
	return len(names), nil
}
