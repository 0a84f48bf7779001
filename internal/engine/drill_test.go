package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/engine"
	"holdfast/internal/report"
	"holdfast/internal/source"
)

// places makes a throwaway for each source by its name.
func drillPlan(log *[]string, change map[holdfast.SourceName]func(*place) (source.Place, error)) engine.DrillPlan {
	return engine.DrillPlan{
		Place: func(_ context.Context, stored source.Stored, _ holdfast.Observer) (source.Place, error) {
			p := &place{name: string(stored.Source), log: log}
			if change[stored.Source] != nil {
				return change[stored.Source](p)
			}
			return p, nil
		},
		Who: "me", Host: "drill", Version: "test", Every: 90 * 24 * time.Hour, Clock: clock,
	}
}

type placeChange = map[holdfast.SourceName]func(*place) (source.Place, error)

func with(change func(*place)) func(*place) (source.Place, error) {
	return func(p *place) (source.Place, error) { change(p); return p, nil }
}

func TestDrillVerdicts(t *testing.T) {
	assert := func(query string) []engine.Assertion {
		return []engine.Assertion{{Source: "one", Name: "mine", Query: query}}
	}
	asserter := placeChange{"one": func(p *place) (source.Place, error) { return asserting{p}, nil }}
	wrong := with(func(p *place) { p.alter = func(f *source.Facts) { f.Facts[0].Digest = "00" } })
	cannot := func(*place) (source.Place, error) {
		return nil, holdfast.WithHint(fmt.Errorf("%w: PostgreSQL 16 is not installed", holdfast.ErrCannotTest), "install it")
	}
	for _, c := range []struct {
		name    string
		places  placeChange
		asserts []engine.Assertion
		harm    func(t *testing.T, k *kit)
		want    holdfast.Verdict
		issue   string // in the issues of the report, and in the error unless proven
	}{
		{name: "good", want: holdfast.Proven},
		{name: "a difference", places: placeChange{"two": wrong}, want: holdfast.Failed, issue: "two: file f: same counts, other content"},
		{name: "something lost", places: placeChange{"two": with(func(p *place) {
			p.alter = func(f *source.Facts) { f.Facts = f.Facts[1:] }
		})}, want: holdfast.Failed, issue: "two: file f did not come back"},
		{name: "something more", places: placeChange{"two": with(func(p *place) {
			p.alter = func(f *source.Facts) {
				f.Facts = append(f.Facts, source.Fact{Class: "file", Name: "new", Rule: source.Exact})
			}
		})}, want: holdfast.Failed, issue: "file new came back and was never stored"},
		{name: "text differs", places: placeChange{"two": with(func(p *place) {
			p.alter = func(f *source.Facts) { f.Facts[1].Text = "otherwise" }
		})}, want: holdfast.Proven},
		{name: "restore fails", places: placeChange{"two": with(func(p *place) { p.restore = errBroken })}, want: holdfast.Failed, issue: "two: the disk is on fire"},
		{name: "check fails", places: placeChange{"two": with(func(p *place) { p.check = errBroken })}, want: holdfast.Failed, issue: "two: the disk is on fire"},
		{name: "place is missing something", places: placeChange{"two": cannot}, want: holdfast.CannotTest, issue: "PostgreSQL 16 is not installed"},
		{name: "place does not start", places: placeChange{"two": func(*place) (source.Place, error) { return nil, errBroken }}, want: holdfast.CannotTest, issue: "the disk is on fire"},
		{name: "place finds damage at once", places: placeChange{"two": func(*place) (source.Place, error) {
			return nil, fmt.Errorf("%w: nonsense", holdfast.ErrDifference)
		}}, want: holdfast.Failed, issue: "nonsense"},
		{name: "restore lacks something", places: placeChange{"two": with(func(p *place) {
			p.restore = fmt.Errorf("%w: locale de_DE is missing", holdfast.ErrCannotTest)
		})}, want: holdfast.CannotTest, issue: "locale de_DE is missing"},
		{name: "a difference in one, no place for the other", places: placeChange{"one": wrong, "two": cannot}, want: holdfast.Failed, issue: "PostgreSQL 16"},
		{name: "no place for one, a difference in the other", places: placeChange{"one": cannot, "two": wrong}, want: holdfast.Failed, issue: "same counts"},
		{name: "assertion holds", places: asserter, asserts: assert("yes"), want: holdfast.Proven},
		{name: "assertion does not hold", places: asserter, asserts: assert("no"), want: holdfast.Failed, issue: `one: assertion "mine": the query's first value is not true`},
		{name: "assertion is wrong", places: asserter, asserts: assert("selec"), want: holdfast.Failed, issue: "syntax error"},
		{name: "assertion cannot be evaluated", places: asserter, asserts: assert("cannot"), want: holdfast.CannotTest, issue: "no such program"},
		{name: "assertion on what takes none", asserts: assert("yes"), want: holdfast.CannotTest, issue: "takes no assertions"},
		{name: "assertion on a source that is not there", asserts: []engine.Assertion{{Source: "three", Name: "mine", Query: "yes"}}, want: holdfast.CannotTest, issue: "three"},
		{name: "assertion unknown and a difference", places: placeChange{"two": wrong}, asserts: assert("yes"), want: holdfast.Failed, issue: "same counts"},
		{name: "an item is damaged", harm: func(t *testing.T, k *kit) { k.memory.Corrupt(k.object(t, "/two.tar.zst.age"), flip) }, want: holdfast.Failed, issue: "two.tar.zst.age"},
		{name: "an item is damaged and the place says nothing", places: placeChange{"two": with(func(p *place) {
			p.swallow, p.alter = true, func(f *source.Facts) { *f = factsOf("content of two") }
		})}, harm: func(t *testing.T, k *kit) { k.memory.Corrupt(k.object(t, "/two.tar.zst.age"), flip) }, want: holdfast.Failed, issue: "two.tar.zst.age"},
		{name: "an item is damaged and the place blames the host", places: placeChange{"two": with(func(p *place) {
			p.swallow, p.restore = true, fmt.Errorf("%w: psql was killed", holdfast.ErrCannotTest)
		})}, harm: func(t *testing.T, k *kit) { k.memory.Corrupt(k.object(t, "/two.tar.zst.age"), flip) }, want: holdfast.Failed, issue: "psql was killed"},
		{name: "an item is gone", harm: func(t *testing.T, k *kit) {
			if err := k.memory.Delete(t.Context(), k.object(t, "/two.tar.zst.age")); err != nil {
				t.Fatal(err)
			}
		}, want: holdfast.Failed, issue: "two.tar.zst.age of backup"},
		{name: "the facts are damaged", harm: func(t *testing.T, k *kit) { k.memory.Corrupt(k.object(t, "/facts.json.zst.age"), flip) }, want: holdfast.Failed, issue: "facts.json"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newKit(t)
			b := k.mustOpen(t, good("one"), good("two"))
			if c.harm != nil {
				c.harm(t, k)
			}
			var log []string
			plan := drillPlan(&log, c.places)
			plan.Assertions = c.asserts
			d, err := engine.Drill(t.Context(), k.archive(), b, plan, k.observe)
			wantDrill(t, d, err, c.want, c.issue)

			entry := k.list(t)[0]
			if len(entry.Proofs) != 1 || entry.Proofs[0].Verdict != c.want {
				t.Fatalf("proofs: %+v", entry.Proofs)
			}
			p, trusted, err := k.archive().ReadProof(t.Context(), b, entry.Proofs[0])
			if err != nil || !trusted || p.Verdict != c.want || p.Who != "me" || p.Host != "drill" {
				t.Errorf("proof %+v, trusted %v, %v", p, trusted, err)
			}
			if slices.Contains(log, "commit one") || slices.Contains(log, "commit two") {
				t.Error("a drill committed")
			}
			for _, name := range []string{"one", "two"} {
				if slices.Contains(log, "restore "+name) != slices.Contains(log, "close "+name) {
					t.Errorf("what happened: %q", log)
				}
			}
			for _, check := range d.Checks {
				if check.Name == "integrity" && (check.Result == report.Failed) != (c.harm != nil) {
					t.Errorf("integrity: %s, %s", check.Result, check.Detail)
				}
			}
		})
	}
}

