package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/source"
)

// NamedSource is a source as a job knows it.
type NamedSource struct {
	Name     holdfast.SourceName
	Kind     holdfast.Kind
	Secret   bool
	Optional bool // its absence does not make a backup incomplete; its failure does
	Source   source.Source
}

// Plan is one run of one job.
type Plan struct {
	Job     holdfast.JobName
	Host    string
	Kind    string // "full" or "safety"
	Reason  string
	Sources []NamedSource
	Now     time.Time
	// Begun is told the entry before anything is stored, so that a run that dies can be cleaned up by the next one.
	Begun func(archive.Entry) error
}

// Result is a backup that exists.
type Result struct {
	Entry    archive.Entry
	Manifest archive.Manifest
	Missing  []error // why it is incomplete: an optional source that is absent is not among them
}

// Backup captures every source of the plan into one backup. A source that fails is absent as a whole; when any is, the
// backup is committed without it and the error wraps holdfast.ErrIncomplete. When all fail nothing is committed.
func Backup(ctx context.Context, repo *archive.Archive, plan Plan, observe holdfast.Observer) (Result, error) {
	observe = orQuiet(observe)
	if len(plan.Sources) == 0 {
		return Result{}, fmt.Errorf("%w: job %s has no source", holdfast.ErrUsage, plan.Job)
	}
	at, err := backupTime(ctx, repo, plan, observe)
	if err != nil {
		return Result{}, interrupted(ctx, err)
	}
	draft, err := repo.Create(archive.Header{
		Job: plan.Job, ID: holdfast.NewBackupID(), Time: at, Host: plan.Host, Kind: plan.Kind, Reason: plan.Reason,
	})
	if err != nil {
		return Result{}, err
	}
	if plan.Begun != nil {
		if err := plan.Begun(draft.Entry()); err != nil {
			return Result{}, err
		}
	}
	result, err := fill(ctx, draft, plan, observe)
	if err != nil {
		return Result{}, errors.Join(interrupted(ctx, err), draft.Abort(ctx))
	}
	if !result.Manifest.Complete {
		return result, fmt.Errorf("%w: %w", holdfast.ErrIncomplete, errors.Join(result.Missing...))
	}
	return result, nil
}

// backupTime is the time a backup gets. Times order backups, so that a clock that went backwards must not make a new
// backup older than the ones it follows: then it is told, and the new one comes a second after the newest.
func backupTime(ctx context.Context, repo *archive.Archive, plan Plan, observe holdfast.Observer) (time.Time, error) {
	at := plan.Now.UTC().Truncate(time.Second)
	entries, err := repo.List(ctx, plan.Job)
	if err != nil {
		return time.Time{}, err
	}
	if len(entries) == 0 {
		return at, nil
	}
	newest := entries[len(entries)-1].Time
	if at.After(newest) {
		return at, nil
	}
	if newest.Sub(at) > time.Minute {
		observe(holdfast.Event{Kind: holdfast.EventWarning, Job: plan.Job, Message: fmt.Sprintf(
			"the clock says %s, but the newest backup is of %s: this one is recorded right after it; check the clock",
			at.Format(time.RFC3339), newest.Format(time.RFC3339))})
	}
	return newest.Add(time.Second), nil
}

func fill(ctx context.Context, draft *archive.Draft, plan Plan, observe holdfast.Observer) (Result, error) {
	var missed, missing []error // all, and those without which the backup is incomplete
	for _, src := range plan.Sources {
		observe(holdfast.Event{Kind: holdfast.EventPhase, Job: plan.Job, Backup: draft.Entry().ID, Source: src.Name, Message: "capture"})
		heard := &warnings{pass: observe}
		facts, err := capture(ctx, draft, plan, src, heard.observe)
		if ctx.Err() != nil {
			return Result{}, errors.Join(err, ctx.Err())
		}
		if err == nil {
			for _, note := range facts.Notes {
				if !heard.has(note) {
					observe(holdfast.Event{Kind: holdfast.EventWarning, Job: plan.Job, Source: src.Name, Message: note})
				}
			}
			draft.Keep(archive.SourceEntry{Name: src.Name, Kind: src.Kind, Secret: src.Secret}, facts)
			continue
		}
		if errors.Is(err, archive.ErrStore) {
			// No other source will fare better with a store that takes nothing.
			return Result{}, sourceError(src.Name, err)
		}
		why := "failed"
		if errors.Is(err, fs.ErrNotExist) {
			why = "absent"
		}
		observe(holdfast.Event{Kind: holdfast.EventWarning, Job: plan.Job, Source: src.Name, Message: "not in this backup: " + err.Error()})
		err = sourceError(src.Name, err)
		missed = append(missed, err)
		if !src.Optional || why == "failed" {
			missing = append(missing, err)
		}
		if err := draft.Miss(ctx, archive.MissingSource{Name: src.Name, Kind: src.Kind, Optional: src.Optional, Why: why}, err.Error()); err != nil {
			return Result{}, err
		}
	}
	if len(missed) == len(plan.Sources) {
		return Result{}, errors.Join(missed...)
	}
	observe(holdfast.Event{Kind: holdfast.EventPhase, Job: plan.Job, Backup: draft.Entry().ID, Message: "read back and commit"})
	entry, manifest, err := draft.Commit(ctx)
	if err != nil {
		return Result{}, err
	}
	return Result{Entry: entry, Manifest: manifest, Missing: missing}, nil
}

// warnings passes events on and remembers what was warned of: a note of the facts that was told already is not told again.
type warnings struct {
	pass holdfast.Observer

	mu    sync.Mutex // guards heard
	heard map[string]bool
}

func (w *warnings) observe(e holdfast.Event) {
	if e.Kind == holdfast.EventWarning {
		w.mu.Lock()
		if w.heard == nil {
			w.heard = map[string]bool{}
		}
		w.heard[e.Message] = true
		w.mu.Unlock()
	}
	w.pass(e)
}

func (w *warnings) has(message string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.heard[message]
}

// capture stores all items of one source. The first error decides; the capture is always closed.
func capture(ctx context.Context, draft *archive.Draft, plan Plan, src NamedSource, observe holdfast.Observer) (facts source.Facts, err error) {
	if src.Secret && !draft.Entry().Sealed {
		return source.Facts{}, holdfast.WithHint(fmt.Errorf("%w: it is secret, and this backup is not sealed", holdfast.ErrUsage), "give the job recipients, or leave the source out of it")
	}
	view, err := src.Source.Capture(ctx, func(e holdfast.Event) {
		e.Job, e.Source = plan.Job, src.Name
		observe(e)
	})
	if err != nil {
		return source.Facts{}, err
	}
	defer func() {
		if closeErr := view.Close(); err == nil {
			err = closeErr
		}
	}()
	for _, item := range view.Items() {
		stored, err := draft.Put(ctx, src.Name, item, func(n int64) {
			observe(holdfast.Event{Kind: holdfast.EventProgress, Job: plan.Job, Source: src.Name, Item: item.Name, Bytes: n, Total: item.Size})
		})
		if err != nil {
			return source.Facts{}, err
		}
		observe(holdfast.Event{
			Kind: holdfast.EventItem, Job: plan.Job, Source: src.Name, Item: stored.Object, Bytes: stored.PlainSize, Stored: stored.StoredSize,
			Seconds: stored.Seconds,
		})
	}
	return view.Facts(ctx)
}
