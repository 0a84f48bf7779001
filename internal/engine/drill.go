package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/report"
	"holdfast/internal/source"
)

// Assertion is a user's own check: a query whose first value must be true.
type Assertion struct {
	Source holdfast.SourceName
	Name   string
	Query  string
}

// DrillPlan is what a drill needs beside the backup.
type DrillPlan struct {
	// Place makes a throwaway for one source. An error that wraps holdfast.ErrCannotTest says what is missing.
	Place      func(ctx context.Context, stored source.Stored, observe holdfast.Observer) (source.Place, error)
	Assertions []Assertion
	Who        string
	Host       string
	Version    string
	Every      time.Duration // until the next one is due
	Opted      []string      // safety given up by explicit choice, for the report
	Clock      Clock
	// Living, when set, finds the live sources to compare with: how they drifted is shown and decides nothing.
	Living Living
}

// shownRows bounds the rows of one class that are alike in a report: 45,000 equal files tell no more than 1,000.
const shownRows = 1000

// Drill restores every source of b into a throwaway, compares it with what was recorded, and stores the signed verdict
// beside the backup. When the backup is not proven the error wraps holdfast.ErrDifference or holdfast.ErrCannotTest; when it is,
// there may still be one, of what could not be removed or kept. An interrupted drill has no verdict.
func Drill(ctx context.Context, repo *archive.Archive, b *archive.Backup, plan DrillPlan, observe holdfast.Observer) (report.Drill, error) {
	observe = orQuiet(observe)
	d := report.Drill{
		Who: plan.Who, Host: plan.Host, Version: plan.Version, Started: plan.Clock().UTC(), Opted: plan.Opted,
		Backup: describe(b),
	}
	err := rehearse(ctx, b, plan, &d, observe)
	if ctx.Err() != nil {
		return d, interrupted(ctx, errors.Join(ctx.Err(), err))
	}
	d.Finished = plan.Clock().UTC()
	d.Next = d.Started.Add(plan.Every)
	d.Verdict = verdict(&d, err)
	checklist(&d, b, err)

	if errors.Is(err, errSealed) {
		return d, err
	}
	details, encodeErr := json.Marshal(d)
	if encodeErr != nil {
		return d, fmt.Errorf("encode the report: %w", encodeErr)
	}
	failing, texts, compared := d.Differences()
	seconds := make(map[string]float64, len(d.Phases))
	for _, phase := range d.Phases {
		seconds[phase.Name] += phase.Elapsed.Seconds()
	}
	var putErr error
	if _, err := repo.PutProof(ctx, b, archive.Proof{
		Verdict: d.Verdict, Time: d.Finished, Host: d.Host, Who: d.Who, Version: d.Version,
		Facts: compared, Differences: failing, Texts: texts, Seconds: seconds,
	}, details); err != nil {
		putErr = fmt.Errorf("keep the verdict %q: %w", d.Verdict, err)
	}
	return d, errors.Join(outcome(&d, err), putErr)
}

// errSealed marks a drill that could not even read the facts: there is nothing to seal details to, or for.
var errSealed = errors.New("the facts cannot be opened")

// rehearse restores and compares source by source. What it learns stands in d; the error is only about the backup as a
// whole.
func rehearse(ctx context.Context, b *archive.Backup, plan DrillPlan, d *report.Drill, observe holdfast.Observer) error {
	began := plan.Clock()
	if err := b.Verify(ctx, holdfast.L0, nil); errors.Is(err, holdfast.ErrDifference) {
		return err
	} else if err != nil {
		return fmt.Errorf("%w: look at the stored objects: %w", holdfast.ErrCannotTest, err)
	}
	all, err := b.Stored(ctx)
	d.Phases = append(d.Phases, report.Phase{Name: "open", Elapsed: plan.Clock().Sub(began)})
	if errors.Is(err, holdfast.ErrDifference) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %w: %w", holdfast.ErrCannotTest, errSealed, err)
	}
	for _, stored := range all {
		live, err := Drift(ctx, stored, plan.Living, observe)
		if err != nil {
			return err
		}
		result := rehearseSource(ctx, stored, plan, d, observe)
		result.Live = live
		d.Sources = append(d.Sources, result)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	d.Sources = append(d.Sources, unheld(b, plan.Assertions)...)
	return nil
}