// wantDrill compares verdict, error and issues.
func wantDrill(t *testing.T, d report.Drill, err error, want holdfast.Verdict, issue string) {
	t.Helper()
	if d.Verdict != want {
		t.Errorf("verdict %q, want %q; issues %q, error %v", d.Verdict, want, d.Issues, err)
	}
	is := map[holdfast.Verdict]error{holdfast.Failed: holdfast.ErrDifference, holdfast.CannotTest: holdfast.ErrCannotTest}[want]
	if !errors.Is(err, is) || want != holdfast.Failed && errors.Is(err, holdfast.ErrDifference) {
		t.Errorf("error %v, want %v", err, is)
	}
	if want == holdfast.Failed && errors.Is(err, holdfast.ErrCannotTest) {
		t.Errorf("the error is of two minds: %v", err)
	}
	if issue == "" {
		return
	}
	if !slices.ContainsFunc(d.Issues, func(line string) bool { return strings.Contains(line, issue) }) {
		t.Errorf("issues %q, want %q among them", d.Issues, issue)
	}
	if err == nil || !strings.Contains(err.Error(), issue) {
		t.Errorf("error %v does not name %q", err, issue)
	}
}

func TestDrillWithoutTheIdentityHasNoProof(t *testing.T) {
	k := newKit(t)
	b := k.mustOpen(t, good("one"))
	before := k.memory.Names()
	k.options.Identities = newKit(t).options.Identities
	b, err := k.archive().Open(t.Context(), b.Entry)
	if err != nil {
		t.Fatal(err)
	}
	d, err := engine.Drill(t.Context(), k.archive(), b, drillPlan(new([]string), nil), k.observe)
	wantDrill(t, d, err, holdfast.CannotTest, "no identity opens this")
	if holdfast.Hint(err) == "" {
		t.Error("no hint")
	}
	if !slices.Equal(before, k.memory.Names()) {
		t.Errorf("a proof was stored: %q", k.memory.Names())
	}
}

