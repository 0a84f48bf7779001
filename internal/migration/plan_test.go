package migration_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/migration"
)

func TestPlan(t *testing.T) {
	broken := func(context.Context) error { return holdfast.WithHint(errors.New("broken"), "mend it") }
	for name, c := range map[string]struct {
		change func(*lab, *migration.World)
		noGo   string // the check that says no; "": none
		text   string
	}{
		"all is well": {func(*lab, *migration.World) {}, "", "go: proven backup: backup aaaaaaaaaa is proven and 1h0m"},
		"old proof":   {func(l *lab, _ *migration.World) { l.proof.Taken = l.now.Add(-day - time.Minute) }, "proven backup", "more than 24h0m0s"},
		"no proof": {func(_ *lab, w *migration.World) {
			w.Proven = func(context.Context) (migration.Proof, error) {
				return migration.Proof{}, errors.New("none was ever drilled")
			}
		}, "proven backup", "none was ever drilled"},
		"no server":   {func(l *lab, _ *migration.World) { l.at = "" }, "server applications", "does not run on the old directory"},
		"sick server": {func(_ *lab, w *migration.World) { w.Health = broken }, "server", "not healthy: broken"},
		"applications stay": {func(l *lab, _ *migration.World) {
			l.obstacles = []string{"a replica is connected", "role x is no superuser"}
		}, "applications",
			"NO-GO: applications: a replica is connected; role x is no superuser.\n  mend this first"},
		"not asked": {func(_ *lab, w *migration.World) {
			w.Obstacles = func(ctx context.Context) ([]string, error) { return nil, broken(ctx) }
		}, "applications", "mend it"},
		"not mounted": {func(_ *lab, w *migration.World) { w.Ready = broken }, "volume", "mend it"},
		"not empty":   {func(l *lab, _ *migration.World) { l.dirs[l.to()].system = "1" }, "data folder", "holds files that no migration put there"},
		"tablespace": {func(_ *lab, w *migration.World) {
			w.Outside = func(context.Context) ([]string, error) { return []string{"pg_wal -> /fast/wal"}, nil }
		}, "one directory", "pg_wal -> /fast/wal"},
		"no room": {func(_ *lab, w *migration.World) {
			w.Free = func(context.Context) (int64, error) { return 10.9e9, nil }
		}, "space", "NO-GO: space: the directory has 10.0 GB, the volume 10.9 GB free"},
		"little room": {func(_ *lab, w *migration.World) {
			w.Free = func(context.Context) (int64, error) { return 11.1e9, nil }
		}, "", "go, but: space"},
		"size unknown": {func(_ *lab, w *migration.World) {
			w.Size = func(context.Context) (int64, error) { return 0, errors.New("no look") }
		}, "space", "no look"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			world := l.world()
			c.change(l, &world)
			m := migration.New(world, l.options())
			plan, err := m.Plan(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			no := ""
			for _, check := range plan.Checks {
				if !check.Good {
					no = strings.TrimPrefix(no+" "+check.Name, " ")
				}
				if check.Text == "" && check.Name != "switch" {
					t.Errorf("%s says nothing", check.Name)
				}
			}
			if no != c.noGo || plan.Go() != (c.noGo == "") {
				t.Errorf("no-go %q, want %q", no, c.noGo)
			}
			if text := strings.Join(plan.Lines(), "\n"); !strings.Contains(text, c.text) {
				t.Errorf("plan:\n%s\nlacks %q", text, c.text)
			}
			before := *l.dirs[l.from()]
			_, err = m.Run(t.Context())
			if refused := errors.Is(err, migration.ErrNoGo); refused != (c.noGo != "") {
				t.Fatalf("run: %v", err)
			} else if refused && (*l.dirs[l.from()]).closed != before.closed {
				t.Error("a refusal changed something")
			}
			if _, statErr := os.Stat(l.options().State); c.noGo != "" && statErr == nil {
				t.Error("a refusal left a state file")
			}
		})
	}
}