// unheld stands in for the sources that assertions ask about and the backup does not hold: a check that nobody could make
// must not look like one that passed.
func unheld(b *archive.Backup, assertions []Assertion) []report.Source {
	var all []report.Source
	for _, assertion := range assertions {
		if slices.ContainsFunc(b.Manifest.Sources, func(s archive.SourceEntry) bool { return s.Name == assertion.Source }) {
			continue
		}
		i := slices.IndexFunc(all, func(s report.Source) bool { return s.Name == assertion.Source })
		if i < 0 {
			i = len(all)
			all = append(all, report.Source{Name: assertion.Source, CannotTest: true, Error: "the backup does not hold this source, which an assertion asks about"})
			for _, missing := range b.Manifest.Missing {
				if missing.Name == assertion.Source {
					all[i].Kind = missing.Kind
				}
			}
		}
		all[i].Assertions = append(all[i].Assertions, report.Assertion{
			Name: assertion.Name, Query: assertion.Query, Result: report.Unknown, Detail: "its source is not in the backup",
		})
	}
	return all
}

func rehearseSource(ctx context.Context, stored source.Stored, plan DrillPlan, d *report.Drill, observe holdfast.Observer) report.Source {
	result := report.Source{
		Name: stored.Source, Kind: stored.Kind, Secret: stored.Secret,
		Exclusions: stored.Facts.Exclusions, Notes: stored.Facts.Notes, Properties: stored.Facts.Properties,
	}
	var faults readFaults
	err, closeErr := rehearsePlace(ctx, stored, plan, d, &result, observe, &faults)
	damage, away := faults.found()
	if err == nil {
		// A place that went on without all of an item has restored something else.
		err = cmp.Or(damage, away)
	}
	if err != nil {
		accused := damage != nil || errors.Is(err, holdfast.ErrDifference)
		result.Error = holdfast.Sentence(err)
		result.Damaged = damage != nil
		result.CannotTest = !accused && (away != nil || errors.Is(err, holdfast.ErrCannotTest))
		result.Hint = holdfast.Hint(err)
		unreached(&result, plan.Assertions)
	}
	if closeErr != nil {
		result.Leftover = closeErr.Error()
		result.Hint = cmp.Or(result.Hint, holdfast.Hint(closeErr))
	}
	return result
}

// unreached tells of the assertions that nobody got to evaluate, because the source was not restored.
func unreached(result *report.Source, assertions []Assertion) {
	for _, assertion := range assertions {
		line := report.Assertion{Name: assertion.Name, Query: assertion.Query, Result: report.Unknown, Detail: "the source was not restored"}
		if assertion.Source == result.Name {
			result.Assertions = append(result.Assertions, line)
		}
	}
}

