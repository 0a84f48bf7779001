package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/engine"
	"holdfast/internal/report"
	"holdfast/internal/seal"
	"holdfast/internal/source"
)

// filePlace is a place that gives back what it is told to.
type filePlace struct {
	back       []source.Fact
	restoreErr error
	checkErr   error
	committed  bool
	closed     bool
}

func (p *filePlace) Restore(ctx context.Context, stored source.Stored) error {
	r, err := stored.Items[0].Open(ctx)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	return errors.Join(err, r.Close(), p.restoreErr)
}

func (p *filePlace) Check(context.Context) (source.Facts, error) {
	return source.Facts{Kind: holdfast.KindPostgres, Facts: p.back}, p.checkErr
}

func (p *filePlace) Commit(context.Context) (string, error) {
	p.committed = true
	return "there", nil
}

func (p *filePlace) Close() error {
	p.closed = true
	return nil
}

func rows(name string, n int64) source.Fact {
	return source.Fact{Class: "table", Name: name, Rule: source.Exact, Rows: n, Digest: fmt.Sprint(n)}
}

// elsewhere is what a place tells of a table that did not come back by its name.
func elsewhere(name string, rule source.Rule, n int64, why string) source.Fact {
	return source.Fact{Class: "table of the file", Name: name, Rule: rule, Rows: n, Text: why}
}

func heldBy(facts ...source.Fact) engine.File {
	return engine.File{Stored: source.Stored{Source: engine.FileSource, Kind: holdfast.KindPostgres, Facts: source.Facts{Facts: facts},
		Items: []source.StoredItem{{Name: "file.sql", Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader([]byte("x"))), nil }}}}}
}

