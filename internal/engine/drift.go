package engine

import (
	"context"

	"holdfast"
	"holdfast/internal/report"
	"holdfast/internal/source"
)

// Living finds the live source that stored is compared with, and says in words which one that is, without any secret. A nil
// Source is none.
type Living func(ctx context.Context, stored source.Stored) (live source.Source, where string, err error)

// Drift compares a stored source with a live one, which it reads in one view. It returns nil when there is no live one to
// compare with. That it could not be read stands in the result; the error is only of a run that was interrupted.
func Drift(ctx context.Context, stored source.Stored, living Living, observe holdfast.Observer) (*report.Live, error) {
	if living == nil {
		return nil, nil
	}
	observe = orQuiet(observe)
	live, where, err := living(ctx, stored)
	if err == nil && live == nil {
		return nil, nil
	}
	var now source.Facts
	if err == nil {
		observe(holdfast.Event{Kind: holdfast.EventPhase, Source: stored.Source, Message: "read the live source"})
		now, err = source.ReadFacts(ctx, live, func(e holdfast.Event) {
			e.Source = stored.Source
			observe(e)
		})
	}
	if ctx.Err() != nil {
		return nil, interrupted(ctx, ctx.Err())
	}
	if err != nil {
		return &report.Live{Where: where, Error: holdfast.Sentence(err), Hint: holdfast.Hint(err)}, nil
	}
	return report.NewLive(where, stored.Facts, now, shownRows), nil
}
