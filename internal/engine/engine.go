// Package engine holds the verbs as plain functions: Backup, Drill, Restore. Verifying stored bytes is archive's.
//
// It hides the order of steps and what happens when one fails. It has no state, logs nothing, knows no driver, no
// configuration and no time of day: those come as arguments. Its law: no verb reports success that it did not see.
package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast"
)

// Clock tells the time. Engine never asks the system.
type Clock func() time.Time

// interrupted turns a cancelled context into the error that a person sees. A cancelled run ends in errors of every
// kind, and none of them is the cause.
func interrupted(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil && errors.Is(context.Cause(ctx), holdfast.ErrInterrupted) {
		return holdfast.ErrInterrupted
	}
	return err
}

// quiet is the observer of those who gave none.
func quiet(holdfast.Event) {}

func orQuiet(observe holdfast.Observer) holdfast.Observer {
	if observe == nil {
		return quiet
	}
	return observe
}

func sourceError(name holdfast.SourceName, err error) error {
	return fmt.Errorf("source %s: %w", name, err)
}
