package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"holdfast"
	"holdfast/internal/daemon"
)

// hangs is a run that ends only when it is told to.
func hangs(ctx context.Context, _ daemon.Run) (daemon.Outcome, error) {
	<-ctx.Done()
	return daemon.Cancelled, context.Cause(ctx)
}

func (b *bed) will(do daemon.Runner) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.do = do
}

func TestWhatWasMissedIsMadeUpForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.end(b.start(b.options(), every("app", holdfast.TaskBackup, time.Hour)))
		time.Sleep(10*time.Hour + time.Minute)
		l := b.start(b.options(), every("app", holdfast.TaskBackup, time.Hour))
		time.Sleep(time.Minute)
		synctest.Wait()
		want(t, b.took(), "app/backup 01-01T10:00 1")
		b.end(l)
	})
}

// A queue that is new goes by what the journal knows, and without that waits for the next time.
func TestNewQueue(t *testing.T) {
	for _, c := range []struct {
		name string
		seen time.Duration // before now; 0: never
		want []string
	}{
		{"never tried", 0, nil},
		{"tried before the last time", 25 * time.Hour, []string{"app/backup 01-01T00:00 1"}},
		{"tried since", time.Minute, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBed(t)
				time.Sleep(time.Hour)
				opt := b.options()
				opt.Seen = func(daemon.Task) time.Time {
					if c.seen == 0 {
						return time.Time{}
					}
					return b.now().Add(-c.seen)
				}
				l := b.start(opt, every("app", holdfast.TaskBackup, 24*time.Hour))
				time.Sleep(time.Minute)
				synctest.Wait()
				want(t, b.took(), c.want...)
				b.end(l)
			})
		})
	}
}

// retried is a task that is due once, after ten minutes, and is tried again after one minute and after two.
func retried() daemon.Task {
	task := every("app", holdfast.TaskBackup, interval)
	task.Retries, task.RetryWait = 2, time.Minute
	due := time.Date(2000, 1, 1, 0, 10, 0, 0, time.UTC)
	task.Due = func(at time.Time) (time.Time, time.Time) {
		if at.Before(due) {
			return time.Time{}, due
		}
		return due, time.Time{}
	}
	return task
}

// wait passes time and returns what was run in it.
func (b *bed) wait(span time.Duration) []string {
	time.Sleep(span)
	synctest.Wait()
	return b.took()
}

func TestRetries(t *testing.T) {
	const due = "app/backup 01-01T00:10 "
	for _, c := range []struct {
		name    string
		outcome daemon.Outcome
		want    [][]string // in the minute after it was due, and in the minutes after that
	}{
		{"failed", daemon.Failed, [][]string{{due + "1"}, {due + "2"}, nil, {due + "3"}, nil, nil, nil, nil}},
		{"refused", daemon.Refused, [][]string{{due + "1"}, nil, nil, nil, nil}},
		{"busy, which is no try", daemon.Busy, [][]string{{due + "1"}, {due + "1"}, {due + "1"}, {due + "1"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBed(t)
				b.will(func(context.Context, daemon.Run) (daemon.Outcome, error) { return c.outcome, errors.New("because") })
				l := b.start(b.options(), retried())
				want(t, b.wait(interval-30*time.Second))
				for minute, runs := range c.want {
					if got := b.wait(time.Minute); !slices.Equal(got, runs) {
						t.Errorf("in minute %d it ran %q, want %q", minute, got, runs)
					}
				}
				b.end(l)
			})
		})
	}
}

// What waits for its next try waits for a time of the clock. When that is set back, the wait does not become a year.
func TestClockSetBackBeforeRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.will(func(context.Context, daemon.Run) (daemon.Outcome, error) { return daemon.Failed, errors.New("because") })
		task := retried()
		task.RetryWait = 24 * time.Hour
		l := b.start(b.options(), task)
		want(t, b.wait(interval+time.Minute), "app/backup 01-01T00:10 1")
		want(t, b.wait(10*time.Minute))
		b.set(-5 * time.Minute)
		want(t, b.wait(time.Minute), "app/backup 01-01T00:10 2")
		if n := strings.Count(b.log.String(), "set back"); n != 1 {
			t.Errorf("that the clock was set back is said %d times:\n%s", n, b.log)
		}
		b.end(l)
	})
}

// A run that is longer than its interval is followed by one run, whatever came due meanwhile; and never by one at once.
func TestOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.will(func(ctx context.Context, run daemon.Run) (daemon.Outcome, error) {
			time.Sleep(12*time.Minute + 30*time.Second)
			return daemon.Good, nil
		})
		l := b.start(b.options(), every("app", holdfast.TaskBackup, interval/2))
		want(t, b.wait(31*time.Minute), "app/backup 01-01T00:05 1", "app/backup 01-01T00:15 1", "app/backup 01-01T00:30 1")
		b.end(l)
	})
}

func TestTasksThatExcludeEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		var at, most int
		b.will(func(context.Context, daemon.Run) (daemon.Outcome, error) {
			b.mu.Lock()
			at++
			most = max(most, at)
			b.mu.Unlock()
			time.Sleep(time.Minute)
			b.mu.Lock()
			at--
			b.mu.Unlock()
			return daemon.Good, nil
		})
		backup, prune := every("app", holdfast.TaskBackup, interval), every("app", holdfast.TaskPrune, interval)
		backup.Alone, prune.Alone = "app", "app"
		l := b.start(b.options(), backup, prune)
		if got := b.wait(interval + 4*time.Minute); !slices.Equal(got, []string{"app/backup 01-01T00:10 1", "app/prune 01-01T00:10 1"}) || most != 1 {
			t.Errorf("ran %q, %d at once", got, most)
		}
		b.end(l)
	})
}

func TestPriorities(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.will(func(context.Context, daemon.Run) (daemon.Outcome, error) {
			time.Sleep(time.Minute)
			return daemon.Good, nil
		})
		opt := b.options()
		opt.Workers = 1
		l := b.start(opt, every("app", holdfast.TaskPrune, interval), every("app", holdfast.TaskDrill, interval), every("app", holdfast.TaskBackup, interval), every("app", holdfast.TaskVerify, interval))
		want(t, b.wait(interval+5*time.Minute), "app/backup 01-01T00:10 1", "app/verify 01-01T00:10 1", "app/drill 01-01T00:10 1", "app/prune 01-01T00:10 1")
		b.end(l)
	})
}

// Of tasks that exclude each other the one that goes first does so however many workers are free, and also when it must be tried again.
func TestOrderOfTasksThatExcludeEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.will(func(_ context.Context, run daemon.Run) (daemon.Outcome, error) {
			if run.Task.Task == holdfast.TaskBackup && run.Attempt == 1 {
				return daemon.Failed, errors.New("because")
			}
			return daemon.Good, nil
		})
		opt := b.options()
		opt.Workers = 5
		var tasks []daemon.Task
		for _, kind := range []holdfast.Task{holdfast.TaskPrune, holdfast.TaskMirror, holdfast.TaskBackup} {
			task := every("app", kind, interval)
			task.Alone, task.Retries = "app", 1
			tasks = append(tasks, task)
		}
		l := b.start(opt, tasks...)
		want(t, b.wait(interval+5*time.Minute), "app/backup 01-01T00:10 1", "app/backup 01-01T00:10 2", "app/mirror 01-01T00:10 1", "app/prune 01-01T00:10 1")
		b.end(l)
	})
}

func TestHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		task := every("app", holdfast.TaskBackup, interval)
		task.Held = func(at time.Time) bool { return at.UTC().Minute() < 35 }
		l := b.start(b.options(), task)
		want(t, b.wait(34*time.Minute))
		want(t, b.wait(2*time.Minute), "app/backup 01-01T00:30 1")
		b.end(l)
	})
}

// Whatever the clock does, a due time is run once; and after it was put right, what is due then is run.
func TestClockJumps(t *testing.T) {
	for _, by := range []time.Duration{time.Hour, -time.Hour, 365 * 24 * time.Hour, -365 * 24 * time.Hour} {
		t.Run(by.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBed(t)
				l := b.start(b.options(), every("app", holdfast.TaskBackup, 4*time.Minute))
				time.Sleep(6 * time.Minute)
				b.set(by)
				time.Sleep(4 * time.Minute)
				b.set(-by)
				got := b.wait(11 * time.Minute)
				seen := map[string]bool{}
				for _, run := range got {
					if seen[run] {
						t.Errorf("ran twice: %s", run)
					}
					seen[run] = true
				}
				for _, run := range []string{"app/backup 01-01T00:04 1", "app/backup 01-01T00:12 1", "app/backup 01-01T00:16 1", "app/backup 01-01T00:20 1"} {
					if !seen[run] {
						t.Errorf("did not run: %s, but %q", run, got)
					}
				}
				if len(got) > 6 {
					t.Errorf("ran %d times in twenty minutes: %q", len(got), got)
				}
				b.end(l)
			})
		})
	}
}

