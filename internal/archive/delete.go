package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/store"
)

const (
	pruneFormat    = "holdfast-prune-1"
	pruneNamespace = "holdfast-prune"
)

// PruneRule says on what ground a backup is deleted.
type PruneRule string

// The grounds. Each stands in the name of the record.
const (
	PruneRetention  PruneRule = "retention"  // no rule keeps it
	PruneForced     PruneRule = "forced"     // no rule keeps it, and somebody overrode a block
	PruneSuperseded PruneRule = "superseded" // a re-sealed copy stands for it
	PruneIncomplete PruneRule = "incomplete" // it lacks sources, and a newer one does not
	PruneUnfinished PruneRule = "unfinished" // a run left it that never ended
)

// Prune is the plain, signed record that a backup is deleted from one store, and why. It is written before anything is
// deleted.
type Prune struct {
	Format  string            `json:"format"`
	ID      holdfast.BackupID `json:"id"` // of the record
	Job     holdfast.JobName  `json:"job"`
	Backup  holdfast.BackupID `json:"backup"`
	Rule    PruneRule         `json:"rule"`
	Why     string            `json:"why"`
	Time    time.Time         `json:"time"`
	Host    string            `json:"host"`
	Who     string            `json:"who"`
	Version string            `json:"version"`
	Signer  string            `json:"signer"`
}

// pruneEntry is what a listing tells of one record.
type pruneEntry struct {
	Time time.Time
	Rule PruneRule
	ID   holdfast.BackupID
}

func (e Entry) pruneName(p pruneEntry, suffix string) string {
	return fmt.Sprintf("%s%s/%s.%s.%s.%s", prunePrefix, e.key(), p.Time.Format(timeLayout), p.Rule, p.ID, suffix)
}

var (
	pruneRecordRule = regexp.MustCompile(`^prunes/([^/]+/\d{8}T\d{6}Z\.[a-z0-9]+)/\d{8}T\d{6}Z\.(retention|forced|superseded|incomplete|unfinished)\.[a-z0-9]+\.json$`)
	dataRule        = regexp.MustCompile(`^data/([^/]+)/(\d{8}T\d{6}Z)\.([a-z0-9]+)/`)
)

// Why a backup is not deleted, whatever was decided before.
var (
	// ErrPinned: a record in this store pins it.
	ErrPinned = errors.New("it is pinned")
	// ErrCommitted: what was left over has a manifest by now.
	ErrCommitted = errors.New("its manifest is there")
)

// Delete deletes a backup from this store: the record of p first, then the manifest, then the rest. What is pinned here by now, or has
// a manifest by now, though entry is a leftover, is left alone: ErrPinned, ErrCommitted. A store that retains the
// manifest keeps the whole backup, and the error is its store.ErrRetained. Deleted objects are counted also when it fails.
// What an earlier Delete left is deleted by a further one, and Leftovers finds it.
//
// sure, unless it is nil, is asked when the record is stored, a new one of that name, and nothing is deleted yet. A full store takes no
// record, and then the name is empty.
func (a *Archive) Delete(ctx context.Context, entry Entry, p Prune, sure func(record string) error) (int, error) {
	if entry.Kind == "" {
		if name, err := a.commitOf(ctx, entry); err != nil || name != "" {
			return 0, cmp.Or(err, ErrCommitted)
		}
	}
	pinned, err := a.pinnedHere(ctx, entry, p.Time)
	if err != nil {
		return 0, err
	}
	if pinned {
		return 0, ErrPinned
	}
	record, err := a.recordPrune(ctx, entry, p, sure != nil)
	// A full store is what a prune is for: there the record follows what makes room for it.
	full := errors.Is(err, store.ErrFull)
	if err != nil && !full {
		return 0, err
	}
	if sure != nil {
		if err := sure(record); err != nil {
			return 0, err
		}
	}
	deleted, err := a.deleteObjects(ctx, entry)
	if err == nil && full {
		err = a.RecordPrune(ctx, entry, p)
	}
	return deleted, err
}