// rehearsePlace restores one source and compares it. closeErr tells what the place could not remove: that accuses no backup.
func rehearsePlace(ctx context.Context, stored source.Stored, plan DrillPlan, d *report.Drill, result *report.Source, observe holdfast.Observer, faults *readFaults) (err, closeErr error) {
	timed := func(name string, step func() error) error {
		observe(holdfast.Event{Kind: holdfast.EventPhase, Source: stored.Source, Message: name})
		began := plan.Clock()
		err := step()
		d.Phases = append(d.Phases, report.Phase{Name: name + " " + string(stored.Source), Elapsed: plan.Clock().Sub(began)})
		return err
	}
	var place source.Place
	if err := timed("start", func() (err error) {
		place, err = plan.Place(ctx, stored, observe)
		return err
	}); err != nil {
		if !errors.Is(err, holdfast.ErrDifference) && !errors.Is(err, holdfast.ErrCannotTest) {
			// Nothing of the backup was restored yet.
			err = fmt.Errorf("%w: %w", holdfast.ErrCannotTest, err)
		}
		return err, nil
	}
	defer func() { closeErr = place.Close() }()
	result.Started = true

	if err := timed("restore", func() error { return place.Restore(ctx, watched(stored, observe, faults.add)) }); err != nil {
		return err, nil
	}
	var back source.Facts
	if err := timed("compare", func() (err error) {
		back, err = place.Check(ctx)
		return err
	}); err != nil {
		return err, nil
	}
	result.Compared = compared(stored.Facts.Facts)
	result.Notes = append(result.Notes, back.Notes...)
	result.Rows, result.Unshown = report.Rows(stored.Facts.Facts, back.Facts, shownRows)
	for _, difference := range source.Compare(stored.Facts.Facts, back.Facts) {
		if difference.Fails() {
			result.Differences = append(result.Differences, difference.String())
		} else {
			result.Texts = append(result.Texts, difference.String())
		}
	}
	for _, fact := range stored.Facts.Facts {
		if fact.Rule == source.Listed {
			result.Listed = append(result.Listed, fact.Class+" "+fact.Name+": "+fact.Text)
		}
	}
	assert(ctx, place, stored.Source, plan, result, timed)
	return nil, nil
}

// assert evaluates what the user asserts of one source.
func assert(ctx context.Context, place source.Place, name holdfast.SourceName, plan DrillPlan, result *report.Source, timed func(string, func() error) error) {
	for _, assertion := range plan.Assertions {
		if assertion.Source != name {
			continue
		}
		line := report.Assertion{Name: assertion.Name, Query: assertion.Query, Result: report.Passed}
		asserter, ok := place.(source.Asserter)
		if !ok {
			line.Result, line.Detail = report.Unknown, "this kind of source takes no assertions"
			result.Assertions = append(result.Assertions, line)
			continue
		}
		var holds bool
		err := timed("assert", func() (err error) {
			holds, err = asserter.Assert(ctx, assertion.Query)
			return err
		})
		switch {
		case errors.Is(err, holdfast.ErrCannotTest):
			line.Result, line.Detail = report.Unknown, err.Error()
		case err != nil:
			line.Result, line.Detail = report.Failed, err.Error()
		case !holds:
			line.Result, line.Detail = report.Failed, "the query's first value is not true"
		}
		result.Assertions = append(result.Assertions, line)
	}
}

func describe(b *archive.Backup) report.Backup {
	m := b.Manifest
	d := report.Backup{
		ID: m.ID, Job: m.Job, Host: m.Host, Time: m.Time, Reason: m.Reason, Complete: m.Complete, Stored: b.Entry.Size,
		Digest: b.Digest, Signer: b.Signer, SignerTrusted: b.Trusted,
	}
	for _, item := range m.Items {
		if item.Role == archive.RoleData {
			d.Plain += item.PlainSize
		}
	}
	for _, missing := range m.Missing {
		d.Missing = append(d.Missing, fmt.Sprintf("%s (%s, %s)", missing.Name, missing.Kind, missing.Why))
	}
	return d
}

// verdict derives the one word. A difference outweighs what could not be tested; what could not be tested outweighs what
// passed.
func verdict(d *report.Drill, err error) holdfast.Verdict {
	failed, unknown := false, len(d.Sources) == 0
	if err != nil {
		failed = !errors.Is(err, holdfast.ErrCannotTest)
		unknown = !failed
	}
	for _, src := range d.Sources {
		switch {
		case src.Failed():
			failed = true
		case src.CannotTest, src.Untested():
			unknown = true
		}
	}
	switch {
	case failed:
		return holdfast.Failed
	case unknown:
		return holdfast.CannotTest
	}
	return holdfast.Proven
}

