package migration_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast"
	"holdfast/internal/migration"
)

func TestRollbackAfterWrites(t *testing.T) {
	l := newLab(t)
	if err := move(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	l.applications()
	l.log = nil
	report, err := l.migration().Rollback(t.Context(), "too slow")
	if err != nil {
		t.Fatal(err)
	}
	l.settled()
	if l.at != l.restored() || report.Step != migration.WentBack || report.Backup == "" || report.Reason != "too slow" || report.WayBack <= 0 {
		t.Errorf("on %s, report %+v", l.at, report)
	}
	if len(report.Lost) != 1 || !strings.Contains(report.Lost[0], "table public.orders") || !strings.Contains(strings.Join(l.warned, " "), report.Lost[0]) {
		t.Errorf("lost: %q, warned %q", report.Lost, l.warned)
	}
	if text := strings.Join(report.Lines(), "\n"); !strings.Contains(text, "30 to 60 minutes are expected") || !strings.Contains(text, "with all that was written") {
		t.Errorf("report:\n%s", text)
	}
	if l.dirs[l.from()] == nil {
		t.Error("the old directory is gone")
	}
	var order []string
	for _, call := range l.log {
		if slices.Contains([]string{"close", "backup", "drill", "restore", "stop", "switch to restored", "start", "open"}, call) {
			order = append(order, call)
		}
	}
	if got := strings.Join(order, " "); got != "close backup drill restore stop switch to restored start open" {
		t.Errorf("calls: %s", got)
	}
	last := l.entries[len(l.entries)-1]
	if last.Kind != migration.EntryRolledBack || !last.Good || last.Backup != report.Backup || last.Reason != "too slow" {
		t.Errorf("entry %+v", last)
	}
	state, err := os.ReadFile(l.options().State)
	if err != nil || strings.Contains(string(state), "orders") {
		t.Errorf("the state has the name of a table, or: %v", err)
	}
}

// TestRollbackStays when the new backup is not proven: it is the only one that has what was written since.
func TestRollbackStays(t *testing.T) {
	l := newLab(t)
	if err := move(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	world := l.world()
	world.Drill = func(context.Context, holdfast.BackupID) error { return holdfast.ErrDifference }
	report, err := migration.New(world, l.options()).Rollback(t.Context(), "too slow")
	if !errors.Is(err, migration.ErrKept) || !errors.Is(err, holdfast.ErrDifference) || report.Step != migration.Watched || l.at != l.to() {
		t.Fatalf("on %s, error %v, report %+v", l.at, err, report)
	}
	l.settled()
	if last := l.entries[len(l.entries)-1]; last.Kind != migration.EntryKept || last.Good {
		t.Errorf("entry %+v", last)
	}
	if err := back(t.Context(), l); err != nil {
		t.Errorf("a second try: %v", err)
	}
	l.settled()
}

// TestRollbackOfACopy is at once, and leaves the server alone.
func TestRollbackOfACopy(t *testing.T) {
	l := newLab(t)
	world := l.world()
	world.Copy = func(context.Context, migration.Copy) (migration.Copying, error) { return migration.Copying{}, errTrap }
	if _, err := migration.New(world, l.options()).Run(t.Context()); !errors.Is(err, errTrap) || errors.Is(err, migration.ErrRolledBack) || holdfast.Hint(err) == "" {
		t.Fatalf("error %v", err)
	}
	l.log = nil
	report, err := l.migration().Rollback(t.Context(), "another day")
	if err != nil || report.Step != migration.RolledBack || report.ShutOut != 0 {
		t.Fatalf("error %v, report %+v", err, report)
	}
	if got := strings.Join(l.log, " "); got != "record" {
		t.Errorf("calls: %s", got)
	}
	l.settled()
}

func TestWaysOutAreRefused(t *testing.T) {
	l := newLab(t)
	check := func(what string, want string, err error) {
		t.Helper()
		if !errors.Is(err, holdfast.ErrUsage) || !strings.Contains(err.Error(), want) || holdfast.Hint(err) == "" {
			t.Errorf("%s: %v, hint %q", what, err, holdfast.Hint(err))
		}
	}
	check("roll back nothing", "there is no migration", back(t.Context(), l))
	check("finish nothing", "there is no migration", finish(t.Context(), l))
	_, err := l.migration().Watch(t.Context(), migration.Watching{})
	check("watch nothing", "no migrated server", err)
	if err := move(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	_, err = l.migration().Rollback(t.Context(), "")
	check("roll back without a reason", "reason", err)
	_, err = l.migration().Finish(t.Context(), "")
	check("finish without a reason", "reason", err)
	if err := finish(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	check("finish twice", "nothing to finish", finish(t.Context(), l))
	check("roll back what is finished", "over", back(t.Context(), l))
	report, err := l.migration().Resume(t.Context())
	if err != nil || report.Step != migration.Finished {
		t.Errorf("resume what is over: %v, %+v", err, report)
	}
}

func TestFinish(t *testing.T) {
	for name, c := range map[string]struct {
		proven  time.Duration // when the newest proven backup was taken, after the migration
		wait    time.Duration
		backups int
	}{
		"none since":      {-time.Hour, 2 * time.Hour, 1},
		"one since":       {time.Minute, 2 * time.Hour, 0},
		"one of long ago": {time.Minute, 3 * day, 1},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			if err := move(t.Context(), l); err != nil {
				t.Fatal(err)
			}
			l.proof = migration.Proof{Backup: "bbbbbbbbbb", Taken: l.now.Add(c.proven)}
			if c.backups == 0 {
				l.cannotProve = errTrap // nobody needs it
			}
			l.now = l.now.Add(c.wait)
			report, err := l.migration().Finish(t.Context(), "a week went well")
			if err != nil {
				t.Fatal(err)
			}
			l.settled()
			if len(l.backups) != c.backups || l.dirs[l.from()] != nil || report.Step != migration.Finished {
				t.Errorf("%d backups, the old directory %v, report %+v", len(l.backups), l.dirs[l.from()], report)
			}
			last := l.entries[len(l.entries)-1]
			if last.Kind != migration.EntryFinished || last.Reason != "a week went well" || (last.Backup == "bbbbbbbbbb") != (c.backups == 0) || last.Backup == "" {
				t.Errorf("entry %+v", last)
			}
			if _, err := os.Stat(l.options().Facts); err == nil {
				t.Error("the facts are left")
			}
		})
	}
}

func TestFinishKeeps(t *testing.T) {
	for name, change := range map[string]func(*lab, *migration.World){
		"drill fails": func(_ *lab, w *migration.World) {
			w.Drill = func(context.Context, holdfast.BackupID) error { return holdfast.ErrDifference }
		},
		"backup fails": func(_ *lab, w *migration.World) {
			w.BackupNew = func(context.Context) (holdfast.BackupID, error) { return "", errTrap }
		},
		"no identity": func(l *lab, w *migration.World) {
			l.cannotProve = errTrap
			w.BackupNew = func(context.Context) (holdfast.BackupID, error) { panic("a backup that cannot be proven") }
		},
		"sick":      func(_ *lab, w *migration.World) { w.Health = func(context.Context) error { return errTrap } },
		"elsewhere": func(l *lab, _ *migration.World) { l.at = l.base + "/other"; l.dirs[l.at] = &data{} },
		"stopped":   func(l *lab, _ *migration.World) { l.at = "" },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			if err := move(t.Context(), l); err != nil {
				t.Fatal(err)
			}
			world := l.world()
			l.alive = false
			change(l, &world)
			report, err := migration.New(world, l.options()).Finish(t.Context(), "no reason")
			if err == nil || !strings.Contains(err.Error(), "the old directory is kept") || l.dirs[l.from()] == nil || report.Step != migration.Watched {
				t.Errorf("error %v, old %v, report %+v", err, l.dirs[l.from()], report)
			}
		})
	}
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		if err := move(t.Context(), l); err != nil {
			t.Fatal(err)
		}
		l.warned = nil
		began := time.Now()
		minute := func() int { return int(time.Since(began) / time.Minute) }
		world := l.world()
		health, probe := world.Health, world.Probe
		world.Health = func(ctx context.Context) error {
			if m := minute(); m == 10 || m == 11 || m == 20 {
				return errors.New("it does not answer")
			}
			return health(ctx)
		}
		world.Probe = func(ctx context.Context) (time.Duration, error) {
			took, err := probe(ctx)
			if m := minute(); m == 3 || m >= 30 && m < 40 {
				took *= 2
			}
			return took, err
		}
		var asked []time.Time
		found, err := migration.New(world, l.options()).Watch(t.Context(), migration.Watching{Logs: func(_ context.Context, since time.Time) ([]string, error) {
			asked = append(asked, since)
			if minute() == 5 {
				return []string{"PANIC: one", "FATAL: two"}, nil
			}
			return nil, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range found {
			got = append(got, string(f.Kind)+" "+f.Text)
		}
		want := []string{"log PANIC: one", "log FATAL: two", "health it does not answer", "health it does not answer",
			"latency the fixed queries take 2s, and took 1s on the old directory: 100 % more; 15 % are allowed"}
		if !slices.Equal(got, want) {
			t.Errorf("found %q, want %q", got, want)
		}
		if len(l.warned) != len(want) || time.Since(began) != time.Hour || len(asked) < 60 || !slices.IsSortedFunc(asked, time.Time.Compare) {
			t.Errorf("warned %q, after %s, the log was read %d times", l.warned, time.Since(began), len(asked))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		l.at = l.from()
		l.alive = false
		found, err = l.migration().Watch(ctx, migration.Watching{For: day})
		if err != nil || len(found) != 1 || found[0].Kind != migration.FindingPlace {
			t.Errorf("watch of a server that is elsewhere: %v, %v", found, err)
		}
	})
}

// TestRollbackIsRefused before anybody is shut out, where the way back would be given up.
func TestRollbackIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*lab)
		want   error
		text   string
	}{
		"applications stay": {func(l *lab) { l.obstacles = []string{"a replica is connected"} }, holdfast.ErrUsage, "cannot be: a replica is connected"},
		"no identity":       {func(l *lab) { l.cannotProve = holdfast.WithHint(errTrap, "name an identity") }, errTrap, "could not be proven"},
		"elsewhere":         {func(l *lab) { l.at = l.from() }, nil, "runs on the old directory"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			if err := move(t.Context(), l); err != nil {
				t.Fatal(err)
			}
			l.alive, l.log = false, nil
			was := l.at
			c.change(l)
			report, err := l.migration().Rollback(t.Context(), "too slow")
			if err == nil || c.want != nil && !errors.Is(err, c.want) || errors.Is(err, migration.ErrKept) || !strings.Contains(err.Error(), c.text) {
				t.Fatal(err)
			}
			if report.UnderWay || report.Step != migration.Watched || l.dirs[l.to()].closed || slices.Contains(l.log, "close") || slices.Contains(l.log, "backup") || len(l.entries) != 1 {
				t.Errorf("report %+v, calls %v", report, l.log)
			}
			l.at, l.obstacles, l.cannotProve = was, nil, nil
			if err := back(t.Context(), l); err != nil {
				t.Error(err)
			}
			l.settled()
		})
	}
}

