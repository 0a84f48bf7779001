package migration_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"holdfast"
	"holdfast/internal/migration"
	"holdfast/internal/source"
)

// command is what a person does.
type command func(ctx context.Context, l *lab) error

// stories are what people do, of which the last command may go wrong.
var stories = map[string][]command{
	"move":                  {move},
	"fail to move, move":    {failToMove, move},
	"move, go back":         {move, back},
	"move, finish":          {move, finish},
	"move, go back, finish": {move, back, finish},
	"rehearse":              {rehearse},
	"rehearse, move":        {rehearse, move},
}

func move(ctx context.Context, l *lab) error { _, err := l.migration().Run(ctx); return err }

func failToMove(ctx context.Context, l *lab) error {
	l.slow = time.Second
	err := move(ctx, l)
	l.slow = 0
	if errors.Is(err, migration.ErrRolledBack) {
		return nil
	}
	return fmt.Errorf("a slow volume was taken: %w", err)
}

func back(ctx context.Context, l *lab) error {
	_, err := l.migration().Rollback(ctx, "too slow")
	return err
}

func finish(ctx context.Context, l *lab) error {
	_, err := l.migration().Finish(ctx, "a week went well")
	return err
}

func rehearse(ctx context.Context, l *lab) error { _, err := l.migration().Rehearse(ctx); return err }

// play plays all of a story but its last command, and then that with a trap at its call number n. It reports whether the call was made.
func play(t testing.TB, l *lab, story []command, n int, how mode) (trapped, died bool, err error) {
	t.Helper()
	for _, do := range story[:len(story)-1] {
		if err := do(t.Context(), l); err != nil {
			t.Fatal(err)
		}
		l.settled()
	}
	first := l.calls
	l.trap, l.how = first+n, how
	died, err = l.run(func() error { return story[len(story)-1](t.Context(), l) })
	l.showState()
	trapped = l.calls > l.trap
	l.trap = -1
	return trapped, died, err
}

// remedies are what a person does after something went wrong.
var remedies = map[string]func(*lab){"resume": (*lab).resume, "roll back": (*lab).rollBack}

// TestEveryCallGoesWrong lets each call of each story go wrong in each way, and then resumes or rolls back.
func TestEveryCallGoesWrong(t *testing.T) {
	for name, story := range stories {
		for _, how := range modes {
			for remedy, mend := range remedies {
				t.Run(name+"/"+string(how)+"/"+remedy, func(t *testing.T) { everyCall(t, story, how, mend) })
			}
		}
	}
}

func everyCall(t *testing.T, story []command, how mode, mend func(*lab)) {
	for n := 0; ; n++ {
		l := newLab(t)
		trapped, died, err := play(t, l, story, n, how)
		if !trapped {
			if n < 2 {
				t.Fatalf("only %d calls were made", n)
			}
			if err != nil {
				t.Fatalf("nothing went wrong, and: %v", err)
			}
			l.settled()
			return
		}
		if !died && how != losesState {
			judge(t, l, err)
		}
		mend(l)
		l.settled()
		if t.Failed() {
			t.Fatalf("call %d (%s): error %v", n, strings.Join(l.log, ", "), err)
		}
	}
}

// judge holds what an error says, before anything is resumed.
func judge(t testing.TB, l *lab, err error) {
	t.Helper()
	switch {
	case errors.Is(err, migration.ErrRolledBack):
		if l.at != l.from() || l.place != migration.Old || l.dirs[l.at].closed {
			t.Errorf("it says rolled back, and the server runs on %q, closed %v", l.at, l.dirs[l.at].closed)
		}
	case errors.Is(err, migration.ErrKept):
		if l.at != l.to() || l.place != migration.Sealed || l.dirs[l.at].closed || l.dirs[l.restored()] != nil {
			t.Errorf("it says that it stayed, and the server runs on %q", l.at)
		}
	case err != nil && l.at != "" && l.dirs[l.at].closed && !strings.Contains(holdfast.Hint(err), "resume"):
		t.Errorf("applications are shut out, and no hint says what to do: %v", err)
	}
}

// resume ends what was left. A second try is allowed where the first only told that the audit trail is behind.
func (l *lab) resume() {
	l.t.Helper()
	report, err := l.migration().Resume(l.t.Context())
	switch {
	case errors.Is(err, holdfast.ErrUsage) && report.Step == "":
	case err != nil && !errors.Is(err, migration.ErrRolledBack) && !errors.Is(err, migration.ErrKept):
		l.t.Errorf("resume: %v", err)
	}
}

