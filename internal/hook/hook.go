// Package hook runs what a job wants run around a backup or a restore: programs before and after it, and checks of
// health at its end.
//
// It hides processes and their groups, time limits, the filter that keeps secrets out of what is shown, requests, and
// the order of it all. Its laws: the first failing step before a run keeps it from beginning; every step after a run is
// run, once, whatever happened and whatever signal came; what a program prints is masked before it is cut; nothing waits
// for a program that was left running in the background; no shell is involved, and a program that others could change is
// refused.
//
// It is not its job to know what a backup is, or where it is remembered that steps after a run are still due: both are
// handed to it.
package hook

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"holdfast"
)

// Step is one thing to be done: a [Command], or for health a [Page].
type Step interface {
	fmt.Stringer
	// Check tells what would keep the step from being done, without doing it.
	Check() error

	do(ctx context.Context, w world) (said []string, err error)
}

var (
	_ Step = Command{}
	_ Step = Page{}
)

// world is what all steps of a round share.
type world struct {
	mask *Mask
	env  []string
	warn func(message string)
}

// Verb is what steps stand around.
type Verb string

// The verbs.
const (
	Backup  Verb = "backup"
	Restore Verb = "restore"
)

// Result says to a step how the run went that it comes after.
type Result string

// The results.
const (
	Good        Result = "good"
	Failed      Result = "failed"
	Incomplete  Result = "incomplete"
	Interrupted Result = "interrupted"
)

// The variables that tell a step what it is about.
const (
	EnvHook     = "HOLDFAST_HOOK"      // backup.before, restore.after, …
	EnvJob      = "HOLDFAST_JOB"       // the job
	EnvResult   = "HOLDFAST_RESULT"    // after a run: a Result
	EnvBackupID = "HOLDFAST_BACKUP_ID" // the backup that was committed, or is restored; not set when there is none
)

// ErrInPlace marks a failure of steps that come after a restore was done: the restored data is in place.
var ErrInPlace = errors.New("the restored data is in place")

// Round is the steps around one run.
type Round struct {
	Verb   Verb
	Job    holdfast.JobName
	Before []Step // in order, until one fails
	After  []Step // in order, all of them
	Health []Step // in order, until one fails; only after a good run, and when no step after it failed

	// Mask is what no output of a step may hold.
	Mask *Mask
	// Begun is called before the first step, and Ended when none is due any more. Both may be nil.
	Begun, Ended func() error
}

// Around runs the steps before, then run, then the steps after, and at last the checks of health. backup is the one that is
// restored, or "" ; run returns the backup that it committed, or "".
//
// When a step cannot be done at all, nothing is. When a step before run fails, run is not called. The steps after it are called in any case. When only they fail, the
// error says what became of the run; a failed check of health and a failed step after a restore wrap [ErrInPlace].
func (r Round) Around(ctx context.Context, backup holdfast.BackupID, observe holdfast.Observer, run func(context.Context) (holdfast.BackupID, error)) error {
	if err := r.check(); err != nil {
		return fmt.Errorf("%w; the %s was not begun", err, r.Verb)
	}
	if r.Begun != nil {
		if err := r.Begun(); err != nil {
			return err
		}
	}
	err := r.before(ctx, backup, observe)
	if err == nil {
		backup, err = run(ctx)
	}
	result := resultOf(ctx, err)
	afterErr := r.after(ctx, backup, result, observe)
	if r.Ended != nil {
		if endErr := r.Ended(); endErr != nil {
			return errors.Join(err, afterErr, endErr)
		}
	}
	switch {
	case afterErr != nil:
		return r.both(err, afterErr, backup)
	case err != nil:
		return err
	}
	return r.health(ctx, backup, observe)
}

// check refuses a run whose steps cannot be done, before one of them stops what another one could not start. What comes after
// a restore may come out of it.
func (r Round) check() error {
	after := r.After
	if r.Verb == Restore {
		after = nil
	}
	for _, list := range []struct {
		when  string
		steps []Step
	}{{"before", r.Before}, {"after", after}} {
		for i, step := range list.steps {
			if err := step.Check(); err != nil {
				return fmt.Errorf("%s cannot be run: %w", r.name(list.when, i, step), err)
			}
		}
	}
	return nil
}

func (r Round) name(when string, i int, step Step) string {
	return fmt.Sprintf("hook %s.%s[%d] (%s)", r.Verb, when, i, r.Mask.Text(printable(step.String())))
}

// CatchUp runs the steps after a run that was killed before it could run them. What fails is only told: the run that
// comes now ends with the same steps.
func (r Round) CatchUp(ctx context.Context, backup holdfast.BackupID, observe holdfast.Observer) error {
	// Told by warnings already.
	_ = r.after(ctx, backup, Interrupted, observe)
	if r.Ended != nil {
		return r.Ended()
	}
	return nil
}