// A store that is away while a drill runs says nothing of the backup.
func TestDrillOnAFailingStore(t *testing.T) {
	base := newKit(t)
	b := base.mustOpen(t, good("one"), good("two"))
	counting := &kit{memory: base.memory.Clone(), options: base.options}
	b = counting.reopen(t, b.Entry)
	counting.memory.Restore()
	if _, err := engine.Drill(t.Context(), counting.archive(), b, drillPlan(new([]string), nil), nil); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= counting.memory.Calls(); n++ {
		k := &kit{memory: base.memory.Clone(), options: base.options}
		b := k.reopen(t, b.Entry)
		k.memory.FailAt(n)
		d, err := engine.Drill(t.Context(), k.archive(), b, drillPlan(new([]string), nil), nil)
		if err == nil || errors.Is(err, holdfast.ErrDifference) || d.Verdict == holdfast.Failed {
			t.Errorf("call %d failed: verdict %q, %v", n, d.Verdict, err)
		}
		for _, proof := range k.list(t)[0].Proofs {
			if proof.Verdict != holdfast.CannotTest {
				t.Errorf("call %d failed, and the stored verdict is %s", n, proof.Verdict)
			}
		}
	}
}

func (k *kit) reopen(t *testing.T, entry archive.Entry) *archive.Backup {
	t.Helper()
	b, err := k.archive().Open(t.Context(), entry)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A verdict that cannot be kept does not hide what it says.
func TestDrillThatCannotKeepItsVerdict(t *testing.T) {
	k := newKit(t)
	b := k.mustOpen(t, good("one"))
	places := placeChange{"one": with(func(p *place) {
		p.alter = func(f *source.Facts) { k.memory.CutAt(1); f.Facts = nil }
	})}
	d, err := engine.Drill(t.Context(), k.archive(), b, drillPlan(new([]string), places), nil)
	wantDrill(t, d, err, holdfast.Failed, "did not come back")
	if !strings.Contains(fmt.Sprint(err), `keep the verdict "failed"`) {
		t.Errorf("error %v does not say that the verdict is not stored", err)
	}
	k.memory.Restore()
}

// What a drill could not remove is told, and accuses nobody.
func TestDrillThatLeavesSomething(t *testing.T) {
	for _, c := range []struct {
		name string
		harm func(*place)
		want holdfast.Verdict
	}{
		{"proven", func(*place) {}, holdfast.Proven},
		{"failed", func(p *place) { p.restore = errors.New("psql: exit status 3") }, holdfast.Failed},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newKit(t)
			b := k.mustOpen(t, good("one"))
			places := placeChange{"one": with(func(p *place) {
				c.harm(p)
				p.close = holdfast.WithHint(fmt.Errorf("%w: the folder is busy", holdfast.ErrCannotTest), "remove it by hand")
			})}
			d, err := engine.Drill(t.Context(), k.archive(), b, drillPlan(new([]string), places), nil)
			if d.Verdict != c.want || err == nil || !strings.Contains(err.Error(), "the folder is busy") || holdfast.Hint(err) != "remove it by hand" {
				t.Errorf("verdict %q, error %v, hint %q", d.Verdict, err, holdfast.Hint(err))
			}
			if errors.Is(err, holdfast.ErrCannotTest) || errors.Is(err, holdfast.ErrDifference) != (c.want == holdfast.Failed) {
				t.Errorf("error %v", err)
			}
			if got := k.list(t)[0].Proofs[0].Verdict; got != c.want {
				t.Errorf("the stored verdict is %s", got)
			}
		})
	}
}