// checklist fills the lines that a person ticks off, and the issues.
func checklist(d *report.Drill, b *archive.Backup, err error) {
	integrity := report.Check{Name: "integrity", Result: report.Passed, Detail: "signature, sizes of all objects, digests of all that was restored"}
	if !b.Trusted {
		integrity.Detail += "; signer not checked: " + b.Signer
	}
	if err != nil {
		integrity.Result, integrity.Detail = report.Failed, err.Error()
		if errors.Is(err, holdfast.ErrCannotTest) {
			integrity.Result = report.Unknown
		}
		d.Issues = append(d.Issues, err.Error())
	}
	for _, src := range d.Sources {
		if src.CannotTest && integrity.Result == report.Passed {
			integrity.Result, integrity.Detail = report.Unknown, string(src.Name)+" was not read to its end"
		}
		if src.Damaged {
			integrity.Result, integrity.Detail = report.Failed, string(src.Name)+": "+src.Error
		}
	}
	d.Checks = append(d.Checks, integrity,
		report.Gather("secrets", d.Sources, func(s report.Source) bool { return s.Secret }),
		report.Gather("config", d.Sources, func(s report.Source) bool { return s.Kind == holdfast.KindFiles && !s.Secret }),
		report.Gather("data", d.Sources, func(s report.Source) bool { return s.Kind != holdfast.KindFiles && !s.Secret }),
		report.GatherStart(d.Sources), report.GatherHealth(d.Sources), report.GatherAssertions(d.Sources))
	for _, missing := range d.Backup.Missing {
		d.Issues = append(d.Issues, "the backup does not hold source "+missing)
	}
	for _, src := range d.Sources {
		d.Issues = append(d.Issues, src.Issues()...)
	}
	d.Issues = append(d.Issues, d.Opted...)
}

// onlyAssertions reports whether all that failed is what the user asserts.
func onlyAssertions(d *report.Drill) bool {
	for _, src := range d.Sources {
		if src.Error != "" || len(src.Differences) > 0 {
			return false
		}
	}
	return true
}

// outcome turns a verdict into the error that decides the exit code.
func outcome(d *report.Drill, err error) error {
	if d.Verdict == holdfast.Proven {
		return errors.Join(leftovers(d), unread(d))
	}
	var lines []string
	hint := holdfast.Hint(err)
	if err != nil {
		lines = append(lines, err.Error())
	}
	for _, src := range d.Sources {
		lines = append(lines, src.Issues()...)
		if hint == "" {
			hint = src.Hint
		}
	}
	sentinel := holdfast.ErrDifference
	if d.Verdict == holdfast.CannotTest {
		sentinel = holdfast.ErrCannotTest
	} else if hint == "" && err == nil && onlyAssertions(d) {
		hint = "everything came back as it was stored; look at the data, or at the assertion"
	} else if hint == "" {
		hint = "do not rely on this backup: drill an older one (`holdfast list`), make a new one, and find out what changed the store"
	}
	return holdfast.WithHint(fmt.Errorf("%w: %s", sentinel, summary(lines, 10)), hint)
}

// leftovers is the error of a drill that proved its backup and could not remove what it had made.
func leftovers(d *report.Drill) error {
	var problems []error
	for _, src := range d.Sources {
		if src.Leftover != "" {
			problems = append(problems, holdfast.WithHint(sourceError(src.Name, errors.New(src.Leftover)), src.Hint))
		}
	}
	return errors.Join(problems...)
}

// unread is the error of a drill that proved its backup and could not compare it with what is live, as was asked for.
func unread(d *report.Drill) error {
	var problems []error
	for _, src := range d.Sources {
		if src.Live != nil && src.Live.Error != "" {
			problems = append(problems, holdfast.WithHint(sourceError(src.Name, fmt.Errorf("the backup is proven, but %s", src.Live)), src.Live.Hint))
		}
	}
	return errors.Join(problems...)
}
