package migration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast"
)

// run is one command's work on a migration.
type run struct {
	Migration
	s    state
	lost []string // for the user alone: names of tables
}

func (r *run) warn(text string) {
	r.o.Observe(holdfast.Event{Kind: holdfast.EventWarning, Message: text})
}

func (r *run) say(text string) { r.o.Observe(holdfast.Event{Kind: holdfast.EventPhase, Message: text}) }

func (r *run) keep() error { return r.save(r.s) }

// Run plans, moves, and compares. Errors wrap [ErrNoGo], which changed nothing, or [ErrRolledBack]; others leave the migration to be resumed or
// rolled back.
func (m Migration) Run(ctx context.Context) (Report, error) {
	s, _, err := m.load()
	if err != nil {
		return Report{}, err
	}
	r := &run{Migration: m, s: s}
	if s.Course != "" && s.Course != ended && s.Course != rehearsing {
		return r.report(), m.underWay(s)
	}
	if s.Course == rehearsing {
		if err := r.clearRehearsal(ctx); err != nil {
			return r.report(), err
		}
	}
	plan, err := r.gate(ctx)
	if err != nil {
		return r.report(), err
	}
	r.s = state{Version: stateVersion, Volume: m.o.Volume, From: m.o.From, To: m.o.To, Course: moving, Done: Planned,
		Ours: true, Size: plan.Size, Rate: s.Rate, Proof: plan.Proof, Entries: s.Entries}
	if err := r.keep(); err != nil {
		return r.report(), err
	}
	return r.forward(ctx)
}

func (m Migration) underWay(s state) error {
	if s.Course == moving && s.Done == Watched {
		return holdfast.WithHint(fmt.Errorf("%w: the directory was moved already, and the old one is kept", holdfast.ErrUsage), "run: holdfast volume migrate finish, or rollback")
	}
	return holdfast.WithHint(fmt.Errorf("%w: a migration to %s is under way", holdfast.ErrUsage, m.o.Volume), "run: holdfast volume migrate resume, or rollback")
}

// action is a step, with what does it.
type action struct {
	step Step
	text string
	do   func(ctx context.Context) error
}

func (r *run) actions() []action {
	return []action{
		{Copied, "copy while the server runs", r.copyOnline},
		{Closed, "shut applications out", r.shutOut},
		{FactsTaken, "take the facts of every database", r.takeFacts},
		{Stopped, "stop the server", r.stop},
		{FinalCopied, "copy what changed, and compare both sides", r.copyStill},
		{Verified, "compare the control data of both sides", r.verify},
		{Switched, "switch to the volume", r.switchOver},
		{Started, "start the server on the volume", r.start},
		{Healthy, "ask whether the server is healthy", r.health},
		{Compared, "take the facts again, and compare", r.compare},
		{Watched, "let applications in", r.letIn},
	}
}

// forward takes the steps that are left. What fails while applications are shut out goes back.
func (r *run) forward(ctx context.Context) (Report, error) {
	err := r.steps(ctx)
	switch {
	case err == nil:
		return r.report(), r.record(ctx)
	case r.s.shut():
		return r.rollback(ctx, err)
	case r.s.passed(Watched):
		return r.report(), holdfast.WithHint(fmt.Errorf("applications may not have been let in, or only some: %w", err), "run: holdfast volume migrate resume")
	}
	return r.report(), retry(fmt.Errorf("%w; the server was not touched", err), "run: holdfast volume migrate resume, which copies again what is not there, or rollback, which gives up")
}

// retry keeps the hint of what went wrong, if it has one.
func retry(err error, hint string) error {
	if holdfast.Hint(err) != "" {
		return err
	}
	return holdfast.WithHint(err, hint)
}

