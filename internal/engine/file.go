package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/report"
	"holdfast/internal/seal"
	"holdfast/internal/source"
)

// FileSource names what a file of another tool holds, where a source is to be named.
const FileSource holdfast.SourceName = "file"

// File is a backup file of another tool that was read to its end.
type File struct {
	// Stored is its content, and as facts what it says of itself: rows of tables, entries, the digest of an image.
	Stored source.Stored
	// Uncounted are tables whose rows the file does not tell.
	Uncounted []string
	// Notes are remarks for a person.
	Notes []string
	// Unopened are dumps of databases among its files, by name: they come out as files and are restored by nobody.
	Unopened []string
}

// FilePlan is what a drill of a file needs.
type FilePlan struct {
	// About is what is known before the file was read; Read adds to it.
	About *report.File
	// Read reads the file to its end. Nothing of it has run before.
	Read func(ctx context.Context) (File, error)
	// Place makes a throwaway for what was read.
	Place      func(ctx context.Context, observe holdfast.Observer) (source.Place, error)
	Living     Living
	Assertions []Assertion // their source is FileSource
	Who        string
	Host       string
	Version    string
	Every      time.Duration
	Opted      []string
	Clock      Clock
}

// DrillFile reads a file to its end, restores it into a throwaway, and compares what came out with what the file says of
// itself. The verdict is [holdfast.Restores], failed or cannot-test; where it is not the first the error wraps
// holdfast.ErrDifference or holdfast.ErrCannotTest. An interrupted drill has none.
func DrillFile(ctx context.Context, plan FilePlan, observe holdfast.Observer) (report.Drill, error) {
	observe = orQuiet(observe)
	d := report.Drill{Who: plan.Who, Host: plan.Host, Version: plan.Version, Started: plan.Clock().UTC(), Opted: plan.Opted, File: plan.About}
	src := report.Source{Name: FileSource, Told: true}
	err := rehearseFile(ctx, plan, &d, &src, observe)
	if ctx.Err() != nil {
		return d, interrupted(ctx, errors.Join(ctx.Err(), err))
	}
	if err != nil {
		src.Error, src.Hint = holdfast.Sentence(err), holdfast.Hint(err)
		src.CannotTest = untestable(err)
		unreached(&src, plan.Assertions)
	}
	d.Sources = []report.Source{src}
	d.Finished, d.Next = plan.Clock().UTC(), d.Started.Add(plan.Every)
	d.Verdict = holdfast.Restores
	switch {
	case src.Failed():
		d.Verdict = holdfast.Failed
	case src.CannotTest, src.Untested():
		d.Verdict = holdfast.CannotTest
	}
	fileChecklist(&d, src, err)
	return d, fileOutcome(&d, src)
}

// untestable tells what is missing to find out from what is wrong with the file. A key that is not there, and what nobody
// vouches for, accuse it of nothing.
func untestable(err error) bool {
	if errors.Is(err, holdfast.ErrDifference) {
		return false
	}
	return errors.Is(err, holdfast.ErrCannotTest) || errors.Is(err, holdfast.ErrUsage) || errors.Is(err, seal.ErrNoIdentity) || errors.Is(err, seal.ErrUnsupported)
}