// Retained is a store.ErrRetained when the store would refuse to delete the backup now.
func (a *Archive) Retained(ctx context.Context, entry Entry) error {
	return a.store.Retained(ctx, entry.commitName())
}

// RecordPrune stores the record that a backup is deleted from this store, unless there is one. That a half of it was collected before is
// none of a whole one.
func (a *Archive) RecordPrune(ctx context.Context, entry Entry, p Prune) error {
	_, err := a.recordPrune(ctx, entry, p, false)
	return err
}

// recordPrune returns the name of the record that it stored.
func (a *Archive) recordPrune(ctx context.Context, entry Entry, p Prune, anew bool) (string, error) {
	if a.opt.Signer == nil {
		return "", errNoSigner()
	}
	p.Format, p.ID, p.Job, p.Backup, p.Version = pruneFormat, holdfast.NewBackupID(), entry.Job, entry.ID, a.opt.Version
	p.Time = p.Time.UTC().Truncate(time.Second)
	p.Signer = a.opt.Signer.PublicKey().Fingerprint()
	for object, err := range a.store.List(ctx, prunePrefix+entry.key()+"/") {
		if err != nil {
			return "", fmt.Errorf("look for a record of a prune of %s: %w", entry.ID, err)
		}
		m := pruneRecordRule.FindStringSubmatch(object.Name)
		if m != nil && !anew && (PruneRule(m[2]) != PruneUnfinished || p.Rule == PruneUnfinished) {
			return "", nil
		}
	}
	record := pruneEntry{Time: p.Time, Rule: p.Rule, ID: p.ID}
	name := func(suffix string) string { return entry.pruneName(record, suffix) }
	if err := a.putRecord(ctx, signedRecord{"prune " + string(p.ID), pruneNamespace, name}, &p); err != nil {
		return "", err
	}
	return name("json"), nil
}

// pinnedHere reports whether a pin in this store holds, by the names of the records alone.
func (a *Archive) pinnedHere(ctx context.Context, entry Entry, now time.Time) (bool, error) {
	entry.Pins = nil
	for object, err := range a.store.List(ctx, pinPrefix+entry.key()+"/") {
		if err != nil {
			return false, fmt.Errorf("look for a pin of %s: %w", entry.ID, err)
		}
		if _, pin, ok := parsePin(object.Name); ok {
			entry.Pins = append(entry.Pins, pin)
		}
	}
	slices.SortFunc(entry.Pins, PinEntry.order)
	return entry.PinnedAt(now), nil
}

// OwnRecords are the names of the records that speak of this store's copies of a job: no mirror has the same ones.
func (a *Archive) OwnRecords(ctx context.Context, job holdfast.JobName) ([]string, error) {
	var names []string
	for _, prefix := range []string{prunePrefix, verificationPrefix} {
		for object, err := range a.store.List(ctx, prefix+string(job)+"/") {
			if err != nil {
				return nil, fmt.Errorf("list %s: %w", strings.TrimSuffix(prefix, "/"), err)
			}
			names = append(names, object.Name)
		}
	}
	return names, nil
}

// Pruned tells of which backups of a job (or of all, for "") a record says that they are deleted from this store.
func (a *Archive) Pruned(ctx context.Context, job holdfast.JobName) (func(Entry) bool, error) {
	within := ""
	if job != "" {
		within = string(job) + "/"
	}
	gone, err := a.pruned(ctx, within)
	return func(e Entry) bool { return gone[e.key()] }, err
}

func (a *Archive) deleteObjects(ctx context.Context, entry Entry) (int, error) {
	deleted := 0
	if entry.Kind != "" {
		if err := a.store.Delete(ctx, entry.commitName()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, fmt.Errorf("delete the manifest of %s: %w", entry.ID, err)
		}
		deleted++
	}
	n, err := a.deleteAll(ctx, entry.dataName(""))
	deleted += n
	if err != nil || entry.From == "" {
		return deleted, err
	}
	if err := a.store.Delete(ctx, entry.resealName()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return deleted, fmt.Errorf("delete %s: %w", entry.resealName(), err)
	}
	return deleted + 1, nil
}