func (r *run) steps(ctx context.Context) error {
	for _, a := range r.actions() {
		if order(a.step) <= order(r.s.Done) {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := r.take(ctx, a); err != nil {
			return fmt.Errorf("%s: %w", a.text, err)
		}
	}
	return nil
}

// take writes down that a step begins, takes it, and writes down that it ended.
func (r *run) take(ctx context.Context, a action) error {
	before := r.s.Doing
	r.s.Doing = a.step
	if err := r.keep(); err != nil {
		r.s.Doing = before // it did not begin
		return err
	}
	r.say(a.text)
	began := r.w.Now()
	if err := a.do(ctx); err != nil {
		return err
	}
	r.s.Phases = append(r.s.Phases, Phase{a.step, began, r.w.Now().Sub(began)})
	r.s.Done, r.s.Doing = a.step, ""
	return r.keep()
}

func (r *run) copyOnline(ctx context.Context) error {
	began := r.w.Now()
	done, err := r.copy(ctx, false)
	if err != nil {
		return err
	}
	// Of a pass that only completes an earlier one the time says nothing.
	if took := r.w.Now().Sub(began); done.Copied > 0 && done.Copied >= done.Bytes*9/10 {
		r.s.Rate = rate(took, done.Copied)
	}
	if done.Changed > 0 {
		r.s.Notes = append(r.s.Notes, fmt.Sprintf("%s changed while the first copy was made; the final copy takes them.", count(done.Changed, "file")))
	}
	return nil
}

func rate(took time.Duration, bytes int64) time.Duration {
	return time.Duration(float64(took) / (float64(bytes) / 1e9))
}

func (r *run) copy(ctx context.Context, still bool) (Copying, error) {
	place, err := r.w.Switch.Where(ctx)
	if err != nil {
		return Copying{}, err
	}
	if place.Side != Old {
		return Copying{}, fmt.Errorf("the server has another directory than %s already", r.o.From)
	}
	return r.w.Copy(ctx, Copy{From: place.Old, To: r.o.To, Still: still, Observe: func(done, total int64) {
		r.o.Observe(holdfast.Event{Kind: holdfast.EventProgress, Bytes: done, Total: total})
	}})
}

func (r *run) shutOut(ctx context.Context) error {
	if r.s.Closed.IsZero() {
		r.s.Closed = r.w.Now()
	}
	return r.w.CloseConnections(ctx)
}

func (r *run) takeFacts(ctx context.Context) error {
	facts, err := r.w.Facts(ctx)
	if err != nil {
		return err
	}
	if r.s.Facts, err = r.keepFacts(facts); err != nil {
		return err
	}
	r.s.Before, err = r.probe(ctx, r.w.Probe)
	return err
}

// probe measures the fixed queries: the shortest time of some runs is what the disk and the machine cannot do without.
func (r *run) probe(ctx context.Context, once func(context.Context) (time.Duration, error)) (time.Duration, error) {
	var all []time.Duration
	for range r.o.Runs {
		took, err := once(ctx)
		if err != nil {
			return 0, fmt.Errorf("measure the fixed queries: %w", err)
		}
		all = append(all, took)
	}
	return slices.Min(all), nil
}

func (r *run) stop(ctx context.Context) error {
	if err := r.w.Checkpoint(ctx); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if err := r.w.Stop(ctx, r.o.Grace); err != nil {
		return err
	}
	place, serving, err := r.where(ctx)
	if err != nil {
		return err
	}
	if serving != None {
		return errors.New("it was stopped, and runs")
	}
	control, err := r.w.ControlData(ctx, place.Old)
	if err != nil {
		return err
	}
	if control.State != shutDown {
		return fmt.Errorf("%w: the control data says %q, not %q: it was no clean stop", holdfast.ErrDifference, control.State, shutDown)
	}
	r.s.Stopped = control
	return nil
}

func (r *run) copyStill(ctx context.Context) error {
	_, err := r.copy(ctx, true)
	return err
}

func (r *run) verify(ctx context.Context) error {
	if err := r.untouched(ctx); err != nil {
		return err
	}
	control, err := r.w.ControlData(ctx, r.o.To)
	if err != nil {
		return err
	}
	if control != r.s.Stopped {
		return fmt.Errorf("%w: the copy's control data is not that of the old directory", holdfast.ErrDifference)
	}
	return nil
}

// untouched is nil if nobody started a server on the old directory since it was stopped.
func (r *run) untouched(ctx context.Context) error {
	place, serving, err := r.where(ctx)
	if err != nil {
		return err
	}
	if serving == Old {
		return errors.New("the server runs on the old directory again")
	}
	control, err := r.w.ControlData(ctx, place.Old)
	if err != nil {
		return err
	}
	if control != r.s.Stopped {
		return fmt.Errorf("%w: a server ran on the old directory since it was stopped", holdfast.ErrDifference)
	}
	return nil
}

func (r *run) switchOver(ctx context.Context) error {
	place, serving, err := r.where(ctx)
	if err != nil {
		return err
	}
	if serving == Sealed && place.Side == Sealed {
		return nil // the last run died after the switch, and something started the server
	}
	if serving != None {
		return errors.New("the server runs")
	}
	return r.w.Switch.To(ctx, Sealed)
}

func (r *run) start(ctx context.Context) error { return r.ensure(ctx, Sealed) }

// ensure starts the server if it does not run, and refuses any other side than the given one.
func (r *run) ensure(ctx context.Context, side Side) error {
	place, serving, err := r.where(ctx)
	if err != nil {
		return err
	}
	if serving == None {
		if place.Side != side {
			return fmt.Errorf("a start would bring up the %s directory", place.Side)
		}
		if err := r.w.Start(ctx); err != nil {
			return err
		}
	}
	return r.onSide(ctx, side)
}

func (r *run) onSide(ctx context.Context, side Side) error {
	_, serving, err := r.where(ctx)
	switch {
	case err != nil:
		return err
	case serving == None:
		return fmt.Errorf("the server does not run on the %s directory", side)
	case serving != side:
		return fmt.Errorf("the server runs on the %s directory, not on the %s one", serving, side)
	}
	return nil
}

// where says what the server gets when it starts, and what it runs on.
func (r *run) where(ctx context.Context) (Place, Side, error) {
	place, err := r.w.Switch.Where(ctx)
	if err != nil {
		return Place{}, None, err
	}
	dirs := map[Side]string{Old: place.Old, Sealed: r.o.To, Restored: place.Restored}
	serving, err := r.w.Serving(ctx, dirs)
	return place, serving, err
}

func (r *run) health(ctx context.Context) error {
	if err := r.w.Health(ctx); err != nil {
		return err
	}
	r.s.Downtime = r.w.Now().Sub(r.s.Closed)
	return nil
}

func (r *run) compare(ctx context.Context) error {
	then, err := r.readFacts(r.s.Facts)
	if err != nil {
		return err
	}
	if err := r.compareFacts(ctx, then); err != nil {
		return err
	}
	if r.s.After, err = r.probe(ctx, r.w.Probe); err != nil {
		return err
	}
	if r.o.slow(r.s.Before, r.s.After) {
		again, err := r.probe(ctx, r.w.Probe)
		if err != nil {
			return err
		}
		r.s.After = min(r.s.After, again)
	}
	if over := overhead(r.s.Before, r.s.After); r.o.slow(r.s.Before, r.s.After) {
		return fmt.Errorf("%w: the fixed queries take %s on the volume and %s on the old directory, %.0f %% more; %.0f %% are allowed", holdfast.ErrDifference,
			r.s.After, r.s.Before, over*100, r.o.Overhead*100)
	}
	return nil
}

// leastSlower is what the fixed queries may take longer in any case: on a small database they are over in less, and what a machine does
// besides is more than what is measured.
const leastSlower = 50 * time.Millisecond

// slow reports whether the fixed queries take longer than they may.
func (o Options) slow(before, after time.Duration) bool {
	return after-before > leastSlower && overhead(before, after) > o.Overhead
}

// overhead is by how much after is longer, as a fraction.
func overhead(before, after time.Duration) float64 {
	if before <= 0 {
		return 0
	}
	return float64(after)/float64(before) - 1
}

func (r *run) letIn(ctx context.Context) error {
	if err := r.ensure(ctx, Sealed); err != nil {
		return err
	}
	if err := r.w.OpenConnections(ctx); err != nil {
		return err
	}
	r.opened()
	r.due(Entry{Kind: EntryMigrated, Good: true, Backup: r.s.Proof.Backup, Took: r.s.ShutOut,
		Text: fmt.Sprintf("%s was moved to %s; facts and control data are equal; the old directory is kept", r.o.From, r.o.To)})
	return nil
}

// opened notes that applications were let in.
func (r *run) opened() {
	r.s.Opened = r.w.Now()
	r.s.ShutOut = r.s.Opened.Sub(r.s.Closed)
}

// due adds an entry that the audit trail is to get.
func (r *run) due(e Entry) { r.s.Entries = append(slices.Clip(r.s.Entries), e) }

// record writes what is due in the audit trail. Until that is done it stays in the state file, also over later commands.
func (r *run) record(ctx context.Context) error {
	for len(r.s.Entries) > 0 {
		if err := r.w.Record(ctx, r.s.Entries[0]); err != nil {
			return holdfast.WithHint(fmt.Errorf("all was done, but it is not in the audit trail: %w", err), "run: holdfast volume migrate resume")
		}
		r.s.Entries = r.s.Entries[1:]
		if err := r.keep(); err != nil {
			return err
		}
	}
	return nil
}
