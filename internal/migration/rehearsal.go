package migration

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"holdfast"
)

// Rehearse makes the dry run. A copy of the running server is made on the volume, a throwaway server runs on it behind the switch of a stand-in,
// facts and fixed queries are compared, and all of it goes back. The server and its directory are only read. Facts of what applications wrote
// meanwhile differ, and are told and no error; a missing database is one, and so are fixed queries that take too long. What it made is removed, also
// when it fails; if it died, by the next command. The rate that it measured is used by later plans. Errors wrap [ErrNoGo] as of [Migration.Run].
func (m Migration) Rehearse(ctx context.Context) (Report, error) {
	if m.w.Rehearsal == nil {
		return Report{}, holdfast.WithHint(fmt.Errorf("%w: there is nothing to rehearse with", holdfast.ErrUsage), "leave out --dry-run, or see what it needs")
	}
	s, _, err := m.load()
	if err != nil {
		return Report{}, err
	}
	r := &run{Migration: m, s: s}
	switch s.Course {
	case "", ended:
	case rehearsing:
		if err := r.clearRehearsal(ctx); err != nil {
			return r.report(), err
		}
	default:
		return r.report(), m.underWay(s)
	}
	plan, err := r.gate(ctx)
	if err != nil {
		return r.report(), err
	}
	r.s.Was, r.s.Course = r.s.Course, rehearsing
	if err := r.keep(); err != nil {
		return r.report(), err
	}
	report := Report{Volume: m.o.Volume, From: m.o.From, To: m.w.Rehearsal.Dir, Step: r.s.Done, Size: plan.Size}
	err = r.rehearse(ctx, &report)
	if clearErr := r.clearRehearsal(context.WithoutCancel(ctx)); clearErr != nil {
		err = errors.Join(err, fmt.Errorf("remove what the dry run made: %w", clearErr))
	}
	report.Rate = r.s.Rate
	return report, err
}

func (r *run) rehearse(ctx context.Context, report *Report) error {
	rehearsal := r.w.Rehearsal
	var then []Database
	for _, a := range []struct {
		text string
		do   func() error
	}{
		{"try both keys", func() error { return rehearsal.Slots(ctx) }},
		{"measure the fixed queries", func() (err error) { report.Before, err = r.probe(ctx, r.w.Probe); return err }},
		{"take the facts of every database", func() (err error) { then, err = r.w.Facts(ctx); return err }},
		{"copy the running server", func() error { return r.snapshot(ctx) }},
		{"switch a stand-in to the copy", func() error { return errors.Join(rehearsal.Make(ctx), rehearsal.Switch.To(ctx, Sealed)) }},
		{"start a throwaway server on the copy", func() error { return rehearsal.Start(ctx, rehearsal.Path) }},
		{"compare the facts", func() error { return r.rehearseFacts(ctx, then, report) }},
		{"measure the fixed queries on the copy", func() (err error) { report.After, err = r.probe(ctx, rehearsal.Probe); return err }},
		{"stop the throwaway server", func() error { return rehearsal.Stop(ctx) }},
		{"switch the stand-in back", func() error { return r.rehearseBack(ctx) }},
		{"look whether the server was left alone", func() error { return errors.Join(r.onSide(ctx, Old), r.w.Health(ctx)) }},
	} {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r.say(a.text)
		began := r.w.Now()
		if err := a.do(); err != nil {
			return fmt.Errorf("%s: %w", a.text, err)
		}
		report.Phases = append(report.Phases, Phase{Step(a.text), began, r.w.Now().Sub(began)})
	}
	if over := overhead(report.Before, report.After); r.o.slow(report.Before, report.After) {
		return fmt.Errorf("%w: the fixed queries take %s on the copy and %s on the old directory, %.0f %% more: the migration would roll back", holdfast.ErrDifference,
			report.After, report.Before, over*100)
	}
	return nil
}

func (r *run) snapshot(ctx context.Context) error {
	began := r.w.Now()
	done, err := r.w.Rehearsal.Snapshot(ctx, r.w.Rehearsal.Dir)
	if err == nil && done.Copied > 0 {
		r.s.Rate = rate(r.w.Now().Sub(began), done.Copied)
	}
	return err
}

func (r *run) rehearseFacts(ctx context.Context, then []Database, report *Report) error {
	now, err := r.w.Rehearsal.Facts(ctx)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, d := range now {
		there[d.Name] = true
	}
	var missing []string
	for _, d := range then {
		if !there[d.Name] {
			missing = append(missing, d.called())
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: the copy lacks: %s", holdfast.ErrDifference, strings.Join(missing, ", "))
	}
	lines, short := drifts(then, now)
	for _, line := range lines {
		r.warn(line)
	}
	if short != "" {
		report.Notes = append(report.Notes, "Applications were not shut out, so facts may differ: "+short+".")
	}
	return nil
}

func (r *run) rehearseBack(ctx context.Context) error {
	if err := r.w.Rehearsal.Switch.To(ctx, Old); err != nil {
		return err
	}
	place, err := r.w.Rehearsal.Switch.Where(ctx)
	if err == nil && place.Side != Old {
		err = fmt.Errorf("it leads to the %s directory", place.Side)
	}
	return err
}

// clearRehearsal removes what a rehearsal made, whatever that is.
func (r *run) clearRehearsal(ctx context.Context) error {
	rehearsal := r.w.Rehearsal
	if rehearsal == nil {
		return holdfast.WithHint(errors.New("a dry run died, and what it made is not removed"), "run the dry run again")
	}
	// A directory is not removed below a server that runs.
	if err := rehearsal.Stop(ctx); err != nil {
		return err
	}
	if err := errors.Join(rehearsal.Clear(ctx), r.w.Remove(ctx, rehearsal.Dir)); err != nil {
		return err
	}
	r.s.Course, r.s.Was = r.s.Was, ""
	return r.keep()
}