func resultOf(ctx context.Context, err error) Result {
	switch {
	case err == nil:
		return Good
	case errors.Is(err, holdfast.ErrInterrupted), ctx.Err() != nil:
		return Interrupted
	case errors.Is(err, holdfast.ErrIncomplete):
		return Incomplete
	}
	return Failed
}

// both makes one error of what became of the run and of what failed after it. A failed hook is no detail of an incomplete
// backup: the application may be down.
func (r Round) both(err, afterErr error, backup holdfast.BackupID) error {
	switch {
	case err == nil && r.Verb == Restore:
		return fmt.Errorf("%w, but %w", ErrInPlace, afterErr)
	case err == nil:
		return fmt.Errorf("backup %s is committed and stays good, but %w", backup, afterErr)
	case errors.Is(err, holdfast.ErrIncomplete):
		return fmt.Errorf("backup %s is committed (%v), but %w", backup, err, afterErr)
	}
	return fmt.Errorf("%w; and %w", err, afterErr)
}

func (r Round) before(ctx context.Context, backup holdfast.BackupID, observe holdfast.Observer) error {
	for i, step := range r.Before {
		if err := r.step(ctx, "before", i, step, r.world(backup, "before", "", observe), observe); err != nil {
			return fmt.Errorf("%w; the %s was not begun", err, r.Verb)
		}
	}
	return nil
}

// after is not cut short by what ended the run: each step has its own time.
func (r Round) after(ctx context.Context, backup holdfast.BackupID, result Result, observe holdfast.Observer) error {
	ctx = context.WithoutCancel(ctx)
	var failed []string
	var hint string
	for i, step := range r.After {
		if err := r.step(ctx, "after", i, step, r.world(backup, "after", result, observe), observe); err != nil {
			failed = append(failed, err.Error())
			if hint == "" {
				hint = holdfast.Hint(err)
			}
			if result == Interrupted {
				// A run that was interrupted ends with that word alone.
				observe(holdfast.Event{Kind: holdfast.EventWarning, Job: r.Job, Message: err.Error()})
			}
		}
	}
	if len(failed) == 0 {
		return nil
	}
	if hint == "" {
		hint = "see whether the application runs"
	}
	return holdfast.WithHint(errors.New(strings.Join(failed, "; ")), hint)
}

func (r Round) health(ctx context.Context, backup holdfast.BackupID, observe holdfast.Observer) error {
	for i, step := range r.Health {
		if err := r.step(ctx, "health", i, step, r.world(backup, "health", Good, observe), observe); err != nil {
			if errors.Is(err, holdfast.ErrInterrupted) {
				return err
			}
			return fmt.Errorf("%w, but it is not healthy: %w", ErrInPlace, err)
		}
	}
	return nil
}

func (r Round) world(backup holdfast.BackupID, when string, result Result, observe holdfast.Observer) world {
	env := []string{EnvHook + "=" + string(r.Verb) + "." + when, EnvJob + "=" + string(r.Job)}
	if result != "" {
		env = append(env, EnvResult+"="+string(result))
	}
	if backup != "" {
		env = append(env, EnvBackupID+"="+string(backup))
	}
	return world{mask: r.Mask, env: env, warn: func(message string) {
		observe(holdfast.Event{Kind: holdfast.EventWarning, Job: r.Job, Message: r.Mask.Text(message)})
	}}
}

// step does one step, tells what it printed, and says in its error which one it was.
func (r Round) step(ctx context.Context, when string, i int, step Step, w world, observe holdfast.Observer) error {
	name := r.name(when, i, step)
	observe(holdfast.Event{Kind: holdfast.EventPhase, Job: r.Job, Message: name})
	said, err := step.do(ctx, w)
	text := strings.Join(said, "\n  ")
	switch {
	case err != nil && text != "":
		observe(holdfast.Event{Kind: holdfast.EventWarning, Job: r.Job, Message: name + " printed:\n  " + text})
	case text != "":
		observe(holdfast.Event{Kind: holdfast.EventOutput, Job: r.Job, Message: name + " printed:\n  " + text})
	}
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s %w", name, err)
	if len(said) > 0 && !errors.Is(err, holdfast.ErrInterrupted) {
		err = fmt.Errorf("%w: %q", err, last(said[len(said)-1]))
	}
	return err
}

// last cuts a line to what a sentence can hold.
func last(line string) string {
	const limit = 200
	runes := []rune(line)
	if len(runes) > limit {
		return "…" + string(runes[len(runes)-limit:])
	}
	return line
}