func rehearseFile(ctx context.Context, plan FilePlan, d *report.Drill, src *report.Source, observe holdfast.Observer) (err error) {
	timed := func(name string, step func() error) error {
		observe(holdfast.Event{Kind: holdfast.EventPhase, Source: FileSource, Message: name})
		began := plan.Clock()
		err := step()
		d.Phases = append(d.Phases, report.Phase{Name: name, Elapsed: plan.Clock().Sub(began)})
		return err
	}
	var file File
	if err := timed("read to the end", func() (err error) {
		file, err = plan.Read(ctx)
		return err
	}); err != nil {
		return err
	}
	src.Kind = file.Stored.Kind
	src.Notes = append(src.Notes, file.Notes...)
	var place source.Place
	if err := timed("start", func() (err error) {
		place, err = plan.Place(ctx, observe)
		return err
	}); err != nil {
		if !errors.Is(err, holdfast.ErrDifference) && !errors.Is(err, holdfast.ErrCannotTest) {
			err = fmt.Errorf("%w: %w", holdfast.ErrCannotTest, err) // nothing was restored yet
		}
		return err
	}
	defer func() {
		if closeErr := place.Close(); closeErr != nil {
			src.Leftover, src.Hint = closeErr.Error(), cmp.Or(src.Hint, holdfast.Hint(closeErr))
		}
	}()
	src.Started = true
	if err := timed("restore", func() error { return place.Restore(ctx, watched(file.Stored, observe, nil)) }); err != nil {
		return err
	}
	var back source.Facts
	if err := timed("read back", func() (err error) {
		back, err = place.Check(ctx)
		return err
	}); err != nil {
		return err
	}
	told(file, back, src)
	src.Notes = append(src.Notes, back.Notes...)
	src.Properties = back.Properties
	d.File.Holds = holds(file, back)
	assert(ctx, place, FileSource, DrillPlan{Assertions: plan.Assertions, Clock: plan.Clock}, src, timed)
	if plan.Living != nil {
		src.Live, err = Drift(ctx, source.Stored{Source: FileSource, Kind: file.Stored.Kind, Facts: narrow(back)}, narrowed(plan.Living), observe)
	}
	return err
}

// told compares what came out of a file with what the file says of itself, and fills the report.
func told(file File, back source.Facts, src *report.Source) {
	for _, name := range file.Unopened {
		src.Notes = append(src.Notes, fmt.Sprintf("it holds a dump made by pg_dump -Fd (%s), which was not restored: unpack it and drill the folder", name))
	}
	if file.Stored.Kind != holdfast.KindPostgres {
		src.Compared = compared(file.Stored.Facts.Facts)
		src.Rows, src.Unshown = report.Rows(file.Stored.Facts.Facts, back.Facts, shownRows)
		for _, difference := range source.Compare(file.Stored.Facts.Facts, only(back.Facts, classesOf(file.Stored.Facts.Facts))) {
			src.Differences = append(src.Differences, difference.String())
		}
		for _, fact := range back.Facts {
			if file.Stored.Kind == holdfast.KindSQLite && fact.Class == "table" {
				src.Rows = append(src.Rows, report.Row{Class: fact.Class, Name: fact.Name, Restored: fact.Rows, Unit: "rows", Same: true, Untold: true})
			}
		}
		return
	}
	inFile := map[string]source.Fact{}
	for _, fact := range file.Stored.Facts.Facts {
		inFile[fact.Name] = fact
	}
	for _, fact := range back.Facts {
		if before, counted := inFile[fact.Name]; fact.Class == toldTable && (fact.Rule == source.Listed || !counted) {
			delete(inFile, fact.Name)
			src.Notes = append(src.Notes, missing(fact, before, counted))
		}
	}
	for _, fact := range back.Facts {
		row := report.Row{Class: fact.Class, Name: fact.Name, Same: true, Untold: true}
		switch fact.Class {
		case "table", toldTable:
			before, counted := inFile[fact.Name]
			if fact.Class == toldTable && !counted {
				continue // told above
			}
			row.Class, row.Restored, row.Unit = "table", fact.Rows, "rows"
			if counted {
				delete(inFile, fact.Name)
				src.Compared++
				row.Stored, row.Untold = before.Rows, false
				if row.Same = before.Rows == fact.Rows; !row.Same {
					src.Differences = append(src.Differences, fmt.Sprintf("table %s: %d rows in the file, %d restored", fact.Name, before.Rows, fact.Rows))
				}
			}
		case "large object":
			row.Restored, row.Unit = fact.Bytes, "bytes"
		default:
			continue
		}
		src.Rows = append(src.Rows, row)
	}
	for _, name := range sortedNames(inFile) {
		rows := inFile[name].Rows
		if rows == 0 {
			src.Notes = append(src.Notes, fmt.Sprintf("table %s has no rows in the file, and none of that name came out", name))
			continue
		}
		src.Compared++
		src.Differences = append(src.Differences, fmt.Sprintf("table %s: %d rows in the file, and no table of that name came out", name, rows))
		src.Rows = append(src.Rows, report.Row{Class: "table", Name: name, Stored: rows, Unit: "rows"})
	}
	if len(file.Uncounted) > 0 {
		src.Notes = append(src.Notes, "the file does not tell how many rows it holds for "+summary(file.Uncounted, 10))
	}
}