// While a machine sleeps, timers stand still and the wall clock goes on. Half a minute after it woke up, what was due is run, once.
func TestSuspend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		l := b.start(b.options(), every("app", holdfast.TaskBackup, time.Hour))
		time.Sleep(10 * time.Minute)
		b.set(5 * time.Hour)
		want(t, b.wait(31*time.Second), "app/backup 01-01T05:00 1")
		b.end(l)
	})
}

func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		release := make(chan struct{})
		b.will(func(context.Context, daemon.Run) (daemon.Outcome, error) {
			<-release
			return daemon.Good, nil
		})
		l := b.start(b.options(), every("app", holdfast.TaskBackup, interval))
		want(t, b.wait(interval+time.Minute), "app/backup 01-01T00:10 1")
		if err := l.Plan(t.Context(), []daemon.Task{every("other", holdfast.TaskBackup, 2*interval)}); err != nil {
			t.Fatal(err)
		}
		close(release) // the run that a reload met ends as it would have
		want(t, b.wait(4*interval), "other/backup 01-01T00:20 1", "other/backup 01-01T00:40 1")
		b.end(l)
	})
}

func TestDrainAndAbort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		release := make(chan struct{})
		b.will(func(ctx context.Context, run daemon.Run) (daemon.Outcome, error) {
			select {
			case <-release:
				return daemon.Good, nil
			case <-ctx.Done():
				return daemon.Cancelled, context.Cause(ctx)
			}
		})
		l := b.start(b.options(), every("app", holdfast.TaskBackup, interval))
		want(t, b.wait(interval+time.Minute), "app/backup 01-01T00:10 1")
		l.stop()
		want(t, b.wait(2*interval))
		select {
		case err := <-l.ended:
			t.Fatalf("it ended before its run did: %v", err)
		default:
		}
		close(release)
		b.end(l)

		b.will(hangs)
		l = b.start(b.options(), every("app", holdfast.TaskBackup, interval))
		want(t, b.wait(time.Minute), "app/backup 01-01T00:30 1")
		l.stop()
		time.Sleep(interval)
		close(l.abort)
		b.end(l)

		// What was cut off is run again when the service is back, and that is no further try.
		b.will(nil)
		l = b.start(b.options(), every("app", holdfast.TaskBackup, interval))
		if got := b.wait(time.Minute); len(got) == 0 || got[0] != "app/backup 01-01T00:30 1" {
			t.Errorf("after the abort it ran %q", got)
		}
		b.end(l)
	})
}

// crash copies a daemon's folder as it lies there: what kill -9 would leave.
func (b *bed) crash() string {
	b.t.Helper()
	dir := b.t.TempDir()
	names, err := filepath.Glob(filepath.Join(b.dir, "queue.db*"))
	if err != nil || len(names) == 0 {
		b.t.Fatalf("%q, %v", names, err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			b.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), data, 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
	return dir
}

// After kill -9 in any state of a row, nothing is lost and nothing is run that was done.
func TestCrash(t *testing.T) {
	type moment struct {
		name        string
		do          daemon.Runner
		wait        time.Duration // from the due time to the crash
		retries     int
		want        []string // run by the daemon after it
		interrupted int
	}
	fails := func(context.Context, daemon.Run) (daemon.Outcome, error) { return daemon.Failed, errors.New("no") }
	busy := func(context.Context, daemon.Run) (daemon.Outcome, error) { return daemon.Busy, nil }
	for _, c := range []moment{
		{"before it was due", nil, -time.Minute, 1, []string{"app/backup 01-01T00:10 1"}, 0},
		{"running", hangs, time.Minute, 1, []string{"app/backup 01-01T00:10 2"}, 1},
		{"running for the last time", hangs, time.Minute, 0, nil, 1},
		{"waiting for its next try", fails, time.Minute, 1, []string{"app/backup 01-01T00:10 2"}, 0},
		{"snoozed", busy, 30 * time.Second, 1, []string{"app/backup 01-01T00:10 1"}, 0},
		{"done", nil, time.Minute, 1, nil, 0},
		{"failed for good", fails, time.Minute, 0, nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBed(t)
				b.will(c.do)
				task := every("app", holdfast.TaskBackup, interval)
				task.Retries = c.retries
				l := b.start(b.options(), task)
				time.Sleep(interval + c.wait)
				synctest.Wait()
				left := b.crash()
				close(l.abort)
				b.end(l)
				b.took()

				b.dir = left
				b.will(nil)
				opt := b.options()
				var interrupted []daemon.Run
				opt.Interrupted = func(run daemon.Run) { interrupted = append(interrupted, run) }
				l = b.start(opt, task)
				want(t, b.wait(8*time.Minute), c.want...)
				if len(interrupted) != c.interrupted || c.interrupted == 1 && (interrupted[0].Task.Name() != "app/backup" || interrupted[0].Began.IsZero()) {
					t.Errorf("interrupted: %+v", interrupted)
				}
				b.end(l)
			})
		})
	}
}

