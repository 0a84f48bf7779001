package engine_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/engine"
	"holdfast/internal/source"
)

// TestDrillAgainst: whatever the live source is like, the verdict is that of stored and restored alone.
func TestDrillAgainst(t *testing.T) {
	wrong := placeChange{"two": with(func(p *place) { p.alter = func(f *source.Facts) { f.Facts[0].Digest = "00" } })}
	refused := func(context.Context, source.Stored) (source.Source, string, error) {
		return nil, "database app", holdfast.WithHint(errBroken, "put it out")
	}
	only := func(name holdfast.SourceName, living engine.Living) engine.Living {
		return func(ctx context.Context, stored source.Stored) (source.Source, string, error) {
			if stored.Source != name {
				return nil, "", nil
			}
			return living(ctx, stored)
		}
	}
	changed := func(context.Context, source.Stored) (source.Source, string, error) {
		return &fake{name: "one", content: "other content"}, "database app", nil
	}
	for _, c := range []struct {
		name   string
		places placeChange
		living engine.Living
		want   holdfast.Verdict
		drift  string // of source one
		failed string // in the error
	}{
		{name: "nobody asked", want: holdfast.Proven},
		{name: "another source", living: only("two", changed), want: holdfast.Proven},
		{name: "it changed", living: only("one", changed), want: holdfast.Proven, drift: "since the backup, in database app: 1 file changed"},
		{name: "it changed, and something is lost", places: wrong, living: only("one", changed), want: holdfast.Failed, drift: "1 file changed", failed: "two: file f: same counts"},
		{name: "it cannot be reached", living: only("one", refused), want: holdfast.Proven, drift: "not compared: the disk is on fire", failed: "source one: the backup is proven, but the live source was not compared: the disk is on fire"},
		{name: "it cannot be reached, and something is lost", places: wrong, living: only("one", refused), want: holdfast.Failed, drift: "not compared", failed: "two: file f: same counts"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newKit(t)
			b := k.mustOpen(t, good("one"), good("two"))
			plan := drillPlan(new([]string), c.places)
			plan.Living = c.living
			d, err := engine.Drill(t.Context(), k.archive(), b, plan, k.observe)
			if d.Verdict != c.want {
				t.Errorf("verdict %s, want %s", d.Verdict, c.want)
			}
			if (err == nil) != (c.failed == "") || err != nil && !strings.Contains(err.Error(), c.failed) {
				t.Errorf("error %v", err)
			}
			if c.want == holdfast.Proven && (errors.Is(err, holdfast.ErrDifference) || errors.Is(err, holdfast.ErrCannotTest)) {
				t.Errorf("the live source accuses the backup: %v", err)
			}
			live := d.Sources[0].Live
			if (live == nil) != (c.drift == "") || live != nil && !strings.Contains(live.String(), c.drift) {
				t.Errorf("drift %v, want %q", live, c.drift)
			}
		})
	}
}
