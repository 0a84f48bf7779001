package engine_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/engine"
	"holdfast/internal/source"
)

// bench is a backup of two sources and a place for each.
type bench struct {
	kit     *kit
	log     []string
	first   *place
	second  *place
	targets []engine.Target
}

func newBench(t *testing.T) *bench {
	t.Helper()
	k := newKit(t)
	b := k.mustOpen(t, good("one"), good("two"))
	all, err := b.Stored(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := &bench{kit: k}
	w.first, w.second = &place{name: "one", log: &w.log}, &place{name: "two", log: &w.log}
	for i, p := range []*place{w.first, w.second} {
		w.targets = append(w.targets, engine.Target{
			Stored: all[i],
			Open:   func(context.Context) (source.Place, error) { p.note("open"); return p, nil },
			Safety: func(context.Context) error { p.note("safety"); return nil },
		})
	}
	return w
}

func (w *bench) restore(t *testing.T) ([]engine.Restored, error) {
	t.Helper()
	return engine.Restore(t.Context(), w.targets, w.kit.observe)
}

func (w *bench) wantLog(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(w.log, want) {
		t.Errorf("what happened:\n%s\nwant:\n%s", strings.Join(w.log, "\n"), strings.Join(want, "\n"))
	}
}

func TestRestore(t *testing.T) {
	w := newBench(t)
	w.second.alter = func(f *source.Facts) { f.Facts[1].Text = "written otherwise" }
	restored, err := w.restore(t)
	if err != nil {
		t.Fatal(err)
	}
	w.wantLog(t, "open one", "restore one", "check one", "open two", "restore two", "check two", "safety one", "safety two",
		"commit one", "commit two", "close one", "close two")
	if len(restored) != 2 || restored[0].Where != "at one" || len(restored[0].Texts) != 0 || len(restored[1].Texts) != 1 || restored[1].Checked != 2 {
		t.Errorf("restored %+v", restored)
	}
	if string(w.first.content) != "content of one" || string(w.second.content) != "content of two" {
		t.Errorf("came back: %q, %q", w.first.content, w.second.content)
	}
}

// Whatever goes wrong before the first commit, nothing is committed, and all that was opened is closed.
func TestRestoreStopsBeforeTheFirstCommit(t *testing.T) {
	until := []string{"open one", "restore one", "check one", "open two"}
	for _, c := range []struct {
		name  string
		harm  func(w *bench)
		is    error
		after []string
	}{
		{"open", func(w *bench) {
			w.targets[1].Open = func(context.Context) (source.Place, error) { w.second.note("open"); return nil, errBroken }
		}, errBroken, []string{"close one"}},
		{"restore", func(w *bench) { w.second.restore = errBroken }, errBroken, []string{"restore two", "close one", "close two"}},
		{"check", func(w *bench) { w.second.check = errBroken }, errBroken, []string{"restore two", "check two", "close one", "close two"}},
		{"difference", func(w *bench) { w.second.alter = func(f *source.Facts) { f.Facts[0].Bytes++ } }, holdfast.ErrDifference,
			[]string{"restore two", "check two", "close one", "close two"}},
		{"nothing came back", func(w *bench) { w.second.alter = func(f *source.Facts) { f.Facts = nil } }, holdfast.ErrDifference,
			[]string{"restore two", "check two", "close one", "close two"}},
		{"damage", func(w *bench) {
			for _, name := range w.kit.memory.Names() {
				if strings.HasSuffix(name, "two.tar.zst.age") {
					w.kit.memory.Corrupt(name, flip)
				}
			}
		}, holdfast.ErrDifference, []string{"restore two", "close one", "close two"}},
		{"safety", func(w *bench) {
			w.targets[1].Safety = func(context.Context) error { w.second.note("safety"); return errBroken }
		}, errBroken, []string{"restore two", "check two", "safety one", "safety two", "close one", "close two"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newBench(t)
			c.harm(w)
			restored, err := w.restore(t)
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), "source two") || restored != nil {
				t.Errorf("restored %v, error %v; want one of source two", restored, err)
			}
			w.wantLog(t, slices.Concat(until, c.after)...)
		})
	}
}

func TestRestoreCommitsInPart(t *testing.T) {
	w := newBench(t)
	w.second.commit = errBroken
	restored, err := w.restore(t)
	if !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "source two") || !strings.Contains(err.Error(), "in place already: one") {
		t.Errorf("error %v, want one that names both", err)
	}
	if len(restored) != 1 || restored[0].Source != "one" || restored[0].Where != "at one" {
		t.Errorf("restored %+v, want the first", restored)
	}
}

func TestRestoreTellsWhatItCouldNotRemove(t *testing.T) {
	w := newBench(t)
	w.first.close = errBroken
	restored, err := w.restore(t)
	if !errors.Is(err, errBroken) || len(restored) != 2 {
		t.Errorf("restored %+v, error %v; want both, and the error of the close", restored, err)
	}
}

func TestRestoreInterrupted(t *testing.T) {
	w := newBench(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	w.targets[1].Open = func(context.Context) (source.Place, error) {
		cancel(holdfast.ErrInterrupted)
		return w.second, nil
	}
	if _, err := engine.Restore(ctx, w.targets, nil); !errors.Is(err, holdfast.ErrInterrupted) {
		t.Errorf("error %v, want ErrInterrupted", err)
	}
	if slices.Contains(w.log, "commit one") || !slices.Contains(w.log, "close one") || !slices.Contains(w.log, "close two") {
		t.Errorf("what happened: %q", w.log)
	}
}