func TestTwoOfThem(t *testing.T) {
	b := newBed(t)
	first, err := daemon.Open(t.Context(), b.options())
	if err != nil {
		t.Fatal(err)
	}
	if holds, err := daemon.Holds(b.dir); err != nil || !holds {
		t.Errorf("holds %v, %v", holds, err)
	}
	if _, err := daemon.Open(t.Context(), b.options()); !errors.Is(err, holdfast.ErrBusy) || holdfast.Hint(err) == "" {
		t.Errorf("a second one: %v, hint %q", err, holdfast.Hint(err))
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if holds, err := daemon.Holds(b.dir); err != nil || holds {
		t.Errorf("afterwards it holds %v, %v", holds, err)
	}
}

// Whoever asks whether a daemon works keeps none from starting, and makes nothing.
func TestAskingTakesNothing(t *testing.T) {
	b := newBed(t)
	if holds, err := daemon.Holds(filepath.Join(b.dir, "nowhere")); err != nil || holds {
		t.Errorf("of a folder that is not there: %v, %v", holds, err)
	}
	if holds, err := daemon.Holds(b.dir); err != nil || holds {
		t.Errorf("of a new folder: %v, %v", holds, err)
	}
	if entries, err := os.ReadDir(b.dir); err != nil || len(entries) != 0 {
		t.Errorf("asking made %v, %v", entries, err)
	}
	stop, asked := make(chan struct{}), make(chan error)
	go func() {
		for {
			select {
			case <-stop:
				asked <- nil
				return
			default:
			}
			if _, err := daemon.Holds(b.dir); err != nil {
				asked <- err
				return
			}
		}
	}()
	for range 20 {
		d, err := daemon.Open(t.Context(), b.options())
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if err := <-asked; err != nil {
		t.Error(err)
	}
}

func TestDamagedQueue(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"garbage":   func(path string) error { return os.WriteFile(path, []byte(strings.Repeat("garbage ", 1000)), 0o600) },
		"a page":    func(path string) error { return overwrite(path, 4096*3, 4096*8) },
		"truncated": func(path string) error { return os.Truncate(path, 5000) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBed(t)
				b.end(b.start(b.options(), every("app", holdfast.TaskBackup, time.Hour)))
				if err := spoil(filepath.Join(b.dir, "queue.db")); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Hour)
				opt := b.options()
				began := b.now().Add(-2 * time.Hour)
				opt.Seen = func(daemon.Task) time.Time { return began }
				l := b.start(opt, every("app", holdfast.TaskBackup, time.Hour))
				time.Sleep(time.Minute)
				synctest.Wait()
				want(t, b.took(), "app/backup 01-01T02:00 1")
				b.end(l)
				aside, err := filepath.Glob(filepath.Join(b.dir, "queue.db.damaged-*"))
				if err != nil || len(aside) == 0 || !strings.Contains(b.log.String(), "was damaged") {
					t.Errorf("aside %q, %v; log %s", aside, err, b.log)
				}
			})
		})
	}
}

func overwrite(path string, from, to int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		_, err = f.WriteAt([]byte(strings.Repeat("x", int(min(to, info.Size())-from))), from)
	}
	return errors.Join(err, f.Close())
}

func TestFolderThatCannotBe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b := newBed(t)
	b.dir = file
	if d, err := daemon.Open(t.Context(), b.options()); err == nil || holdfast.Hint(err) == "" {
		t.Errorf("%v, %v", d, err)
	}
}

// beside is a service that ends by itself.
type beside struct{ err error }

func (s beside) Run(context.Context) error { return s.err }

// waits is one that ends when it is told to, and then says when that was.
type waits struct{ ended func() }

func (s waits) Run(ctx context.Context) error {
	<-ctx.Done()
	s.ended()
	return nil
}

func TestServicesBeside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		opt := b.options()
		opt.Beside = []daemon.Service{beside{io.ErrUnexpectedEOF}}
		d, err := daemon.Open(t.Context(), opt)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Run(t.Context(), nil); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("a service beside failed, and the daemon said %v", err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}

		var order []string
		b.will(func(ctx context.Context, _ daemon.Run) (daemon.Outcome, error) {
			time.Sleep(interval / 2)
			order = append(order, "run")
			return daemon.Good, nil
		})
		opt.Beside = []daemon.Service{waits{func() { order = append(order, "beside") }}}
		l := b.start(opt, every("app", holdfast.TaskBackup, interval))
		want(t, b.wait(interval+time.Minute), "app/backup 01-01T00:10 1")
		b.end(l)
		if !slices.Equal(order, []string{"run", "beside"}) {
			t.Errorf("ended in the order %q", order)
		}
	})
}

