package hook_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/hook"
)

// diary is a file that steps write what they are told into.
type diary struct {
	t    *testing.T
	path string
}

func newDiary(t *testing.T) diary { return diary{t, filepath.Join(t.TempDir(), "diary")} }

// step writes a line and ends with a status.
func (d diary) step(name string, status int) hook.Step {
	return shell(fmt.Sprintf(`echo "%s $HOLDFAST_HOOK $HOLDFAST_JOB ${HOLDFAST_RESULT-none} ${HOLDFAST_BACKUP_ID-none}" >> %s; [ %d = 0 ] || echo "cannot %s with canary-6f1d0c55"; exit %d`, name, d.path, status, name, status))
}

func (d diary) note(text string) {
	d.t.Helper()
	f, err := os.OpenFile(d.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	_, err = fmt.Fprintln(f, text)
	if err := errors.Join(err, f.Close()); err != nil {
		d.t.Fatal(err)
	}
}

func (d diary) read() string {
	d.t.Helper()
	text, err := os.ReadFile(d.path)
	if err != nil {
		d.t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func TestRound(t *testing.T) {
	failed := holdfast.WithHint(errors.New("the server is down"), "start it")
	incomplete := fmt.Errorf("%w: source db: gone", holdfast.ErrIncomplete)
	for _, test := range []struct {
		name                  string
		verb                  hook.Verb
		before, after, health []int // exit statuses
		backup                holdfast.BackupID
		run                   error
		made                  holdfast.BackupID
		diary                 []string
		err                   string
		hint                  string
		is                    error
	}{
		{
			name: "good", verb: hook.Backup, before: []int{0, 0}, after: []int{0}, made: "7k2m",
			diary: []string{"begun", "before0 backup.before app none none", "before1 backup.before app none none", "run", "after0 backup.after app good 7k2m", "ended"},
		},
		{
			name: "restore with health", verb: hook.Restore, backup: "7k2m", made: "7k2m", before: []int{0}, after: []int{0}, health: []int{0, 0},
			diary: []string{"begun", "before0 restore.before app none 7k2m", "run", "after0 restore.after app good 7k2m", "ended", "health0 restore.health app good 7k2m", "health1 restore.health app good 7k2m"},
		},
		{
			name: "before fails", verb: hook.Backup, before: []int{0, 3, 0}, after: []int{0, 0},
			diary: []string{"begun", "before0 backup.before app none none", "before1 backup.before app none none", "after0 backup.after app failed none", "after1 backup.after app failed none", "ended"},
			err:   `hook backup.before[1] (STEP) ended with exit status 3: "cannot before1 with ********"; the backup was not begun`,
		},
		{
			name: "the run fails", verb: hook.Backup, after: []int{0}, run: failed, health: []int{0},
			diary: []string{"begun", "run", "after0 backup.after app failed none", "ended"},
			err:   "the server is down", hint: "start it",
		},
		{
			name: "the run is incomplete", verb: hook.Backup, after: []int{0}, run: incomplete, made: "7k2m",
			diary: []string{"begun", "run", "after0 backup.after app incomplete 7k2m", "ended"},
			err:   "incomplete: source db: gone", is: holdfast.ErrIncomplete,
		},
		{
			name: "the run is interrupted", verb: hook.Backup, after: []int{0}, run: holdfast.ErrInterrupted,
			diary: []string{"begun", "run", "after0 backup.after app interrupted none", "ended"},
			err:   "interrupted", is: holdfast.ErrInterrupted,
		},
		{
			name: "after fails, all of it is run", verb: hook.Backup, after: []int{1, 0, 2}, made: "7k2m",
			diary: []string{"begun", "run", "after0 backup.after app good 7k2m", "after1 backup.after app good 7k2m", "after2 backup.after app good 7k2m", "ended"},
			err: `backup 7k2m is committed and stays good, but hook backup.after[0] (STEP) ended with exit status 1: "cannot after0 with ********"; ` +
				`hook backup.after[2] (STEP) ended with exit status 2: "cannot after2 with ********"`,
			hint: "see whether the application runs",
		},
		{
			name: "after fails after an incomplete backup", verb: hook.Backup, after: []int{1}, run: incomplete, made: "7k2m",
			diary: []string{"begun", "run", "after0 backup.after app incomplete 7k2m", "ended"},
			err:   `backup 7k2m is committed (incomplete: source db: gone), but hook backup.after[0] (STEP) ended with exit status 1: "cannot after0 with ********"`, hint: "see whether the application runs",
		},
		{
			name: "the run and after fail", verb: hook.Backup, after: []int{1}, run: failed,
			diary: []string{"begun", "run", "after0 backup.after app failed none", "ended"},
			err:   `the server is down; and hook backup.after[0] (STEP) ended with exit status 1: "cannot after0 with ********"`, hint: "start it",
		},
		{
			name: "after a restore fails, health is not asked", verb: hook.Restore, backup: "7k2m", made: "7k2m", after: []int{1}, health: []int{0},
			diary: []string{"begun", "run", "after0 restore.after app good 7k2m", "ended"},
			err:   `the restored data is in place, but hook restore.after[0] (STEP) ended with exit status 1: "cannot after0 with ********"`, is: hook.ErrInPlace, hint: "see whether the application runs",
		},
		{
			name: "health fails", verb: hook.Restore, backup: "7k2m", made: "7k2m", health: []int{0, 4, 0},
			diary: []string{"begun", "run", "ended", "health0 restore.health app good 7k2m", "health1 restore.health app good 7k2m"},
			err:   `the restored data is in place, but it is not healthy: hook restore.health[1] (STEP) ended with exit status 4: "cannot health1 with ********"`, is: hook.ErrInPlace,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := newDiary(t)
			round := hook.Round{
				Verb: test.verb, Job: "app", Mask: hook.NewMask(secrets("canary-6f1d0c55")),
				Begun: func() error { d.note("begun"); return nil }, Ended: func() error { d.note("ended"); return nil },
			}
			for _, list := range []struct {
				name   string
				status []int
				into   *[]hook.Step
			}{{"before", test.before, &round.Before}, {"after", test.after, &round.After}, {"health", test.health, &round.Health}} {
				for i, status := range list.status {
					*list.into = append(*list.into, d.step(fmt.Sprintf("%s%d", list.name, i), status))
				}
			}
			var events []holdfast.Event
			err := round.Around(t.Context(), test.backup, func(e holdfast.Event) { events = append(events, e) }, func(context.Context) (holdfast.BackupID, error) {
				d.note("run")
				return test.made, test.run
			})
			if got, want := d.read(), strings.Join(test.diary, "\n"); got != want {
				t.Errorf("what happened:\n%s\nwant:\n%s", got, want)
			}
			got := ""
			if err != nil {
				got = err.Error()
			}
			for _, step := range append(append(append([]hook.Step{}, round.Before...), round.After...), round.Health...) {
				got = strings.ReplaceAll(got, hook.NewMask(secrets("canary-6f1d0c55")).Text(step.String()), "STEP")
			}
			if got != test.err {
				t.Errorf("got  %s\nwant %s", got, test.err)
			}
			if test.hint != holdfast.Hint(err) {
				t.Errorf("hint %q, want %q", holdfast.Hint(err), test.hint)
			}
			if test.is != nil && !errors.Is(err, test.is) || test.is == nil && errors.Is(err, holdfast.ErrIncomplete) {
				t.Errorf("%v is not what it should be", err)
			}
			for _, e := range events {
				if strings.Contains(e.Message, "canary") {
					t.Errorf("told: %s", e.Message)
				}
			}
		})
	}
}

// Nothing is stopped that could not be started again.
func TestRoundThatCannotBeDone(t *testing.T) {
	d := newDiary(t)
	d.note("nothing")
	missing := hook.Command{Args: []string{"no-such-program"}}
	for _, round := range []hook.Round{
		{Verb: hook.Backup, Before: []hook.Step{d.step("before", 0)}, After: []hook.Step{d.step("after", 0), missing}},
		{Verb: hook.Backup, Before: []hook.Step{d.step("before", 0), missing}, After: []hook.Step{d.step("after", 0)}},
		{Verb: hook.Restore, Before: []hook.Step{d.step("before", 0), missing}, After: []hook.Step{d.step("after", 0)}},
	} {
		round.Mask = hook.NewMask(nil)
		round.Begun = func() error { d.note("begun"); return nil }
		err := round.Around(t.Context(), "", func(holdfast.Event) {}, func(context.Context) (holdfast.BackupID, error) { d.note("run"); return "", nil })
		if err == nil || !strings.Contains(err.Error(), `[1] (no-such-program) cannot be run: there is no program "no-such-program"`) || !strings.HasSuffix(err.Error(), "was not begun") {
			t.Errorf("got %v", err)
		}
	}
	if d.read() != "nothing" {
		t.Errorf("what happened: %s", d.read())
	}
	// What comes after a restore may be part of what was restored.
	round := hook.Round{Verb: hook.Restore, Mask: hook.NewMask(nil), After: []hook.Step{missing}}
	err := round.Around(t.Context(), "7k2m", func(holdfast.Event) {}, func(context.Context) (holdfast.BackupID, error) { d.note("run"); return "7k2m", nil })
	if !errors.Is(err, hook.ErrInPlace) || d.read() != "nothing\nrun" {
		t.Errorf("got %v, and %s", err, d.read())
	}
}

// A signal in the middle ends the step before, and every step after is run to its end.
func TestRoundInterrupted(t *testing.T) {
	d := newDiary(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	round := hook.Round{
		Verb: hook.Backup, Job: "app", Mask: hook.NewMask(nil),
		Before: []hook.Step{shell("echo waiting > " + d.path + ".waiting; exec sleep 3600")},
		After:  []hook.Step{d.step("after0", 1), d.step("after1", 0)},
	}
	var warned []string
	ended := make(chan error, 1)
	go func() {
		ended <- round.Around(ctx, "", func(e holdfast.Event) {
			if e.Kind == holdfast.EventWarning {
				warned = append(warned, e.Message)
			}
		}, func(context.Context) (holdfast.BackupID, error) { return "", errors.New("it was begun") })
	}()
	awaitFile(t, d.path+".waiting")
	cancel(holdfast.ErrInterrupted)
	if err := <-ended; !errors.Is(err, holdfast.ErrInterrupted) {
		t.Errorf("got %v", err)
	}
	if got, want := d.read(), "after0 backup.after app interrupted none\nafter1 backup.after app interrupted none"; got != want {
		t.Errorf("what happened:\n%s", got)
	}
	// The run ends with the word "interrupted" alone, so what failed is told before.
	if !strings.Contains(strings.Join(warned, "\n"), "backup.after[0]") {
		t.Errorf("warned %q", warned)
	}
}

func TestRoundCatchesUp(t *testing.T) {
	d := newDiary(t)
	round := hook.Round{
		Verb: hook.Restore, Job: "app", Mask: hook.NewMask(nil), After: []hook.Step{d.step("after0", 1), d.step("after1", 0)},
		Ended: func() error { d.note("ended"); return nil },
	}
	warned := 0
	err := round.CatchUp(t.Context(), "7k2m", func(e holdfast.Event) {
		if e.Kind == holdfast.EventWarning {
			warned++
		}
	})
	if err != nil || warned != 2 {
		t.Errorf("%d warnings, %v", warned, err)
	}
	if got, want := d.read(), "after0 restore.after app interrupted 7k2m\nafter1 restore.after app interrupted 7k2m\nended"; got != want {
		t.Errorf("what happened:\n%s", got)
	}
}

func TestRoundThatCannotBeRecorded(t *testing.T) {
	d := newDiary(t)
	d.note("nothing")
	round := hook.Round{Verb: hook.Backup, Mask: hook.NewMask(nil), Before: []hook.Step{d.step("before", 0)}, After: []hook.Step{d.step("after", 0)}, Begun: func() error { return os.ErrPermission }}
	err := round.Around(t.Context(), "", func(holdfast.Event) {}, func(context.Context) (holdfast.BackupID, error) { d.note("run"); return "", nil })
	if !errors.Is(err, os.ErrPermission) || d.read() != "nothing" {
		t.Errorf("got %v, and %s", err, d.read())
	}
}