// TestRecordFails: all is done, it is told, and the entries stay due, in their order, over later commands.
func TestRecordFails(t *testing.T) {
	type kinds = []migration.EntryKind
	for name, c := range map[string]struct {
		before command // what is recorded
		do     command // what is not
		want   kinds   // what a resumption records
		says   error
	}{
		"move":         {nil, move, kinds{migration.EntryMigrated}, nil},
		"go back":      {move, back, kinds{migration.EntryRolledBack}, nil},
		"finish":       {move, finish, kinds{migration.EntryFinished}, nil},
		"by itself":    {nil, func(ctx context.Context, l *lab) error { l.slow = time.Second; return move(ctx, l) }, kinds{migration.EntryRolledBack}, migration.ErrRolledBack},
		"move, finish": {nil, func(ctx context.Context, l *lab) error { return errors.Join(move(ctx, l), finish(ctx, l)) }, kinds{migration.EntryMigrated, migration.EntryFinished}, nil},
		"fail, rehearse": {nil, func(ctx context.Context, l *lab) error {
			l.slow = time.Second
			return errors.Join(move(ctx, l), rehearse(ctx, l))
		}, kinds{migration.EntryRolledBack}, nil},
		"fail, move": {nil, func(ctx context.Context, l *lab) error { return errors.Join(failToMove(ctx, l), move(ctx, l)) }, kinds{migration.EntryRolledBack, migration.EntryMigrated}, nil},
		"a copy is given up": {nil, func(ctx context.Context, l *lab) error {
			world := l.world()
			world.Copy = func(context.Context, migration.Copy) (migration.Copying, error) { return migration.Copying{}, errTrap }
			world.Record = func(context.Context, migration.Entry) error { return errRecord }
			if _, err := migration.New(world, l.options()).Run(ctx); !errors.Is(err, errTrap) {
				return err
			}
			_, err := migration.New(world, l.options()).Rollback(ctx, "another day")
			return err
		}, kinds{migration.EntryRolledBack}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			if c.before != nil {
				if err := c.before(t.Context(), l); err != nil {
					t.Fatal(err)
				}
			}
			l.cannotRecord, l.entries = errRecord, nil
			err := c.do(t.Context(), l)
			if !errors.Is(err, errRecord) || c.says != nil && !errors.Is(err, c.says) || !strings.Contains(err.Error(), "audit trail") || !strings.Contains(holdfast.Hint(err), "resume") {
				t.Fatalf("error %v, hint %q", err, holdfast.Hint(err))
			}
			if report, err := l.migration().Report(); err != nil || report.UnderWay || len(l.entries) > 0 {
				t.Fatalf("report %+v, %v, entries %v", report, err, l.entries)
			}
			if _, err := l.migration().Resume(t.Context()); !errors.Is(err, errRecord) {
				t.Errorf("resumed while nothing can be recorded: %v", err)
			}
			l.cannotRecord = nil
			if _, err := l.migration().Resume(t.Context()); err != nil {
				t.Fatal(err)
			}
			var got kinds
			for _, e := range l.entries {
				got = append(got, e.Kind)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("recorded %q, want %q", got, c.want)
			}
			l.settled()
		})
	}
}

var errRecord = errors.New("no room for a record")