func TestDrillFile(t *testing.T) {
	damaged := fmt.Errorf("%w: cut", holdfast.ErrDifference)
	for name, c := range map[string]struct {
		file     engine.File
		readErr  error
		placeErr error
		place    filePlace
		verdict  holdfast.Verdict
		want     string
		note     string
	}{
		"it restores":                {file: heldBy(rows("t", 3)), place: filePlace{back: []source.Fact{rows("t", 3), rows("u", 2)}}, verdict: holdfast.Restores},
		"other words for the values": {file: heldBy(source.Fact{Class: "table", Name: "t", Rows: 3, Digest: "x"}), place: filePlace{back: []source.Fact{rows("t", 3)}}, verdict: holdfast.Restores},
		"rows are lost":              {file: heldBy(rows("t", 3)), place: filePlace{back: []source.Fact{rows("t", 2)}}, verdict: holdfast.Failed, want: "the file does not restore: table t: 3 rows in the file, 2 restored"},
		"a table is missing":         {file: heldBy(rows("t", 3)), place: filePlace{back: []source.Fact{rows("u", 3)}}, verdict: holdfast.Failed, want: "the file does not restore: table t: 3 rows in the file, and no table of that name came out"},
		"a table of no rows":         {file: heldBy(rows("t", 0)), place: filePlace{back: []source.Fact{rows("u", 3)}}, verdict: holdfast.Restores, note: "table t has no rows in the file, and none of that name came out"},
		"it went elsewhere":          {file: heldBy(rows("t", 3)), place: filePlace{back: []source.Fact{rows("u", 3), elsewhere("t", source.Exact, 3, "")}}, verdict: holdfast.Restores},
		"some went elsewhere":        {file: heldBy(rows("t", 3)), place: filePlace{back: []source.Fact{rows("u", 3), elsewhere("t", source.Exact, 2, "")}}, verdict: holdfast.Failed, want: "table t: 3 rows in the file, 2 restored"},
		"it cannot be counted":       {file: heldBy(rows("t", 3)), place: filePlace{back: []source.Fact{elsewhere("t", source.Listed, 0, "which it drops")}}, verdict: holdfast.Restores, note: "table t has 3 rows in the file, which it drops"},
		"it was never counted":       {file: heldBy(rows("u", 3)), place: filePlace{back: []source.Fact{rows("u", 3), elsewhere("t", source.Listed, 0, "which it drops")}}, verdict: holdfast.Restores, note: "table t is filled by the file, which it drops"},
		"it is cut":                  {readErr: damaged, verdict: holdfast.Failed, want: "cut"},
		"no key":                     {readErr: seal.ErrNoIdentity, verdict: holdfast.CannotTest, want: "cannot test: no identity opens this"},
		"nobody vouches for it":      {readErr: fmt.Errorf("%w: line 3", holdfast.ErrUsage), verdict: holdfast.CannotTest, want: "cannot test: line 3"},
		"no server":                  {file: heldBy(), placeErr: fmt.Errorf("%w: none", holdfast.ErrCannotTest), verdict: holdfast.CannotTest, want: "cannot test: none"},
		"no scratch":                 {file: heldBy(), placeErr: errors.New("disk"), verdict: holdfast.CannotTest, want: "cannot test: disk"},
		"a wrong statement":          {file: heldBy(), place: filePlace{restoreErr: errors.New("syntax error")}, verdict: holdfast.Failed, want: "the file does not restore: syntax error"},
		"an extension":               {file: heldBy(), place: filePlace{restoreErr: fmt.Errorf("%w: postgis", holdfast.ErrCannotTest)}, verdict: holdfast.CannotTest, want: "postgis"},
		"damaged within":             {file: heldBy(), place: filePlace{checkErr: damaged}, verdict: holdfast.Failed, want: "cut"},
	} {
		t.Run(name, func(t *testing.T) {
			place := c.place
			d, err := engine.DrillFile(t.Context(), engine.FilePlan{
				About: &report.File{Path: "/old/app.sql"}, Clock: clock,
				Read: func(context.Context) (engine.File, error) { return c.file, c.readErr },
				Place: func(context.Context, holdfast.Observer) (source.Place, error) {
					if c.placeErr != nil {
						return nil, c.placeErr
					}
					return &place, nil
				},
			}, nil)
			if d.Verdict != c.verdict {
				t.Errorf("the verdict is %s, want %s", d.Verdict, c.verdict)
			}
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(holdfast.Sentence(err), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if c.verdict == holdfast.Failed && !errors.Is(err, holdfast.ErrDifference) || c.verdict == holdfast.CannotTest && !errors.Is(err, holdfast.ErrCannotTest) {
				t.Errorf("error %v does not go with %s", err, c.verdict)
			}
			if notes := d.Sources[0].Notes; strings.Join(notes, "; ") != c.note {
				t.Errorf("notes %q, want %q", notes, c.note)
			}
			if c.readErr == nil && c.placeErr == nil && !place.closed {
				t.Error("the throwaway stays")
			}
		})
	}
}

func TestRestoreFile(t *testing.T) {
	for name, c := range map[string]struct {
		place filePlace
		want  string
	}{
		"good":          {filePlace{back: []source.Fact{rows("t", 3)}}, ""},
		"rows are lost": {filePlace{back: []source.Fact{rows("t", 2)}}, "table t: 3 rows in the file, 2 restored"},
		"all are lost":  {filePlace{}, "table t: 3 rows in the file, and no table of that name came out"},
		"refused":       {filePlace{restoreErr: errors.New("syntax error")}, "syntax error"},
	} {
		t.Run(name, func(t *testing.T) {
			place := c.place
			result, holding, err := engine.RestoreFile(t.Context(), engine.FileTarget{File: heldBy(rows("t", 3)),
				Open: func(context.Context) (source.Place, error) { return &place, nil }}, nil)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if place.committed != (c.want == "") || !place.closed {
				t.Errorf("committed %t, closed %t", place.committed, place.closed)
			}
			if err == nil && (result.Where != "there" || holding != "3 rows in 1 table" || result.Checked != 1) {
				t.Errorf("%+v, %q", result, holding)
			}
		})
	}
}

// TestRestoreFileKeeps keeps what is overwritten when what came out was found good, and before anything changes.
func TestRestoreFileKeeps(t *testing.T) {
	for name, c := range map[string]struct {
		place        filePlace
		safety       error
		asked        bool
		want, atLast string
	}{
		"good":          {filePlace{back: []source.Fact{rows("t", 3)}}, nil, true, "", "there"},
		"rows are lost": {filePlace{back: []source.Fact{rows("t", 2)}}, nil, false, "2 restored", ""},
		"no copy":       {filePlace{back: []source.Fact{rows("t", 3)}}, errors.New("the disk is full"), true, "keep a copy of what would be overwritten: the disk is full", ""},
	} {
		t.Run(name, func(t *testing.T) {
			place, asked := c.place, false
			result, _, err := engine.RestoreFile(t.Context(), engine.FileTarget{File: heldBy(rows("t", 3)),
				Open: func(context.Context) (source.Place, error) { return &place, nil },
				Safety: func(context.Context) error {
					if asked = true; place.committed {
						t.Error("the copy comes after the commit")
					}
					return c.safety
				}}, nil)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if asked != c.asked || result.Where != c.atLast || place.committed != (c.want == "") || !place.closed {
				t.Errorf("asked %t, %+v, committed %t, closed %t", asked, result, place.committed, place.closed)
			}
		})
	}
}
