package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"holdfast"
	"holdfast/internal/source"
)

// Target is one source of a backup and where it goes.
type Target struct {
	Stored source.Stored
	// Open makes the place. Nothing is changed by it at the final place.
	Open func(ctx context.Context) (source.Place, error)
	// Safety, when set, keeps what stands at the final place before it is overwritten. It runs after the restored data
	// was found good. An error of it stops the restore.
	Safety func(ctx context.Context) error
}

// selector is a place that was asked for part of the source only.
type selector interface {
	Selected(facts []source.Fact) []source.Fact
}

// Restored is what became of one target.
type Restored struct {
	Source  holdfast.SourceName
	Where   string   // one line
	Texts   []string // definitions whose text differs, for the reader
	Checked int      // facts compared
	Undo    string   // the command that gives what was overwritten its place back; "" when nothing was
}

// Restore brings targets back: all into staging, all compared with what was recorded, and only then all into place. A
// difference wraps holdfast.ErrDifference, and nothing at any final place has changed then.
func Restore(ctx context.Context, targets []Target, observe holdfast.Observer) ([]Restored, error) {
	observe = orQuiet(observe)
	var places []source.Place
	var closeErr error
	closeAll := func() {
		for _, place := range places {
			closeErr = errors.Join(closeErr, place.Close())
		}
	}
	restored, err := func() ([]Restored, error) {
		defer closeAll()
		var results []Restored
		for _, target := range targets {
			observe(holdfast.Event{Kind: holdfast.EventPhase, Source: target.Stored.Source, Message: "restore into staging"})
			place, err := target.Open(ctx)
			if err != nil {
				return nil, sourceError(target.Stored.Source, err)
			}
			places = append(places, place)
			result, err := bringBack(ctx, place, target.Stored, observe)
			if err != nil {
				return nil, sourceError(target.Stored.Source, err)
			}
			results = append(results, result)
		}
		for _, target := range targets {
			if target.Safety == nil {
				continue
			}
			observe(holdfast.Event{Kind: holdfast.EventPhase, Source: target.Stored.Source, Message: "keep a sealed copy of what is overwritten"})
			if err := target.Safety(ctx); err != nil {
				return nil, sourceError(target.Stored.Source, fmt.Errorf("keep a copy of what would be overwritten: %w", err))
			}
		}
		for i, place := range places {
			where, err := place.Commit(ctx)
			if err != nil {
				return results[:i], sourceError(results[i].Source, inPlace(err, results[:i]))
			}
			results[i].Where = where
			if kept, ok := place.(source.Reversible); ok {
				results[i].Undo = kept.Undo()
			}
		}
		return results, nil
	}()
	return restored, interrupted(ctx, errors.Join(err, closeErr))
}

func bringBack(ctx context.Context, place source.Place, stored source.Stored, observe holdfast.Observer) (Restored, error) {
	if err := place.Restore(ctx, watched(stored, observe, nil)); err != nil {
		return Restored{}, err
	}
	observe(holdfast.Event{Kind: holdfast.EventPhase, Source: stored.Source, Message: "compare with what was recorded"})
	back, err := place.Check(ctx)
	if err != nil {
		return Restored{}, err
	}
	for _, note := range back.Notes {
		observe(holdfast.Event{Kind: holdfast.EventWarning, Source: stored.Source, Message: note})
	}
	want := stored.Facts.Facts
	if s, ok := place.(selector); ok {
		want = s.Selected(want)
	}
	result := Restored{Source: stored.Source, Checked: compared(want)}
	var failing []string
	for _, difference := range source.Compare(want, back.Facts) {
		if difference.Fails() {
			failing = append(failing, difference.String())
		} else {
			result.Texts = append(result.Texts, difference.String())
		}
	}
	if len(failing) > 0 {
		return Restored{}, holdfast.WithHint(fmt.Errorf("%w: %s", holdfast.ErrDifference, summary(failing, 10)),
			"nothing at the target was changed; `holdfast verify` and an older backup come next")
	}
	return result, nil
}

// compared counts the facts that a comparison looks at.
func compared(facts []source.Fact) int {
	n := 0
	for _, fact := range facts {
		if fact.Rule != source.Listed {
			n++
		}
	}
	return n
}

// inPlace adds to the error of a commit what cannot be taken back any more.
func inPlace(err error, done []Restored) error {
	if len(done) == 0 {
		return err
	}
	var names []string
	for _, result := range done {
		names = append(names, string(result.Source))
	}
	return fmt.Errorf("%w (in place already: %s)", err, strings.Join(names, ", "))
}

// summary joins at most limit lines and tells how many more there are.
func summary(lines []string, limit int) string {
	if len(lines) <= limit {
		return strings.Join(lines, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(lines[:limit], "; "), len(lines)-limit)
}

// watched lets observe see the bytes that are read from the items of stored, and fault, when given, the errors.
func watched(stored source.Stored, observe holdfast.Observer, fault func(error)) source.Stored {
	if fault == nil {
		fault = func(error) {}
	}
	items := make([]source.StoredItem, len(stored.Items))
	for i, item := range stored.Items {
		items[i] = item
		items[i].Open = func(ctx context.Context) (io.ReadCloser, error) {
			r, err := item.Open(ctx)
			if err != nil {
				fault(err)
				return nil, err
			}
			return &watchedReader{ReadCloser: r, fault: fault, tell: func(n int64) {
				observe(holdfast.Event{Kind: holdfast.EventProgress, Source: stored.Source, Item: item.Name, Bytes: n, Total: item.Size})
			}}, nil
		}
	}
	stored.Items = items
	return stored
}