// PrunedTimes are the times of the backups of a job that a record says are deleted from this store.
func (a *Archive) PrunedTimes(ctx context.Context, job holdfast.JobName) ([]time.Time, error) {
	gone, err := a.pruned(ctx, string(job)+"/")
	var times []time.Time
	for key := range gone {
		stem := strings.TrimPrefix(key, string(job)+"/")
		if at, parseErr := time.Parse(timeLayout, stem[:min(len(stem), len(timeLayout))]); parseErr == nil {
			times = append(times, at)
		}
	}
	return times, err
}

// pruned lists the backups that a record says are deleted from this store, by job and stem.
func (a *Archive) pruned(ctx context.Context, within string) (map[string]bool, error) {
	gone := map[string]bool{}
	for object, err := range a.store.List(ctx, prunePrefix+within) {
		if err != nil {
			return nil, fmt.Errorf("list prunes: %w", err)
		}
		if m := pruneRecordRule.FindStringSubmatch(object.Name); m != nil {
			gone[m[1]] = true
		}
	}
	return gone, nil
}

// Leftover is what lies in a store of a backup that has no manifest there.
type Leftover struct {
	Entry   Entry // of its job, time and id; the rest is not known
	Objects int
	Bytes   int64
	Newest  time.Time // when the newest of its objects was put
	Pruned  bool      // a record says that it is being deleted
}

// Leftovers lists what a job has in this store without a manifest: backups that are being made or copied, and what was left of
// them or of a prune. It lists every object of the job.
func (a *Archive) Leftovers(ctx context.Context, job holdfast.JobName) ([]Leftover, error) {
	within := string(job) + "/"
	committed := map[string]bool{}
	for object, err := range a.store.List(ctx, commitPrefix+within) {
		if err != nil {
			return nil, fmt.Errorf("list backups: %w", err)
		}
		if entry, ok := parseCommit(object.Name); ok {
			committed[entry.key()] = true
			continue
		}
		// It may be the manifest of a newer holdfast, and then what it names is no leftover.
		rest, _, _ := strings.Cut(strings.TrimPrefix(object.Name, commitPrefix+within), "Z.")
		if len(object.Name) > len(commitPrefix+within)+len(rest)+2 {
			id, _, _ := strings.Cut(object.Name[len(commitPrefix+within)+len(rest)+2:], ".")
			committed[within+rest+"Z."+id] = true
		}
	}
	gone, err := a.pruned(ctx, within)
	if err != nil {
		return nil, err
	}
	var left []Leftover
	for object, err := range a.store.List(ctx, dataPrefix+within) {
		if err != nil {
			return nil, fmt.Errorf("list objects: %w", err)
		}
		m := dataRule.FindStringSubmatch(object.Name)
		if m == nil {
			continue
		}
		at, timeErr := time.Parse(timeLayout, m[2])
		id, idErr := holdfast.ParseBackupID(m[3])
		entry := Entry{Job: job, Time: at, ID: id}
		if errors.Join(timeErr, idErr) != nil || committed[entry.key()] {
			continue
		}
		last := len(left) - 1
		if last < 0 || left[last].Entry.key() != entry.key() {
			left = append(left, Leftover{Entry: entry, Pruned: gone[entry.key()]})
			last++
		}
		left[last].Objects++
		left[last].Bytes += object.Size
		if object.Modified.After(left[last].Newest) {
			left[last].Newest = object.Modified
		}
	}
	return left, nil
}

// Jobs lists the jobs that have backups in this store.
func (a *Archive) Jobs(ctx context.Context) ([]holdfast.JobName, error) {
	var jobs []holdfast.JobName
	for object, err := range a.store.List(ctx, commitPrefix) {
		if err != nil {
			return nil, fmt.Errorf("list backups: %w", err)
		}
		if entry, ok := parseCommit(object.Name); ok && !slices.Contains(jobs, entry.Job) {
			jobs = append(jobs, entry.Job)
		}
	}
	return jobs, nil
}
