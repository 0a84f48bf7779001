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

	"holdfast"
	"holdfast/internal/daemon"
)

// bed is a daemon's surroundings: a folder that outlives daemons, a clock that may be set, and what was run.
type bed struct {
	t   *testing.T
	dir string
	log *lines

	mu   sync.Mutex // guards what follows
	off  time.Duration
	runs []string // task, due time, attempt
	do   daemon.Runner
}

func newBed(t *testing.T) *bed {
	return &bed{t: t, dir: t.TempDir(), log: &lines{}}
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

// lines is a log.
type lines struct {
	mu   sync.Mutex // guards what follows
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (b *bed) options() daemon.Options {
	return daemon.Options{Dir: b.dir, Workers: 2, Now: b.now, Run: b.run, Log: slog.New(slog.NewTextHandler(b.log, nil))}
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

// interval is that of most tests' tasks. Hours cost time even here: the queue's database is asked every few seconds of them.
const interval = 10 * time.Minute

// every is a task that is due whenever the time since the epoch is a multiple of span.
func every(job string, task holdfast.Task, span time.Duration) daemon.Task {
	return daemon.Task{Job: holdfast.JobName(job), Task: task, RetryWait: 2 * time.Minute, Due: func(at time.Time) (time.Time, time.Time) {
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
		l := b.start(b.options(), every("app", holdfast.TaskBackup, interval))
		time.Sleep(9 * time.Minute)
		synctest.Wait()
		want(t, b.took())
		time.Sleep(22 * time.Minute)
		synctest.Wait()
		want(t, b.took(), "app/backup 01-01T00:10 1", "app/backup 01-01T00:20 1", "app/backup 01-01T00:30 1")
		b.end(l)
	})
}