// toldTable is the class by which a place tells of a table of the file that did not come back by its name: how many rows were
// found under the rule [source.Exact], or under [source.Listed] why they cannot be counted, as the rest of a sentence.
const toldTable = "table of the file"

// missing tells of a table that nobody can count.
func missing(fact, before source.Fact, counted bool) string {
	if !counted {
		return fmt.Sprintf("table %s is filled by the file, %s", fact.Name, fact.Text)
	}
	return fmt.Sprintf("table %s has %s in the file, %s", fact.Name, plural(before.Rows, "row"), fact.Text)
}

func sortedNames(facts map[string]source.Fact) []string {
	var names []string
	for name := range facts {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func classesOf(facts []source.Fact) []string {
	var classes []string
	for _, fact := range facts {
		if !slices.Contains(classes, fact.Class) {
			classes = append(classes, fact.Class)
		}
	}
	return classes
}

func only(facts []source.Fact, classes []string) []source.Fact {
	return slices.DeleteFunc(slices.Clone(facts), func(fact source.Fact) bool { return !slices.Contains(classes, fact.Class) })
}

// holds counts what came out of a file, for a person.
func holds(file File, back source.Facts) string {
	var rows, bytes int64
	counts := map[string]int{}
	for _, fact := range back.Facts {
		counts[fact.Class]++
		switch fact.Class {
		case "table":
			rows += fact.Rows
		case "file":
			bytes += fact.Bytes
		}
	}
	if back.Kind == holdfast.KindFiles {
		text := fmt.Sprintf("%d files, folders and links, %s", counts["file"], report.Size(bytes))
		if n := int64(len(file.Unopened)); n > 0 {
			text += fmt.Sprintf(", among them %s of pg_dump -Fd, not restored as a database", plural(n, "dump"))
		}
		return text
	}
	parts := []string{plural(rows, "row") + " in " + plural(int64(counts["table"]), "table")}
	for _, class := range []string{"sequence", "large object", "extension"} {
		if n := counts[class]; n > 0 {
			parts = append(parts, plural(int64(n), class))
		}
	}
	return strings.Join(parts, ", ")
}

func plural(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// fileChecklist fills the lines that a person ticks off, and the issues.
func fileChecklist(d *report.Drill, src report.Source, err error) {
	integrity := report.Check{Name: "integrity", Result: report.Passed, Detail: "every layer was whole to its end; nobody recorded what the file was when it was made"}
	if d.File.Unauthenticated {
		integrity.Detail += "; openssl enc does not notice changed bytes"
	}
	if d.File.Weak != "" {
		integrity.Detail += "; weak key derivation: " + d.File.Weak
	}
	if err != nil && !src.Started {
		integrity.Result, integrity.Detail = report.Failed, src.Error
		if src.CannotTest {
			integrity.Result = report.Unknown
		}
	}
	d.Checks = append(d.Checks, integrity, report.Gather("data", d.Sources, func(report.Source) bool { return true }),
		report.GatherStart(d.Sources), report.GatherHealth(d.Sources), report.GatherAssertions(d.Sources))
	d.Issues = append(d.Issues, src.Issues()...)
	if d.Verdict == holdfast.Restores && len(src.Rows) == 0 {
		d.Issues = append(d.Issues, "it holds nothing: is this the backup that was meant?")
	}
	d.Issues = append(d.Issues, d.Opted...)
}

// fileOutcome turns a verdict into the error that decides the exit code.
func fileOutcome(d *report.Drill, src report.Source) error {
	if d.Verdict == holdfast.Restores {
		return leftovers(d)
	}
	sentinel, hint := holdfast.ErrDifference, src.Hint
	if d.Verdict == holdfast.CannotTest {
		sentinel = holdfast.ErrCannotTest
	} else if hint == "" && onlyAssertions(d) {
		hint = "everything in the file came out of it; look at the data, or at the assertion"
	} else if hint == "" {
		hint = "do not rely on this file: drill an older one"
	}
	return holdfast.WithHint(&fileVerdict{text: strings.TrimPrefix(summary(src.Issues(), 10), string(FileSource)+": "), sentinel: sentinel}, hint)
}

// fileVerdict is a verdict in its own words: to speak of a difference would claim that something was recorded.
type fileVerdict struct {
	text     string
	sentinel error
}

func (v *fileVerdict) Error() string {
	if v.sentinel == holdfast.ErrCannotTest {
		return holdfast.ErrCannotTest.Error() + ": " + strings.ReplaceAll(v.text, holdfast.ErrCannotTest.Error()+": ", "")
	}
	return "the file does not restore: " + v.text
}

func (v *fileVerdict) Unwrap() error { return v.sentinel }

// liveClasses are compared with a live source: what a file can tell of one. Owners and properties of the database as a whole
// are the throwaway's own.
var liveClasses = [...]string{"table", "sequence", "large object", "extension", "schema", "image"}

func narrow(facts source.Facts) source.Facts {
	facts.Facts = only(facts.Facts, liveClasses[:])
	return facts
}

// narrowed lets a live source tell of those classes alone.
func narrowed(living Living) Living {
	return func(ctx context.Context, stored source.Stored) (source.Source, string, error) {
		live, where, err := living(ctx, stored)
		if live == nil || err != nil {
			return nil, where, err
		}
		return narrowSource{live}, where, nil
	}
}

type narrowSource struct{ source.Source }

func (s narrowSource) Capture(ctx context.Context, observe holdfast.Observer) (source.Capture, error) {
	c, err := s.Source.Capture(ctx, observe)
	if err != nil {
		return nil, err
	}
	return narrowCapture{c}, nil
}

type narrowCapture struct{ source.Capture }

func (c narrowCapture) Facts(ctx context.Context) (source.Facts, error) {
	facts, err := c.Capture.Facts(ctx)
	return narrow(facts), err
}

// FileTarget is a file of another tool and where it goes.
type FileTarget struct {
	File File
	// Open makes the place. Nothing is changed by it at the final place.
	Open func(ctx context.Context) (source.Place, error)
	// Safety is as in [Target].
	Safety func(ctx context.Context) error
}

// RestoreFile brings a file into staging, compares it with what the file says of itself, and only then puts it into place. A
// difference wraps holdfast.ErrDifference, and nothing at the final place has changed then.
func RestoreFile(ctx context.Context, target FileTarget, observe holdfast.Observer) (restored Restored, holding string, err error) {
	observe = orQuiet(observe)
	observe(holdfast.Event{Kind: holdfast.EventPhase, Source: FileSource, Message: "restore into staging"})
	place, err := target.Open(ctx)
	if err != nil {
		return Restored{}, "", interrupted(ctx, err)
	}
	defer func() { err = interrupted(ctx, errors.Join(err, place.Close())) }()
	if err := place.Restore(ctx, watched(target.File.Stored, observe, nil)); err != nil {
		return Restored{}, "", err
	}
	observe(holdfast.Event{Kind: holdfast.EventPhase, Source: FileSource, Message: "compare with what the file says of itself"})
	back, err := place.Check(ctx)
	if err != nil {
		return Restored{}, "", err
	}
	file := target.File
	if s, ok := place.(selector); ok {
		file.Stored.Facts.Facts = s.Selected(file.Stored.Facts.Facts)
	}
	src := report.Source{Name: FileSource}
	told(file, back, &src)
	if len(src.Differences) > 0 {
		return Restored{}, "", holdfast.WithHint(&fileVerdict{text: summary(src.Differences, 10), sentinel: holdfast.ErrDifference}, "nothing at the target was changed")
	}
	if target.Safety != nil {
		observe(holdfast.Event{Kind: holdfast.EventPhase, Source: FileSource, Message: "keep a copy of what is overwritten"})
		if err := target.Safety(ctx); err != nil {
			return Restored{}, "", fmt.Errorf("keep a copy of what would be overwritten: %w", err)
		}
	}
	where, err := place.Commit(ctx)
	if err != nil {
		return Restored{}, "", err
	}
	return Restored{Source: FileSource, Where: where, Checked: src.Compared, Texts: src.Notes}, holds(file, back), nil
}