func TestDrillOfAnIncompleteBackup(t *testing.T) {
	k := newKit(t)
	b := k.mustOpen(t, good("one"), (&fake{name: "lost", capture: errBroken}).named())
	d, err := engine.Drill(t.Context(), k.archive(), b, drillPlan(new([]string), nil), nil)
	if err != nil || d.Verdict != holdfast.Proven {
		t.Errorf("verdict %s, %v", d.Verdict, err)
	}
	if !slices.ContainsFunc(d.Issues, func(line string) bool { return strings.Contains(line, "does not hold source lost") }) {
		t.Errorf("issues %q say nothing of what is missing", d.Issues)
	}
}

func TestInterruptedDrillHasNoVerdict(t *testing.T) {
	k := newKit(t)
	b := k.mustOpen(t, good("one"), good("two"))
	ctx, cancel := context.WithCancelCause(t.Context())
	var log []string
	places := placeChange{"one": with(func(p *place) { p.alter = func(*source.Facts) { cancel(holdfast.ErrInterrupted) } })}
	d, err := engine.Drill(ctx, k.archive(), b, drillPlan(&log, places), nil)
	if !errors.Is(err, holdfast.ErrInterrupted) || d.Verdict != "" {
		t.Errorf("verdict %q, %v", d.Verdict, err)
	}
	if want := []string{"restore one", "check one", "close one"}; !slices.Equal(log, want) {
		t.Errorf("what happened: %q, want %q", log, want)
	}
	if len(k.list(t)[0].Proofs) != 0 {
		t.Error("a verdict was stored")
	}
}

func TestDrillReport(t *testing.T) {
	k := newKit(t)
	one := good("one")
	one.Secret = true
	b := k.mustOpen(t, one, good("two"))
	plan := drillPlan(new([]string), nil)
	plan.Opted = []string{"a scratch folder on a plain disk was allowed"}
	d, err := engine.Drill(t.Context(), k.archive(), b, plan, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !d.Next.Equal(d.Started.Add(plan.Every)) || d.Backup.Digest != b.Digest || !d.Backup.SignerTrusted || d.Backup.Plain != int64(len("content of one")*2) {
		t.Errorf("report %+v", d)
	}
	var checks []string
	for _, check := range d.Checks {
		checks = append(checks, check.Name+" "+string(check.Result))
	}
	if want := []string{"integrity passed", "secrets passed", "config passed", "data none", "start passed", "health none", "assertions none"}; !slices.Equal(checks, want) {
		t.Errorf("checks %q, want %q", checks, want)
	}
	if !slices.Contains(d.Issues, plan.Opted[0]) {
		t.Errorf("issues %q do not tell what was opted for", d.Issues)
	}
	if src := d.Sources[0]; src.Compared != 2 || len(src.Listed) != 1 || len(src.Rows) != 1 || !src.Rows[0].Same {
		t.Errorf("source %+v", src)
	}
}