// rollBack goes back, if there is anything to go back from, and finishes what may only be finished.
func (l *lab) rollBack() {
	l.t.Helper()
	_, err := l.migration().Rollback(l.t.Context(), "it went wrong")
	switch {
	case errors.Is(err, holdfast.ErrUsage): // it is over, or never began
		l.resume()
	case err != nil && !errors.Is(err, migration.ErrKept):
		l.t.Errorf("roll back: %v", err)
	case err == nil && l.at == l.to() && l.place == migration.Sealed:
		if report, err := l.migration().Report(); err != nil || report.Step != "" {
			l.t.Errorf("rolled back, and on the volume: %+v, %v", report, err)
		}
	}
}

// TestDeathsInARow kills each resumption too, at random.
func TestDeathsInARow(t *testing.T) {
	var names []string
	for name := range stories {
		names = append(names, name)
	}
	rapid.Check(t, func(rt *rapid.T) {
		l := newLab(t)
		l.log = append(l.log, "random")
		story := stories[rapid.SampledFrom(names).Draw(rt, "story")]
		_, _, _ = play(t, l, story, rapid.IntRange(0, 80).Draw(rt, "call"), rapid.SampledFrom(modes).Draw(rt, "mode"))
		for range rapid.IntRange(0, 4).Draw(rt, "deaths") {
			l.trap, l.how = l.calls+rapid.IntRange(0, 60).Draw(rt, "call"), rapid.SampledFrom(modes).Draw(rt, "mode")
			_, _ = l.run(func() error { _, err := l.migration().Resume(t.Context()); return err })
			l.showState()
			l.trap = -1
		}
		l.resume()
		l.settled()
		if t.Failed() {
			rt.Fatalf("%v", l.log)
		}
	})
}

func TestRun(t *testing.T) {
	l := newLab(t)
	report, err := l.migration().Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.settled()
	if l.at != l.to() || report.Step != migration.Watched || report.UnderWay {
		t.Errorf("the server runs on %s, the report says %q", l.at, report.Step)
	}
	var steps []string
	var all time.Duration
	for _, p := range report.Phases {
		steps = append(steps, string(p.Step))
		if p.Step != migration.Copied {
			all += p.Took
		}
	}
	if got := strings.Join(steps, " "); got != "copied closed facts-taken stopped final-copied verified switched started healthy compared watching" {
		t.Errorf("phases: %s", got)
	}
	if report.Downtime <= time.Minute || report.ShutOut <= report.Downtime || report.ShutOut > all {
		t.Errorf("downtime %s, shut out %s, phases %s", report.Downtime, report.ShutOut, all)
	}
	if report.Rate < time.Minute || report.Rate > 70*time.Second {
		t.Errorf("a GB in a minute is measured as %s", report.Rate)
	}
	if len(l.entries) != 1 || l.entries[0].Kind != migration.EntryMigrated || l.entries[0].Backup != "aaaaaaaaaa" || l.entries[0].Took != report.ShutOut {
		t.Errorf("entries: %+v", l.entries)
	}
	if _, err := l.migration().Run(t.Context()); !errors.Is(err, holdfast.ErrUsage) || holdfast.Hint(err) == "" {
		t.Errorf("a second run: %v", err)
	}
}

// TestRollsBackByItself has what is found wrong while applications are shut out.
func TestRollsBackByItself(t *testing.T) {
	for name, c := range map[string]struct {
		make   func(*lab)
		differ bool
		text   string
	}{
		"other rows":      {func(l *lab) { l.corrupt = true }, true, "database app differs in 1 fact"},
		"slow":            {func(l *lab) { l.slow = 160 * time.Millisecond }, true, "16 % more; 15 % are allowed"},
		"unclean stop":    {func(l *lab) { l.unclean = true }, true, "no clean stop"},
		"revived late":    {func(l *lab) { l.reviveLate = true }, false, "the server runs"},
		"old one revived": {func(l *lab) { l.reviveOld = true }, false, "runs on the old directory again"},
		"other control data": {func(l *lab) {
			l.copied = func(to *data) { to.checkpoint++ }
		}, true, "the copy's control data is not that of the old directory"},
		"facts are changed": {func(l *lab) {
			l.copied = func(*data) { must(l.t, os.WriteFile(l.options().Facts, []byte("[]"), 0o600)) }
		}, true, "is not what was written"},
		"slow enough":     {func(l *lab) { l.slow = 150 * time.Millisecond }, false, ""},
		"slow at first":   {func(l *lab) { l.slow, l.slowProbes = time.Second, 5 }, false, ""},
		"slow for longer": {func(l *lab) { l.slow, l.slowProbes = time.Second, 10 }, true, "% more"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			c.make(l)
			report, err := l.migration().Run(t.Context())
			l.settled()
			if c.text == "" {
				if err != nil || l.at != l.to() {
					t.Fatalf("on %s, error %v", l.at, err)
				}
				return
			}
			if !errors.Is(err, migration.ErrRolledBack) || errors.Is(err, holdfast.ErrDifference) != c.differ || !strings.Contains(err.Error(), c.text) {
				t.Fatalf("error %v", err)
			}
			if l.at != l.from() || report.Step != migration.RolledBack || !strings.Contains(report.Reason, c.text) {
				t.Errorf("on %s, report %+v", l.at, report)
			}
			if len(l.entries) != 1 || l.entries[0].Kind != migration.EntryRolledBack || l.entries[0].Good {
				t.Errorf("entries: %+v", l.entries)
			}
			if strings.Contains(err.Error()+report.Reason+l.entries[0].Reason, "orders") {
				t.Error("the name of a table is in an error, and so in the audit trail")
			}
		})
	}
}