// TestPlanCountsTheCopyThatIsThere: it takes room, and is written over.
func TestPlanCountsTheCopyThatIsThere(t *testing.T) {
	l := newLab(t)
	if err := failToMove(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	world := l.world()
	world.Free = func(context.Context) (int64, error) { return 2e9, nil }
	if _, err := migration.New(world, l.options()).Run(t.Context()); err != nil {
		t.Error(err)
	}
	l.settled()
}

// TestEstimate goes by the rule, and after a rehearsal by what it measured.
func TestEstimate(t *testing.T) {
	l := newLab(t)
	plan, err := l.migration().Plan(t.Context())
	if err != nil || plan.Estimate != 15*time.Minute || plan.Measured {
		t.Fatalf("10 GB are estimated as %s, measured %v; error %v", plan.Estimate, plan.Measured, err)
	}
	report, err := l.migration().Rehearse(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	plan, err = l.migration().Plan(t.Context())
	if err != nil || !plan.Measured || plan.Estimate != 10*report.Rate || report.Rate < 30*time.Second || report.Rate > 35*time.Second {
		t.Fatalf("after a rehearsal at %s per GB, 10 GB are estimated as %s; error %v", report.Rate, plan.Estimate, err)
	}
}

func TestRehearse(t *testing.T) {
	l := newLab(t)
	report, err := l.migration().Rehearse(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.settled()
	if len(report.Phases) != 11 || len(report.Notes) != 1 || !strings.Contains(report.Notes[0], "differs in 1 fact") {
		t.Errorf("report %+v: applications wrote between the facts and the copy", report)
	}
	if !strings.Contains(strings.Join(l.log, ","), "stand-in to volume,start throwaway") || !strings.Contains(strings.Join(l.log, ","), "stand-in to old,stand-in where") {
		t.Errorf("calls: %v", l.log)
	}
	for _, call := range l.log {
		if call == "stop" || call == "close" || call == "copy" || strings.HasPrefix(call, "switch to") {
			t.Errorf("a rehearsal did: %s", call)
		}
	}
	slow := newLab(t)
	slow.slow = 200 * time.Millisecond
	if _, err := slow.migration().Rehearse(t.Context()); !errors.Is(err, holdfast.ErrDifference) || !strings.Contains(err.Error(), "would roll back") {
		t.Errorf("a slow volume: %v", err)
	}
	slow.settled()
	without := newLab(t)
	world := without.world()
	world.Rehearsal = nil
	if _, err := migration.New(world, without.options()).Rehearse(t.Context()); !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("without means: %v", err)
	}
}

func TestNewPanicsAboutWhatIsMissing(t *testing.T) {
	l := newLab(t)
	for name, c := range map[string]struct {
		change func(*migration.World, *migration.Options)
		want   string
	}{
		"function":  {func(w *migration.World, _ *migration.Options) { w.Drill = nil }, "migration: World.Drill is missing"},
		"switch":    {func(w *migration.World, _ *migration.Options) { w.Switch = nil }, "migration: World.Switch is missing"},
		"rehearsal": {func(w *migration.World, _ *migration.Options) { w.Rehearsal.Slots = nil }, "migration: Rehearsal.Slots is missing"},
		"path":      {func(_ *migration.World, o *migration.Options) { o.State = "x" }, `migration: "x" is not absolute`},
		"facts":     {func(_ *migration.World, o *migration.Options) { o.Facts = o.To + "/facts" }, "migration: the facts would be in the data folder"},
	} {
		t.Run(name, func(t *testing.T) {
			world, options := l.world(), l.options()
			c.change(&world, &options)
			defer func() {
				if got := recover(); got != c.want {
					t.Errorf("panic %v, want %q", got, c.want)
				}
			}()
			migration.New(world, options)
		})
	}
}

func TestStateFile(t *testing.T) {
	l := newLab(t)
	for _, text := range []string{"", "{", `{"version":2}`, `{"version":1,"from":"/a","done":"copied"}`, `{"version":1,"more":1}`} {
		if err := os.WriteFile(l.options().State, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := l.migration().Resume(t.Context()); err == nil || !strings.Contains(err.Error(), "damaged") || holdfast.Hint(err) == "" {
			t.Errorf("%q: %v", text, err)
		}
	}
	if err := os.Remove(l.options().State); err != nil {
		t.Fatal(err)
	}
	if _, _, err := play(t, l, stories["move"], 25, fails); err == nil {
		t.Fatal("nothing failed")
	}
	info, err := os.Stat(l.options().State)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("state file: %v, %v", info, err)
	}
	for _, path := range []string{l.options().State} {
		text, err := os.ReadFile(path)
		if err != nil || strings.Contains(string(text), "orders") {
			t.Errorf("%s has the name of a table, or: %v", path, err)
		}
	}
	if _, err := l.migration().Resume(t.Context()); err != nil && !errors.Is(err, migration.ErrRolledBack) {
		t.Fatal(err)
	}
	moved := newLab(t)
	moved.log = nil
	if err := move(t.Context(), moved); err != nil {
		t.Fatal(err)
	}
	other := moved.options()
	other.From = "/elsewhere"
	if _, err := migration.New(moved.world(), other).Rollback(t.Context(), "x"); !errors.Is(err, holdfast.ErrUsage) || !strings.Contains(err.Error(), "/elsewhere") {
		t.Errorf("another directory: %v", err)
	}
}

// TestPlanAfterFinish: what is on the volume is no copy any more, and nothing may be copied over it.
func TestPlanAfterFinish(t *testing.T) {
	l := newLab(t)
	for _, do := range stories["move, finish"] {
		if err := do(t.Context(), l); err != nil {
			t.Fatal(err)
		}
	}
	// Somebody makes a new cluster where the old one was.
	l.alive = false
	l.dirs[l.from()] = &data{state: "in production", system: "7003"}
	l.at, l.place = l.from(), migration.Old
	_, err := l.migration().Run(t.Context())
	if !errors.Is(err, migration.ErrNoGo) || !strings.Contains(err.Error(), "data folder: "+l.to()+" has the data that an earlier migration moved there") || strings.Contains(holdfast.Hint(err), "empty") {
		t.Errorf("%v, hint %q", err, holdfast.Hint(err))
	}
	if l.dirs[l.to()].system != "7001" {
		t.Error("the data on the volume was copied over")
	}
}