// Five hundred jobs that are due at one moment are all run, once each.
func TestFiveHundred(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		opt := b.options()
		opt.Workers = 20
		var tasks []daemon.Task
		for i := range 500 {
			tasks = append(tasks, every(fmt.Sprintf("job%03d", i), holdfast.TaskBackup, interval))
		}
		l := b.start(opt, tasks...)
		got := b.wait(interval + 5*time.Minute)
		slices.Sort(got)
		if len(slices.Compact(got)) != 500 || len(got) != 500 {
			t.Errorf("%d runs, %d different ones", len(got), len(slices.Compact(got)))
		}
		if status := l.Status(); len(status.Running) != 0 || status.Waiting != 0 || status.Trouble != "" {
			t.Errorf("status %+v", status)
		}
		b.end(l)
	})
}

// stepped is what time.Now returns after the wall clock was set: the monotonic reading goes on.
func stepped(by time.Duration) time.Time {
	now := time.Now()
	// A Time's first word has, below the flag of the monotonic reading, 33 bits of seconds and 30 of nanoseconds.
	*(*uint64)(unsafe.Pointer(&now)) += uint64(by/time.Second) << 30
	return now
}

// The clock of a machine is set, and its time.Now carries a monotonic reading, of which nothing may be told. Real time passes here, since there
// is no such reading in a bubble.
func TestClockSetBackForReal(t *testing.T) {
	const ahead = 365 * 24 * time.Hour
	if off := stepped(ahead).Round(0).Sub(time.Now().Round(0)); off < ahead-time.Second || off > ahead+time.Second {
		t.Fatalf("the clock is set by %s, want %s", off, ahead)
	}
	b := newBed(t)
	var off atomic.Int64
	off.Store(int64(ahead))
	opt := b.options()
	opt.Now = func() time.Time { return stepped(time.Duration(off.Load())) }
	l := b.start(opt, every("app", holdfast.TaskBackup, 2*time.Second))
	defer b.end(l)
	ran := func(year int) {
		t.Helper()
		deadline := time.Now().Add(time.Minute)
		for !slices.ContainsFunc(b.took(), func(run string) bool { return strings.Contains(run, strconv.Itoa(year)) }) {
			if time.Now().After(deadline) {
				t.Fatalf("nothing of %d was run:\n%s", year, b.log)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	year := time.Now().UTC().Year()
	ran(time.Now().Add(ahead).UTC().Year())
	off.Store(0)
	ran(year)
}

// A mistake of the program in one run fails that run, which is tried again as any other.
func TestPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		tries := 0
		b.will(func(context.Context, daemon.Run) (daemon.Outcome, error) {
			if tries++; tries == 1 {
				panic("no such index")
			}
			return daemon.Good, nil
		})
		task := every("app", holdfast.TaskBackup, interval)
		task.Retries = 1
		l := b.start(b.options(), task)
		want(t, b.wait(interval+5*time.Minute), "app/backup 01-01T00:10 1", "app/backup 01-01T00:10 2")
		if status := l.Status(); len(status.Running) != 0 || status.Waiting != 0 {
			t.Errorf("it is %+v", status)
		}
		b.says("a mistake in holdfast itself: please report it", 1)
		b.end(l)
	})
}

// Backups that take longer than the time from one to the next do not keep the prune out for ever.
func TestBackupsInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.will(func(ctx context.Context, run daemon.Run) (daemon.Outcome, error) {
			if run.Task.Task == holdfast.TaskBackup {
				time.Sleep(interval + time.Minute)
			}
			return daemon.Good, nil
		})
		backup, prune := every("app", holdfast.TaskBackup, interval), every("app", holdfast.TaskPrune, 2*interval)
		backup.Alone, prune.Alone = "app", "app"
		l := b.start(b.options(), backup, prune)
		// Due with a backup it comes after it; the one that is due meanwhile comes after the prune.
		want(t, b.wait(4*interval+9*time.Minute), "app/backup 01-01T00:10 1", "app/backup 01-01T00:20 1", "app/prune 01-01T00:20 1",
			"app/backup 01-01T00:30 1", "app/backup 01-01T00:40 1")
		l.stop()
		time.Sleep(interval)
		if err := errors.Join(<-l.ended, l.Close()); err != nil {
			t.Error(err)
		}
	})
}