// TestInterrupted ends the context at each call: the way back must not be cut off.
func TestInterrupted(t *testing.T) {
	for n := range 60 {
		l := newLab(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		world := l.world()
		health, probe := world.Health, world.Probe
		at := 0
		end := func() {
			if at++; at == n {
				cancel(holdfast.ErrInterrupted)
			}
		}
		world.Health = func(ctx context.Context) error { end(); return errors.Join(health(ctx), ctx.Err()) }
		world.Probe = func(ctx context.Context) (time.Duration, error) {
			end()
			took, err := probe(ctx)
			return took, errors.Join(err, ctx.Err())
		}
		_, err := migration.New(world, l.options()).Run(ctx)
		if n > 0 && n <= at && err == nil {
			t.Errorf("call %d: interrupted, and no error", n)
		}
		if err == nil || errors.Is(err, migration.ErrRolledBack) {
			l.settled()
		}
		if l.at == "" || l.dirs[l.at].closed {
			t.Errorf("call %d: %v leaves applications shut out", n, err)
		}
		cancel(nil)
	}
}

// TestResumeAfterReboot has something happen to the server between a death at each call and the resumption.
func TestResumeAfterReboot(t *testing.T) {
	for name, happens := range map[string]func(l *lab, old *data){
		"it is down":   func(*lab, *data) {},
		"it is booted": func(l *lab, _ *data) { must(l.t, l.startOn(l.path(l.place))) },
		"the old one is started by hand": func(l *lab, old *data) {
			old.state, l.at = "in production", l.from()
		},
		"the old one is started, written by its administrator, and stopped": func(l *lab, old *data) {
			old.rows, old.checkpoint, old.state = old.rows+1, old.checkpoint+1, "shut down"
			l.written++
		},
	} {
		t.Run(name, func(t *testing.T) {
			for n := 0; ; n++ {
				l := newLab(t)
				trapped, _, _ := play(t, l, stories["move"], n, diesAfter)
				if !trapped {
					return
				}
				byHand := strings.HasPrefix(name, "the old one")
				if byHand && slices.Contains(l.log, "open") {
					continue // two people wrote to two directories
				}
				// A server that was started on the old directory once the switch may have begun goes back.
				step := report(t, l).Step
				mayGoBack := (byHand || l.place == migration.Old) && slices.Contains([]migration.Step{migration.Verified, migration.Switched, migration.Started, migration.Healthy, migration.Compared}, step)
				l.at = ""
				happens(l, l.dirs[l.from()])
				// Before applications are shut out, and once they were let in, the server is not a migration's to start.
				if l.at == "" && (step == "" || step == migration.Planned || step == migration.Watched || step == migration.Copied && !slices.Contains(l.log, "close")) {
					must(t, l.startOn(l.path(l.place)))
				}
				if byHand && step == migration.Compared {
					if _, err := l.migration().Resume(t.Context()); err == nil || holdfast.Hint(err) == "" || !l.dirs[l.to()].closed {
						t.Errorf("applications were let in, though the old directory was written: %v", err)
					}
					continue
				}
				l.resume()
				l.settled()
				if report(t, l).Step != "" && l.at != l.to() && !mayGoBack {
					t.Errorf("the server runs on %s: nobody wrote, and it went back", l.at)
				}
				if t.Failed() {
					t.Fatalf("call %d, after %q: %v", n, step, l.log)
				}
			}
		})
	}
}

// TestResumeFindsTheSwitchElsewhere has what only a failing disk or a hand can do.
func TestResumeFindsTheSwitchElsewhere(t *testing.T) {
	t.Run("a roll back was not written down", func(t *testing.T) {
		for n := 0; ; n++ {
			l := newLab(t)
			if trapped, _, err := play(t, l, stories["move"], n, diesBefore); !trapped {
				t.Fatalf("it never died while it let applications in: %v", err)
			}
			if report(t, l).Step != migration.Compared {
				continue
			}
			old := l.dirs[l.from()]
			l.place, l.at, old.state, old.closed = migration.Old, l.from(), "in production", false
			if _, err := l.migration().Resume(t.Context()); !errors.Is(err, migration.ErrRolledBack) {
				t.Error(err)
			}
			l.settled()
			return
		}
	})
	t.Run("the volume is started by hand on the way back", func(t *testing.T) {
		for n := 0; ; n++ {
			l := newLab(t)
			if trapped, _, err := play(t, l, stories["move, go back"], n, diesAfter); !trapped {
				t.Fatalf("it never died at the switch: %v", err)
			}
			if l.at != "" || l.place != migration.Restored {
				continue
			}
			l.at = l.to()
			if _, err := l.migration().Resume(t.Context()); !errors.Is(err, migration.ErrKept) {
				t.Error(err)
			}
			l.settled()
			return
		}
	})
}

func report(t testing.TB, l *lab) migration.Report {
	t.Helper()
	r, err := l.migration().Report()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestResumeNeedsAProof has the backup grow old between a death and the resumption.
func TestResumeNeedsAProof(t *testing.T) {
	for name, want := range map[string]error{"copy": migration.ErrNoGo, "facts": migration.ErrRolledBack, "switch to volume": nil} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			world := l.world()
			dies := func(at string) {
				if at == name {
					panic(death{})
				}
			}
			copying, facts := world.Copy, world.Facts
			world.Copy = func(ctx context.Context, c migration.Copy) (migration.Copying, error) {
				dies("copy")
				return copying(ctx, c)
			}
			world.Facts = func(ctx context.Context) ([]migration.Database, error) { dies("facts"); return facts(ctx) }
			world.Switch = dyingSwitch{labSwitch{l}, func() { dies("switch to volume") }}
			if died, err := l.run(func() error { _, err := migration.New(world, l.options()).Run(t.Context()); return err }); !died {
				t.Fatal(err)
			}
			l.now = l.now.Add(2 * day)
			_, err := l.migration().Resume(t.Context())
			if !errors.Is(err, want) {
				t.Fatalf("error %v, want %v", err, want)
			}
			if want == migration.ErrNoGo {
				l.proof.Taken = l.now
				if _, err = l.migration().Resume(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			l.settled()
		})
	}
}

type dyingSwitch struct {
	labSwitch
	die func()
}

func (s dyingSwitch) To(ctx context.Context, side migration.Side) error {
	s.die()
	return s.labSwitch.To(ctx, side)
}

// TestDrifts of several databases, and of what belongs to none, are each told with the name.
func TestDrifts(t *testing.T) {
	l := newLab(t)
	world := l.world()
	table := func(name string, rows int64) source.Fact {
		return source.Fact{Class: "table", Name: name, Rule: source.Exact, Rows: rows}
	}
	shop := migration.Database{Name: "shop", Facts: []source.Fact{table("public.orders", 1), table("public.items", 1), table("public.same", 1)}}
	crm := migration.Database{Name: "crm", Facts: []source.Fact{table("public.people", 1)}}
	gone := migration.Database{Name: "gone"}
	world.Facts = func(ctx context.Context) ([]migration.Database, error) {
		if l.at == l.from() {
			return []migration.Database{shop, crm, gone, {Facts: []source.Fact{table("roles", 1)}}}, nil
		}
		return []migration.Database{
			{Name: "shop", Facts: []source.Fact{table("public.orders", 2), table("public.items", 2), table("public.same", 1)}},
			{Name: "crm", Facts: []source.Fact{table("public.people", 2)}}, {Name: "new"}, {Facts: []source.Fact{table("roles", 2)}},
		}, nil
	}
	_, err := migration.New(world, l.options()).Run(t.Context())
	const want = "database shop differs in 2 facts, database crm differs in 1 fact, database gone is gone, the cluster as a whole differs in 1 fact, database new is new"
	if !errors.Is(err, migration.ErrRolledBack) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "orders") {
		t.Errorf("error %v", err)
	}
	for _, want := range []string{"database shop: table public.orders", "database crm: table public.people", "the cluster as a whole: table roles"} {
		if !strings.Contains(strings.Join(l.warned, "\n"), want) {
			t.Errorf("warned %q, lacks %q", l.warned, want)
		}
	}
	l.settled()
}

// TestFilesThatChanged are told, in words that fit their number.
func TestFilesThatChanged(t *testing.T) {
	for changed, want := range map[int]string{0: "", 1: "1 file changed while the first copy was made; the final copy takes them.", 12: "12 files changed while the first copy was made; the final copy takes them."} {
		l := newLab(t)
		world := l.world()
		copying := world.Copy
		world.Copy = func(ctx context.Context, c migration.Copy) (migration.Copying, error) {
			done, err := copying(ctx, c)
			done.Changed = changed
			return done, err
		}
		report, err := migration.New(world, l.options()).Run(t.Context())
		if err != nil || strings.Join(report.Notes, "\n") != want {
			t.Errorf("%d: %q, %v", changed, report.Notes, err)
		}
	}
}
