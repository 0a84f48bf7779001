package daemon_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"holdfast"
	"holdfast/internal/daemon"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bed is a daemon's surroundings: a folder that outlives daemons, a clock that may be set, and what was run.
type bed struct {
	t   *testing.T
	dir string
	log *strings.Builder

	mu   sync.Mutex // guards what follows
	off  time.Duration
	runs []string // task, due time, attempt
	do   daemon.Runner
}

func newBed(t *testing.T) *bed {
	return &bed{t: t, dir: t.TempDir(), log: &strings.Builder{}}
}

func (b *bed) now() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return time.Now().Add(b.off).UTC()
}

// set moves the wall clock, and not the timers.
func (b *bed) set(by time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.off += by
}

func (b *bed) run(ctx context.Context, run daemon.Run) (daemon.Outcome, error) {
	b.mu.Lock()
	b.runs = append(b.runs, fmt.Sprintf("%s %s %d", run.Task.Name(), strings.TrimPrefix(run.Due.UTC().Format("2006-01-02T15:04"), "2000-"), run.Attempt))
	do := b.do
	b.mu.Unlock()
	if do == nil {
		return daemon.Good, nil
	}
	return do(ctx, run)
}

// took returns what was run since it was last asked.
func (b *bed) took() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	runs := b.runs
	b.runs = nil
	return runs
}

type lockedWriter struct {
	mu *sync.Mutex
	to *strings.Builder
}

func (w lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(p)
}

func (b *bed) options() daemon.Options {
	return daemon.Options{Dir: b.dir, Workers: 2, Now: b.now, Run: b.run, Log: slog.New(slog.NewTextHandler(lockedWriter{&sync.Mutex{}, b.log}, nil))}
}

// living is a daemon that works.
type living struct {
	*daemon.Daemon
	stop  context.CancelFunc
	abort chan struct{}
	ended chan error
}

func (b *bed) start(opt daemon.Options, tasks ...daemon.Task) *living {
	b.t.Helper()
	d, err := daemon.Open(b.t.Context(), opt)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := d.Plan(b.t.Context(), tasks); err != nil {
		b.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.t.Context())
	l := &living{d, stop, make(chan struct{}), make(chan error, 1)}
	go func() { l.ended <- d.Run(ctx, l.abort) }()
	return l
}

func (b *bed) end(l *living) {
	b.t.Helper()
	l.stop()
	if err := <-l.ended; err != nil {
		b.t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		b.t.Fatal(err)
	}
}

// every is a task that is due whenever the time since the epoch is a multiple of span.
func every(job string, task holdfast.Task, span time.Duration) daemon.Task {
	return daemon.Task{Job: holdfast.JobName(job), Task: task, RetryWait: 10 * time.Minute, Due: func(at time.Time) (time.Time, time.Time) {
		last := at.UTC().Truncate(span)
		return last, last.Add(span)
	}}
}

func want(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("ran %q\nwant %q", got, want)
	}
}

func TestWhatIsDueIsRunOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		l := b.start(b.options(), every("app", holdfast.TaskBackup, time.Hour))
		time.Sleep(59 * time.Minute)
		synctest.Wait()
		want(t, b.took())
		time.Sleep(2*time.Minute + 2*time.Hour)
		synctest.Wait()
		want(t, b.took(), "app/backup 01-01T01:00 1", "app/backup 01-01T02:00 1", "app/backup 01-01T03:00 1")
		b.end(l)
	})
}
